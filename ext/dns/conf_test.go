package dns

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// TestConf reads resolv.conf(5).
func TestConf(t *testing.T) {
	for _, tt := range []struct {
		text string
		want conf
	}{
		{"", conf{servers: []string{"127.0.0.1"}}},
		{"nameserver 192.0.2.53\n# nameserver 192.0.2.54\n;nameserver 192.0.2.55\nsearch example.org\n" +
			"nameserver\t2001:db8::53 # comment\n", conf{servers: []string{"192.0.2.53", "2001:db8::53"}}},
		{"nameserver fe80::1%eth0\nnameserver x\nnameserver\noptions", conf{servers: []string{"fe80::1%eth0"}}},
		{"options ndots:2 trust-ad timeout:7\noptions attempts:4", conf{servers: []string{"127.0.0.1"}, trustAD: true,
			timeout: 7 * time.Second, attempts: 4}},
		{"options timeout:900 attempts:0 timeout:x attempts", conf{servers: []string{"127.0.0.1"},
			timeout: 30 * time.Second, attempts: 1}},
		{strings.Repeat("nameserver ::1\n", 20), conf{servers: strings.Fields(strings.Repeat("::1 ", 8))}},
	} {
		if got, err := parseConf(strings.NewReader(tt.text)); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: got %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
	dir := t.TempDir()
	if c, err := readConf(filepath.Join(dir, "none")); err != nil || len(c.servers) != 1 {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	if _, err := readConf(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory in place of the file: %v", err)
	}
	name := filepath.Join(dir, "resolv.conf")
	text := "nameserver 192.0.2.53\noptions trust-ad timeout:3 attempts:4"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func(was string) { systemConf = was }(systemConf)
	systemConf = name
	s, err := New(&Options{Attempts: 1})
	if err != nil || len(s.servers) != 1 || !s.servers[0].trusted {
		t.Fatalf("got %+v, %v", s, err)
	}
	if s.opt.Timeout != 3*time.Second || s.opt.Attempts != 1 {
		t.Errorf("got %+v, %v", s, err)
	}
	// What the file trusts is not said of other servers.
	s, err = New(&Options{Servers: []string{"192.0.2.1"}})
	if err != nil || s.servers[0].trusted || s.opt.Timeout != 5*time.Second {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestConfMixed asks no server that is not trusted where one is: neither after a failure, nor while others rest.
func TestConfMixed(t *testing.T) {
	defer func(was string) { systemConf = was }(systemConf)
	systemConf = filepath.Join(t.TempDir(), "resolv.conf")
	for _, tt := range []struct{ servers, options, want string }{
		{"127.0.0.1 192.0.2.53", "", "127.0.0.1:53"},
		{"192.0.2.53 127.0.0.1 2001:db8::53 ::1", "", "127.0.0.1:53 [::1]:53"},
		{"192.0.2.53 2001:db8::53", "", "192.0.2.53:53 [2001:db8::53]:53"},
		{"127.0.0.1 192.0.2.53", "trust-ad", "127.0.0.1:53 192.0.2.53:53"},
	} {
		text := "nameserver " + strings.ReplaceAll(tt.servers, " ", "\nnameserver ") + "\noptions " + tt.options
		if err := os.WriteFile(systemConf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		asked := map[string]bool{}
		s, err := New(&Options{CacheSize: -1, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			asked[addr] = true
			return nil, errors.New("connection refused")
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a.example", "b.example", "c.example", "d.example"} {
			if a, err := s.Lookup(t.Context(), name, A); err == nil {
				t.Errorf("got %v", a)
			}
		}
		got := strings.Join(slices.Sorted(maps.Keys(asked)), " ")
		if got != tt.want {
			t.Errorf("of %s, %s were asked, want %s", tt.servers, got, tt.want)
		}
	}
}

// TestNormal has names from users.
func TestNormal(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a" // 253 octets
	for _, tt := range []struct{ name, want string }{
		{"Example.ORG", "example.org"},
		{"example.org.", "example.org"},
		{".", "."},
		{"", ""}, {"..", ""}, {"a..b", ""}, {".a", ""},
		{"_25._tcp.MX.example", "_25._tcp.mx.example"},
		{"Bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER\u3002example", "xn--bcher-kva.example"},
		{"_mta-sts.bücher.example", "_mta-sts.xn--bcher-kva.example"},
		{"*.bücher.example.", "*.xn--bcher-kva.example"},
		{"a.\xff", ""}, {"\u2024.example", ""}, {"b\u00fc cher.example", ""},
		{strings.Repeat("a", 63), strings.Repeat("a", 63)}, {strings.Repeat("a", 64), ""},
		{long, long}, {long + ".", long}, {long + "b", ""}, {strings.Repeat("\u00fc", 2000), ""},
	} {
		if got, ok := Normal(tt.name); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q: got %q, %t, want %q", tt.name, got, ok, tt.want)
		}
	}
}

// FuzzParse feeds messages to the parser. What it returns obeys the contract of Answer, whatever they are.
func FuzzParse(f *testing.F) {
	q := question{"a.example", MX}
	name := dnsmessage.MustNewName
	header := func(n string) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: name(n), Class: dnsmessage.ClassINET, TTL: 60}
	}
	for _, t := range []Type{A, CNAME, PTR, MX, TXT, AAAA, TLSA} {
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 1, Response: true, RecursionAvailable: true, AuthenticData: true},
			Questions: []dnsmessage.Question{{Name: name("a.example."), Type: dnsmessage.Type(t), Class: dnsmessage.ClassINET}},
			Answers: []dnsmessage.Resource{
				{Header: header("a.example."), Body: &dnsmessage.CNAMEResource{CNAME: name("b.example.")}},
				{Header: header("b.example."), Body: &dnsmessage.MXResource{Pref: 1, MX: name("c.example.")}},
				{Header: header("b.example."), Body: &dnsmessage.AResource{}},
				{Header: header("b.example."), Body: &dnsmessage.AAAAResource{}},
				{Header: header("b.example."), Body: &dnsmessage.PTRResource{PTR: name("c.example.")}},
				{Header: header("b.example."), Body: &dnsmessage.TXTResource{TXT: []string{"a", "b"}}},
				{Header: header("b.example."), Body: &dnsmessage.UnknownResource{Type: 52, Data: []byte{3, 1, 1, 0}}},
			},
			Authorities: []dnsmessage.Resource{{Header: header("example."),
				Body: &dnsmessage.SOAResource{NS: name("a."), MBox: name("b."), MinTTL: 5}}},
		}
		var opt dnsmessage.ResourceHeader
		opt.SetEDNS0(1232, 0, true)
		m.Additionals = []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{
			Options: []dnsmessage.Option{{Code: 15, Data: []byte("\x00\x06text")}}}}}
		raw, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint16(t))
		f.Add(raw[:len(raw)/2], uint16(t))
	}
	f.Fuzz(func(t *testing.T, raw []byte, of uint16) {
		q := question{q.name, Type(of)}
		r, err := parse(raw, 1, q)
		if (err == nil) == (r == nil) || err != nil && err != errNotOurs && !errors.Is(err, errMalformed) {
			t.Fatalf("%+v, %v", r, err)
		}
		if err != nil || r.answer.Name == "" {
			return
		}
		a := r.answer
		if a.TTL < 0 || r.aliases > maxAliases || r.next != "" && !a.Empty() || a.NoName && !a.Empty() {
			t.Errorf("%+v", r)
		}
		if r.aliases == 0 && a.Name != q.name || q.t == CNAME && r.aliases > 0 {
			t.Errorf("the answer is about %q", a.Name)
		}
		others := map[Type]int{A: len(a.Addrs), MX: len(a.MX), TXT: len(a.TXT), TLSA: len(a.TLSA), PTR: len(a.Names)}
		others[AAAA], others[CNAME] = others[A], others[PTR]
		for of, n := range others {
			same := of == q.t || of+q.t == A+AAAA || of+q.t == PTR+CNAME
			if n > 0 && !same {
				t.Errorf("%d records of %v in an answer about %v", n, of, q.t)
			}
		}
		names := append([]string{a.Name, r.note}, a.Names...)
		for _, mx := range a.MX {
			names = append(names, mx.Host)
		}
		for _, name := range names {
			if strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("%q is not fit to be printed", name)
			}
		}
	})
}
