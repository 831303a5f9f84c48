package ehlo

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

var (
	proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8::/64")}
	proxy   = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 999}
)

func TestXclientServer(t *testing.T) {
	long := strings.Repeat("h", maxAttribute)
	for _, tt := range []struct {
		name, args string
		want       string // the reply
		origin     ext.Origin
	}{
		{"Z160", "ADDR=127.0.0.1 LOGIN=admin", "220", ext.Origin{Addr: "127.0.0.1", Login: "admin"}},
		{"all", "NAME=c.example ADDR=198.51.100.7 PORT=1025 PROTO=ESMTP HELO=h.example LOGIN=bob DESTADDR=192.0.2.25 DESTPORT=25 " +
			"REVERSE_NAME=r.example", "220", ext.Origin{Name: "c.example", Addr: "198.51.100.7", Port: "1025", Protocol: "ESMTP",
			Hello: "h.example", Login: "bob", DestAddr: "192.0.2.25", DestPort: "25", ReverseName: "r.example"}},
		{"IPv6", "ADDR=IPV6:2001:DB8:0::1", "220", ext.Origin{Addr: "2001:db8::1"}},
		{"IPv6, prefix in lower case", "addr=ipv6:2001:db8::1", "220", ext.Origin{Addr: "2001:db8::1"}},
		{"IPv4 in IPv6", "ADDR=IPV6:::ffff:198.51.100.7", "220", ext.Origin{Addr: "198.51.100.7"}},
		{"unavailable", "NAME=[TEMPUNAVAIL] ADDR=[UNAVAILABLE] HELO=[unavailable]", "220",
			ext.Origin{Name: ext.TempUnavailable, Addr: ext.Unavailable, Hello: ext.Unavailable}},
		{"xtext", "LOGIN=a+2Bb+3Dc+20d", "220", ext.Origin{Login: "a+b=c d"}},
		{"name in UTF-8", "LOGIN=j+C3+B6rg", "220", ext.Origin{Login: "jörg"}},
		{"longest", "NAME=" + long, "220", ext.Origin{Name: long}},
		{"Z161 CRLF", "NAME=a+0D+0AMAIL", "501", ext.Origin{}},
		{"Z161 LF", "LOGIN=a+0Ab", "501", ext.Origin{}},
		{"NUL", "LOGIN=a+00b", "501", ext.Origin{}},
		{"space in a name", "NAME=a+20b", "501", ext.Origin{}},
		{"not UTF-8", "LOGIN=+C3+28", "501", ext.Origin{}},
		{"too long", "NAME=h" + long, "501", ext.Origin{}},
		{"bad xtext", "LOGIN=a+2b", "501", ext.Origin{}},
		{"nothing", "", "501", ext.Origin{}},
		{"no value", "NAME", "501", ext.Origin{}},
		{"empty value", "NAME=", "501", ext.Origin{}},
		{"no name", "=x", "501", ext.Origin{}},
		{"unknown", "COLOUR=red", "501", ext.Origin{}},
		{"of XFORWARD", "IDENT=4XyZ", "501", ext.Origin{}},
		{"twice", "NAME=a NAME=b", "501", ext.Origin{}},
		{"two spaces", "NAME=a  HELO=b", "501", ext.Origin{}},
		{"IPv6 without prefix", "ADDR=2001:db8::1", "501", ext.Origin{}},
		{"IPv4 with prefix", "ADDR=IPV6:192.0.2.1", "501", ext.Origin{}},
		{"IPv6 with zone", "ADDR=IPV6:fe80::1%25eth0", "501", ext.Origin{}},
		{"literal", "ADDR=[192.0.2.1]", "501", ext.Origin{}},
		{"no address", "ADDR=c.example", "501", ext.Origin{}},
		{"address for the time being", "ADDR=[TEMPUNAVAIL]", "501", ext.Origin{}},
		{"port too high", "PORT=65536", "501", ext.Origin{}},
		{"negative port", "PORT=-1", "501", ext.Origin{}},
		{"port with a plus", "PORT=+2B25", "501", ext.Origin{}},
		{"port with many zeros", "PORT=000025", "501", ext.Origin{}},
		{"protocol", "PROTO=LMTP", "501", ext.Origin{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake.Server{Conn: fake.ServerState{PeerAddr: proxy}}
			got := f.Serve(t, XCLIENT(proxies...), tt.args)
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("the reply is %q, want %s", got, tt.want)
			}
			if f.Restarted != (tt.want == "220") {
				t.Fatalf("the session began anew: %t", f.Restarted)
			}
			if f.Restarted && *f.Conn.Origin != tt.origin {
				t.Errorf("the origin is %+v, want %+v", *f.Conn.Origin, tt.origin)
			}
		})
	}
}

