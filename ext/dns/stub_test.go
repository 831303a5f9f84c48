package dns_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// zone is asked for in two ways: directly, and over the network.
var zone = `
	example.org.       600 MX 10 mx.example.org.
	example.org.       600 MX 20 backup.example.net
	mx.example.org.    60 A 192.0.2.1
	mx.example.org.    120 A 192.0.2.2
	mx.example.org.    AAAA 2001:db8::1
	_25._tcp.mx.example.org. TLSA 3 1 1 0a0b0c
	_25._tcp.mx.example.org. TLSA 2 0 2 0d
	example.org.       TXT "v=spf1 -all" " more" "" "end"
	example.org.       TXT ""
	null.example.      MX 0 .
	www.example.org.   30 CNAME mx.example.org.
	out.example.org.   CNAME host.example.net.
	host.example.net.  A 192.0.2.3
	gone.example.org.  CNAME nowhere.example.org.
	empty.example.org. 20 CNAME mx.example.org.
	*.wild.example.    A 192.0.2.4
	bücher.example.    A 192.0.2.5
	1.2.0.192.in-addr.arpa. PTR mx.example.org.
	zero.example.      0 A 192.0.2.6
	. TXT "root"
	false.example.org. TLSA BOGUS
	fail.example.org.  A SERVFAIL
	away.example.org.  A REFUSED
	loop.example.org.  CNAME pool.example.org.
	pool.example.org.  CNAME loop.example.org.
`

