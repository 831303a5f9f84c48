package main

import (
	"context"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/policy"
	"smtpkit.example/smtp/server/proxyproto"
)

// TestMain fails if anything is left running.
func TestMain(m *testing.M) { prototest.Main(m) }

// A running is the server with a directory of its own, behind a proxy that tells who the client is.
type running struct {
	t    *testing.T
	dir  string
	addr net.Addr
	end  func()
}

// start starts the server in dir.
func start(t *testing.T, dir string) *running {
	t.Helper()
	resolver := dnstest.New(`
		2.0.0.127.bl.example   A    127.0.0.2
		9.9.9.9.bl.example     A    127.0.0.2
		9.9.9.9.bl.example     TXT  "seen in \r\n a trap"
		mail.example.net       A    9.9.9.8
	`)
	recipients := filepath.Join(dir, "recipients")
	if err := os.WriteFile(recipients, []byte("joe@example.org\njane@example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &config{
		recipients: recipients, mail: filepath.Join(dir, "mail"), greylist: filepath.Join(dir, "greylist"),
		domains: []string{"example.org"}, lists: []policy.List{{Zone: "bl.example"}}, messages: 4, delay: time.Nanosecond,
		proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		dns:     dns.Options{Servers: []string{resolver.Serve(t)}},
		options: server.Options{Hostname: "mx.example.org"},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(stop, c, l) }()
	r := &running{t: t, dir: dir, addr: l.Addr(), end: func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}}
	return r
}

// talk connects from an address and plays lines "command > beginning of the reply".
func (r *running) talk(from string, lines ...string) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr.String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	client := netip.AddrPortFrom(netip.MustParseAddr(from), 1234)
	header := proxyproto.AppendV1(nil, client, netip.MustParseAddrPort("192.0.2.25:25"))
	if _, err := conn.Write(header); err != nil {
		r.t.Fatal(err)
	}
	p := prototest.NewPeer(r.t, conn)
	p.Expect("220 ")
	p.Ask("EHLO mail.example.net", "250-")
	for _, line := range lines {
		send, want, _ := strings.Cut(line, " > ")
		p.Ask(send, want)
	}
	p.Ask("QUIT", "221 ")
}

// letters returns the messages in a Maildir.
func (r *running) letters(user string) (all []string) {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.dir, "mail/example.org", user, "new/*"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

const (
	mail = "MAIL FROM:<alice@example.net> > 250 "
	joe  = "RCPT TO:<Joe@EXAMPLE.org> > "
	data = "DATA > 354 "
	text = "Subject: x\r\n\r\nHello\r\n. > 250 "
)

// TestZ169_MX talks to the server as its clients do: the first time, the second time, too often, for others, from a
// listed address, and after the server was started again.
func TestZ169_MX(t *testing.T) {
	log.SetOutput(t.Output())
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	r := start(t, t.TempDir())
	r.talk("198.51.100.7", mail, joe+"451 4.7.1 ")
	r.talk("198.51.100.8", mail, joe+"250 ", "RCPT TO:<jane@example.org> > 250 ", data, text) // the same /24
	for _, user := range []string{"joe", "jane"} {
		got := r.letters(user)
		const want = `^Return-Path: <alice@example\.net>\n` +
			`Delivered-To: (Joe@EXAMPLE|jane@example)\.org\n` +
			`Received: from mail\.example\.net \(\[198\.51\.100\.8\]\) by mx\.example\.org with ESMTP\n id \S+; [^\n]+\n` +
			`Subject: x\n\nHello\n$`
		if len(got) != 1 || !regexp.MustCompile(want).MatchString(got[0]) {
			t.Errorf("the Maildir of %s has %q", user, got)
		}
	}
	r.talk("198.51.100.7", mail, "RCPT TO:<Postmaster> > 250 ", data, text)
	if got := r.letters("postmaster"); len(got) != 1 {
		t.Errorf("the postmaster has %q", got)
	}
	r.talk("198.51.100.7", mail, "RCPT TO:<nobody@example.org> > 550 5.1.1 ", "RCPT TO:<joe@example.net> > 550 5.7.1 ",
		"RCPT TO:<joe%example.net@example.org> > 550 5.7.1 ")
	r.talk("9.9.9.9", mail, joe+"554 5.7.1 9.9.9.9 is listed by bl.example: seen in ", "RSET > 250 ", mail,
		"RCPT TO:<nobody@example.org> > 550 5.1.1 ")
	r.talk("192.0.2.1", mail, joe+"250 ", "RCPT TO:<joe@example.net> > 550 5.7.1 ") // trusted, and no relay all the same
	r.talk("203.0.113.1", mail, "RSET > 250 ", mail, "RSET > 250 ", mail, "RSET > 250 ", mail, "RSET > 250 ",
		strings.Replace(mail, "250 ", "450 4.7.1 ", 1))
	loop := strings.Repeat("Received: x\r\n", 101) + strings.Replace(text, "250 ", "554 5.4.6 ", 1)
	r.talk("198.51.100.9", mail, joe+"250 ", data, loop)
	if got := r.letters("joe"); len(got) != 1 {
		t.Errorf("joe has %d messages", len(got))
	}
	r.end()

	r = start(t, r.dir)
	defer r.end()
	r.talk("198.51.100.10", mail, joe+"250 ", data, text) // which is remembered
	r.talk("203.0.113.2", mail, joe+"451 4.7.1 ")
	if got := r.letters("joe"); len(got) != 2 {
		t.Errorf("joe has %d messages", len(got))
	}
}