// TestW14_XclientTrust: the server offers XCLIENT to listed peers, and refuses it to others.
func TestW14_XclientTrust(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for name, tt := range map[string]struct {
		peer    net.Addr
		trusted []netip.Prefix
		want    bool
	}{
		"listed":        {tcp("192.0.2.1:999"), proxies, true},
		"mapped":        {tcp("[::ffff:192.0.2.1]:999"), proxies, true},
		"IPv6":          {tcp("[2001:db8::1]:999"), proxies, true},
		"another":       {tcp("192.0.2.16:999"), proxies, false},
		"another /64":   {tcp("[2001:db8:0:1::1]:999"), proxies, false},
		"loopback":      {tcp("127.0.0.1:999"), proxies, false},
		"no list":       {tcp("127.0.0.1:999"), nil, false},
		"not an IP":     {&net.UnixAddr{Name: "/x", Net: "unix"}, proxies, false},
		"unknown":       {(&ext.Origin{Addr: ext.Unavailable}).Remote(), []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, false},
		"no address":    {nil, proxies, false},
		"zero prefixes": {tcp("192.0.2.1:999"), []netip.Prefix{{}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, e := range []ext.Extension{XCLIENT(tt.trusted...), XFORWARD(tt.trusted...)} {
				f := &fake.Server{Conn: fake.ServerState{PeerAddr: tt.peer, Session: &recorder{}}}
				_, lines := testkit.MakeSet(t, e).Offer(f)
				if offered := len(lines) == 1; offered != tt.want {
					t.Errorf("%s: offered is %t", e.Keyword, offered)
				}
				got := f.Serve(t, e, "ADDR=127.0.0.1")
				if refused := strings.HasPrefix(got, "550 5.7.1 "); refused == tt.want {
					t.Errorf("%s: the reply is %q", e.Keyword, got)
				}
			}
		})
	}
}

// TestXclientAgain checks which attributes outlast another XCLIENT.
func TestXclientAgain(t *testing.T) {
	f := &fake.Server{Conn: fake.ServerState{PeerAddr: proxy}}
	f.Serve(t, XCLIENT(proxies...), "NAME=c.example ADDR=198.51.100.7 PORT=1025 LOGIN=bob HELO=h.example PROTO=SMTP")
	before := *f.Conn.Origin
	kept := f.Conn.Origin
	f.Serve(t, XCLIENT(proxies...), "PORT=1026 HELO=i.example")
	if want := (ext.Origin{Name: "c.example", Addr: "198.51.100.7", Port: "1026", Hello: "i.example"}); *f.Conn.Origin != want {
		t.Errorf("the origin is %+v, want %+v", *f.Conn.Origin, want)
	}
	if *kept != before {
		t.Error("what a session may have kept was changed")
	}
}

func TestXclientVerb(t *testing.T) {
	v := testkit.MakeSet(t, XCLIENT()).Table().Lookup("XCLIENT")
	if next, ok := v.After(proto.Ready, 220); !ok || next != proto.Hello {
		t.Errorf("220 leads to %v, %t", next, ok)
	}
	if v.In != proto.Hello|proto.Ready {
		t.Errorf("XCLIENT may come in %v: not in a transaction", v.In)
	}
}

func TestXclientClient(t *testing.T) {
	all := "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME"
	long := strings.Repeat("n", maxAttribute)
	for _, tt := range []struct {
		name, offer string
		o           ext.Origin
		want        string // the commands, or ""
	}{
		{"order", all, ext.Origin{Login: "a b", Hello: "h", Addr: "2001:db8::1", Port: "5", Name: "n"},
			"XCLIENT NAME=n REVERSE_NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=5 HELO=h LOGIN=a+20b"},
		{"mapped", all, ext.Origin{Addr: "::ffff:192.0.2.1"}, "XCLIENT NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=[UNAVAILABLE]"},
		{"unavailable", all, ext.Origin{Addr: ext.Unavailable, Name: ext.TempUnavailable}, "XCLIENT NAME=[TEMPUNAVAIL] REVERSE_NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]"},
		{"left out", "XCLIENT ADDR", ext.Origin{Addr: "192.0.2.1", Name: "n", Hello: "h"}, "XCLIENT ADDR=192.0.2.1"},
		{"two commands", all, ext.Origin{Name: long, Hello: long, Login: "bob"},
			"XCLIENT NAME=" + long + " | XCLIENT HELO=" + long + " LOGIN=bob"},
		{"address not taken", "XCLIENT NAME", ext.Origin{Addr: "192.0.2.1", Name: "n"}, ""},
		{"login not taken", "XCLIENT ADDR", ext.Origin{Addr: "192.0.2.1", Login: "bob"}, ""},
		{"no address", all, ext.Origin{Addr: "n.example"}, ""},
		{"control character", all, ext.Origin{Login: "a\r\nb"}, ""},
		{"too long", all, ext.Origin{Hello: long, Login: long}, ""},
		{"nothing", all, ext.Origin{}, ""},
		{"nothing taken", "XCLIENT", ext.Origin{Name: "n"}, ""},
		{"of XFORWARD", all, ext.Origin{Addr: "192.0.2.1", Ident: "x"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &fake.Client{Conn: fake.ClientState{Caps: fake.Caps(tt.offer)}, Replies: []proto.Reply{{Code: 220}, {Code: 220}}}
			err := SendXCLIENT(t.Context(), c, tt.o)
			if got := strings.Join(c.Sent, " | "); got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("sent %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	c := &fake.Client{Conn: fake.ClientState{Caps: fake.Caps(all), Policy: ext.Policy{Credentials: auth.Password("proxy", "secret")}}}
	if err := SendXCLIENT(t.Context(), c, ext.Origin{Addr: "192.0.2.1", Login: "bob"}); err == nil || len(c.Sent) > 0 {
		t.Errorf("with credentials of its own it sent %q, %v", c.Sent, err)
	}
	c = &fake.Client{Conn: fake.ClientState{Caps: fake.Caps(all)}, Replies: []proto.Reply{{Code: 550, Text: "no"}}}
	if err := SendXCLIENT(t.Context(), c, ext.Origin{Addr: "192.0.2.1"}); err == nil || err.Error() != "smtp: XCLIENT: 550 no" {
		t.Errorf("refused: %v", err)
	}
}
