package dnstest_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"smtpkit.example/smtp/ext/dns/dnstest"
)

// TestServe asks with messages of its own, since not all programs ask as dns.Stub does.
func TestServe(t *testing.T) {
	fake := dnstest.New(`
		a.example. A 192.0.2.1
		long.example. TXT "` + strings.Repeat("x", 255) + `" "` + strings.Repeat("y", 255) + `"
		longer.example. TXT ` + strings.Repeat(`"`+strings.Repeat("x", 255)+`" `, 5) + `
		fail.example. A SERVFAIL
		false.example. A BOGUS
		silent.example. A TIMEOUT
	`)
	fake.Secure("example")
	conn, err := net.Dial("udp", fake.Serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const plain = 0
	for _, tt := range []struct {
		name     string
		of       dnsmessage.Type
		edns     int // its size
		ad, do   bool
		response dnsmessage.Header
		answers  int
		extended bool
	}{
		{"a.example.", dnsmessage.TypeA, plain, false, false, dnsmessage.Header{}, 1, false},
		{"A.Example.", dnsmessage.TypeA, plain, true, false, dnsmessage.Header{AuthenticData: true}, 1, false},
		{"a.example.", dnsmessage.TypeA, 1232, false, true, dnsmessage.Header{AuthenticData: true}, 1, false},
		{"a.example.", dnsmessage.TypeA, 1232, false, false, dnsmessage.Header{}, 1, false},
		{"a.example.net.", dnsmessage.TypeA, 1232, true, false, dnsmessage.Header{RCode: 3}, 0, false},
		{"long.example.", dnsmessage.TypeTXT, plain, true, false, dnsmessage.Header{Truncated: true}, 0, false},
		{"long.example.", dnsmessage.TypeTXT, 100, true, false, dnsmessage.Header{Truncated: true}, 0, false},
		{"long.example.", dnsmessage.TypeTXT, 600, true, false, dnsmessage.Header{AuthenticData: true}, 1, false},
		{"longer.example.", dnsmessage.TypeTXT, 4096, true, false, dnsmessage.Header{Truncated: true}, 0, false},
		{"fail.example.", dnsmessage.TypeA, 1232, true, false, dnsmessage.Header{RCode: 2}, 0, false},
		{"false.example.", dnsmessage.TypeA, 1232, true, false, dnsmessage.Header{RCode: 2}, 0, true},
		{"false.example.", dnsmessage.TypeA, plain, true, false, dnsmessage.Header{RCode: 2}, 0, false},
		{"a.example.", dnsmessage.TypeNS, 1232, true, false, dnsmessage.Header{AuthenticData: true}, 0, false},
	} {
		q := dnsmessage.Message{
			Header: dnsmessage.Header{ID: 77, RecursionDesired: true, AuthenticData: tt.ad},
			Questions: []dnsmessage.Question{
				{Name: dnsmessage.MustNewName(tt.name), Type: tt.of, Class: dnsmessage.ClassINET},
			},
		}
		if tt.edns != plain {
			var h dnsmessage.ResourceHeader
			h.SetEDNS0(tt.edns, 0, tt.do)
			q.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
		}
		m := ask(t, conn, &q)
		want := tt.response
		want.ID, want.Response, want.RecursionDesired, want.RecursionAvailable = 77, true, true, true
		if m.Header != want || len(m.Questions) != 1 || m.Questions[0] != q.Questions[0] || len(m.Answers) != tt.answers {
			t.Errorf("%s, size %d:\ngot  %+v, %v, %d answers\nwant %+v", tt.name, tt.edns, m.Header, m.Questions,
				len(m.Answers), want)
		}
		if (len(m.Additionals) == 1) != (tt.edns != plain) {
			t.Errorf("%s: %d additional records", tt.name, len(m.Additionals))
		}
		for _, r := range m.Additionals {
			if opt := r.Body.(*dnsmessage.OPTResource); (len(opt.Options) == 1) != tt.extended {
				t.Errorf("%s: options %v", tt.name, opt.Options)
			}
		}
	}

	// What is no query, and what has no answer, is passed over.
	for _, noise := range []string{"", "noise", strings.Repeat("\x00", 12), strings.Repeat("\xff", 600)} {
		if _, err := conn.Write([]byte(noise)); err != nil {
			t.Fatal(err)
		}
	}
	silent := dnsmessage.Message{Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName("silent.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
	}}
	raw, err := silent.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(raw); err != nil {
		t.Fatal(err)
	}
	silent.ID = 5
	silent.Questions[0].Name = dnsmessage.MustNewName("a.example.")
	if m := ask(t, conn, &silent); m.ID != 5 {
		t.Errorf("got an answer to %d", m.ID)
	}
}

func ask(t *testing.T, conn net.Conn, q *dnsmessage.Message) *dnsmessage.Message {
	t.Helper()
	raw, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(raw); err != nil {
		t.Fatal(err)
	}
	raw = make([]byte, 64<<10)
	n, err := conn.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(raw[:n]); err != nil {
		t.Fatal(err)
	}
	return &m
}
