package ehlo

import (
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

func TestOriginAddr(t *testing.T) {
	for _, tt := range []struct{ addr, port, want string }{
		{"192.0.2.1", "25", "192.0.2.1:25"},
		{"2001:db8::1", "", "[2001:db8::1]:0"},
		{"192.0.2.1", ext.Unavailable, "192.0.2.1:0"},
		{ext.Unavailable, "25", "unknown"},
		{"", "25", ""},
	} {
		for _, got := range []net.Addr{
			(&ext.Origin{Addr: tt.addr, Port: tt.port}).Remote(), (&ext.Origin{DestAddr: tt.addr, DestPort: tt.port}).Local(),
		} {
			text := ""
			if got != nil {
				text = got.String()
			}
			if text != tt.want {
				t.Errorf("%q and %q are the address %q, want %q", tt.addr, tt.port, text, tt.want)
			}
		}
	}
	var none *ext.Origin
	if none.Remote() != nil || none.Local() != nil {
		t.Error("where nothing was told there are addresses")
	}
}

// FuzzOrigin checks that a client can send every origin that a server accepts, and that it is harmless in logs.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{
		"NAME=c.example ADDR=198.51.100.7 PORT=1025 PROTO=ESMTP HELO=h.example LOGIN=bob", "ADDR=IPV6:2001:db8::1 DESTADDR=[UNAVAILABLE]",
		"LOGIN=a+0D+0Ab", "NAME=[TEMPUNAVAIL] REVERSE_NAME=x", "ADDR=IPV6:::ffff:1.2.3.4", "IDENT=j+C3+B6 SOURCE=LOCAL PORT=00", "NAME= =",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		for verb, checks := range map[string]map[string]checker{"XCLIENT": xclientChecks, "XFORWARD": xforwardChecks} {
			o, err := parseOrigin(verb, args, checks)
			if err != nil {
				continue
			}
			again := ""
			for _, a := range attributes {
				value := *a.value(&o)
				if value == "" {
					continue
				}
				if strings.ContainsAny(value, "\r\n\x00") || len(value) > maxAttribute {
					t.Fatalf("%q has %s %q", args, a.name, value)
				}
				again = appendAttribute(again, a.name, value)
			}
			if p, err := parseOrigin(verb, again, checks); err != nil || p != o {
				t.Fatalf("%q is %+v, told again as %q it is %+v, %v", args, o, again, p, err)
			}
		}
	})
}