// TestStub compares what a Stub finds out over UDP and TCP with what the fake says in the process.
func TestStub(t *testing.T) {
	big := &strings.Builder{}
	for i := range 100 {
		fmt.Fprintf(big, "big.example.org. TXT %q\n", strings.Repeat(string(rune('a'+i%26)), 200))
		fmt.Fprintf(big, "middle.example.org. %s\n", [2]string{`TXT "1"`, fmt.Sprintf("A 192.0.2.%d", i)}[min(i, 1)])
	}
	fake := dnstest.New(zone + big.String())
	fake.Secure("example.org", ".")
	fake.Insecure("wild.example", "example.net")
	stub, err := dns.New(&dns.Options{Servers: []string{fake.Serve(t)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		name string
		t    dns.Type
	}{
		{"Example.ORG.", dns.MX}, {"mx.example.org", dns.A}, {"mx.example.org", dns.AAAA}, {"mx.example.org", dns.TXT},
		{"_25._tcp.mx.example.org", dns.TLSA}, {"example.org", dns.TXT}, {"null.example", dns.MX},
		{"www.example.org", dns.A}, {"www.example.org", dns.CNAME}, {"out.example.org", dns.A},
		{"out.example.org", dns.CNAME}, {"gone.example.org", dns.A}, {"empty.example.org", dns.TLSA},
		{"nowhere.example.org", dns.A}, {"a.wild.example", dns.A}, {"BÜCHER.example", dns.A},
		{"1.2.0.192.in-addr.arpa", dns.PTR}, {"zero.example", dns.A}, {".", dns.TXT}, {".", dns.MX},
		{"big.example.org", dns.TXT}, {"middle.example.org", dns.A},
		{"false.example.org", dns.TLSA}, {"fail.example.org", dns.A}, {"away.example.org", dns.A},
		{"loop.example.org", dns.A}, {"a..b", dns.A},
	} {
		want, wantErr := fake.Lookup(t.Context(), q.name, q.t)
		got, err := stub.Lookup(t.Context(), q.name, q.t)
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s %s: got error %v, want %v", q.name, q.t, err, wantErr)
			continue
		}
		var e, wantE *dns.Error
		if errors.As(err, &e) && errors.As(wantErr, &wantE) && e.Bogus != wantE.Bogus {
			t.Errorf("%s %s: bogus is %t, want %t: %v", q.name, q.t, e.Bogus, wantE.Bogus, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", q.name, q.t, got, want)
		}
	}
	if got := fake.Asked("big.example.org", dns.TXT); got != 3 { // directly, over UDP, over TCP
		t.Errorf("the long answer was asked for %d times, want 3", got)
	}
}

// TestQuery reads what is on the wire.
func TestQuery(t *testing.T) {
	n := &network{}
	var raw []string
	n.serve = func(q *query) {
		raw = append(raw, hex.EncodeToString(q.raw))
		q.reply(q.answer(a(q.name()+".", 0, 1)))
	}
	s := n.stub(t, dns.Options{})
	ids := map[string]bool{}
	for range 20 {
		if _, err := s.Lookup(t.Context(), "a.Example", dns.A); err != nil {
			t.Fatal(err)
		}
	}
	// RD and AD; one question; one OPT with 1232 octets and DO (RFC 1035 section 4.1, RFC 6891 section 6.1.2).
	const want = "0120" + "0001000000000001" + "0161076578616d706c6500" + "00010001" +
		"000029" + "04d0" + "00008000" + "0000"
	for _, msg := range raw {
		if msg[4:] != want {
			t.Errorf("got  %s\nwant %s", msg[4:], want)
		}
		ids[msg[:4]] = true
	}
	if len(ids) < 18 {
		t.Errorf("20 queries had only %d different ids", len(ids))
	}
}

// TestPorts sends each query from a port of its own.
func TestPorts(t *testing.T) {
	fake := dnstest.New("")
	addr := fake.Serve(t)
	ports := map[string]bool{}
	s, err := dns.New(&dns.Options{
		Servers: []string{addr},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				ports[conn.LocalAddr().String()] = true
			}
			return conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := s.Lookup(t.Context(), fmt.Sprintf("n%d.example", i), dns.A); err != nil {
			t.Fatal(err)
		}
	}
	if len(ports) < 10 {
		t.Errorf("20 queries came from %d ports", len(ports))
	}
}

// TestTrust believes the AD bit only of servers on loopback, and of those that the operator trusts.
func TestTrust(t *testing.T) {
	n := &network{serve: func(q *query) {
		q.reply(q.answer(a(q.name()+".", 60, 1)), func(m *dnsmessage.Message) {
			m.AuthenticData = !strings.HasPrefix(q.name(), "insecure.")
		})
	}}
	for _, tt := range []struct {
		server string
		trust  bool
		want   bool
	}{
		{"127.0.0.1", false, true},
		{"127.9.9.9:5353", false, true},
		{"::1", false, true},
		{"[::1]:5353", false, true},
		{"::ffff:127.0.0.1", false, true},
		{"192.0.2.53", false, false},
		{"192.0.2.53", true, true},
		{"2001:db8::53", false, false},
		{"10.0.0.1", false, false},
	} {
		s := n.stub(t, dns.Options{Servers: []string{tt.server}, TrustAD: tt.trust})
		answer, err := s.Lookup(t.Context(), "secure.example", dns.A)
		if err != nil || answer.Authentic != tt.want {
			t.Errorf("%s, trusted %t: got %+v, %v", tt.server, tt.trust, answer, err)
		}
		answer, err = s.Lookup(t.Context(), "insecure.example", dns.A)
		if err != nil || answer.Authentic {
			t.Errorf("%s, trusted %t, without AD: got %+v, %v", tt.server, tt.trust, answer, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		opt  dns.Options
		want string
	}{
		{dns.Options{Servers: []string{"ns.example"}}, "want an IP address"},
		{dns.Options{Servers: []string{"ns.example:53"}}, "want an IP address"},
		{dns.Options{Servers: []string{"127.0.0.1:x"}}, "want an IP address"},
		{dns.Options{Servers: []string{"127.0.0.1:0"}}, "want an IP address"},
		{dns.Options{Servers: []string{""}}, "want an IP address"},
		{dns.Options{Servers: make([]string, 9)}, "give 8 at most"},
		{dns.Options{Servers: []string{"127.0.0.1", "192.0.2.53"}}, "192.0.2.53:53 is not trusted and 127.0.0.1:53 is"},
		{dns.Options{Servers: []string{"2001:db8::53", "::1"}}, "set TrustAD"},
		{dns.Options{Timeout: -1}, "Timeout"},
		{dns.Options{Attempts: -1}, "Attempts"},
		{dns.Options{Attempts: 6}, "give 1 to 5"},
	} {
		if _, err := dns.New(&tt.opt); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %s", tt.opt, err, tt.want)
		}
	}
	s, err := dns.New(nil)
	if s == nil || err != nil {
		t.Errorf("without options: %v", err)
	}
	if _, err := s.Lookup(t.Context(), "example.org", 99); err == nil || !strings.Contains(err.Error(), "TYPE99") {
		t.Errorf("a type without a field: %v", err)
	}
}

func TestCheckDNSSEC(t *testing.T) {
	n := &network{}
	n.serve = func(q *query) {
		switch q.server {
		case "127.0.0.3:53":
			q.rcode(dnsmessage.RCodeRefused)
		case "127.0.0.2:53":
			q.reply(q.answer(soa(".", 60, 60)), func(m *dnsmessage.Message) { m.AuthenticData = false })
		default:
			q.reply(q.answer(soa(".", 60, 60)))
		}
	}
	for _, tt := range []struct {
		servers string
		trust   bool
		want    string
	}{
		{"127.0.0.1", false, ""},
		{"127.0.0.1 127.0.0.3", false, ""},
		{"127.0.0.3 127.0.0.1", false, ""},
		{"192.0.2.53", true, ""},
		{"192.0.2.53", false, "server 192.0.2.53:53 says of DNSSEC is not believed"},
		{"127.0.0.1 192.0.2.53", true, ""},
		{"127.0.0.2 192.0.2.53", true, "127.0.0.2:53 does not validate"},
		{"127.0.0.2", false, "127.0.0.2:53 does not validate"},
		{"127.0.0.1 127.0.0.2", false, "127.0.0.2:53 does not validate"},
		{"127.0.0.3", false, "REFUSED"},
	} {
		s := n.stub(t, dns.Options{Servers: strings.Fields(tt.servers), TrustAD: tt.trust})
		err := s.CheckDNSSEC(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.servers, err, tt.want)
		}
	}
	// The fake is a server that validates, and its root is signed if it is told so.
	fake := dnstest.New("")
	s, err := dns.New(&dns.Options{Servers: []string{fake.Serve(t)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckDNSSEC(t.Context()); err == nil {
		t.Error("nothing is signed, and the check is content")
	}
	fake.Secure(".")
	if err := s.CheckDNSSEC(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if err := s.CheckDNSSEC(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without time: %v", err)
	}
}
