package ehlo_test

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/server"
)

// TestXclient has a proxy, our client, speak for two clients over one connection with TLS.
func TestXclient(t *testing.T) {
	w := &witness{}
	theirs, ours := ownTLS(t)
	list := append(ehlo.Default(), ehlo.XCLIENT(netip.MustParsePrefix("127.0.0.0/8")), ehlo.XFORWARD(netip.MustParsePrefix("127.0.0.1/32")))
	addr := listening(t, w, server.Options{Extensions: list, TLSConfig: theirs, RequireTLS: true, RequireAuth: true})
	c, err := client.Dial(t.Context(), addr, &client.Options{Extensions: list, TLSConfig: ours})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	alice := ext.Origin{Name: "a.example", Addr: "2001:db8::a", Port: "4001", Hello: "alice.example", Protocol: "ESMTP", Login: "alice"}
	bob := ext.Origin{Name: ext.TempUnavailable, Addr: "198.51.100.2", Port: "4002", Login: "bob+1@example.org"}
	for _, o := range []ext.Origin{alice, bob} {
		if err := ehlo.SendXCLIENT(t.Context(), c, o); err != nil {
			t.Fatal(err)
		}
		if c.TLS() == nil || c.Caps().Has("STARTTLS") || !c.Caps().Has("XCLIENT") || c.Caps().Has("XFORWARD") {
			t.Errorf("offered afterwards: %v", c.Caps())
		}
		send(t, c, "for "+o.Login+"\r\n")
	}
	alice.ReverseName, bob.ReverseName = ext.Unavailable, ext.Unavailable // as nothing was said of it
	for i, want := range []struct {
		origin                 ext.Origin
		remote, identity, body string
	}{
		{alice, "[2001:db8::a]:4001", "alice", "for alice\r\n"},
		{bob, "198.51.100.2:4002", "bob+1@example.org", "for bob+1@example.org\r\n"},
	} {
		got := w.seen[i]
		if got.remote != want.remote || got.identity != want.identity || got.body != want.body || *got.origin != want.origin ||
			!strings.HasPrefix(got.peer, "127.0.0.1:") {
			t.Errorf("message %d: %+v of %+v", i, got, got.origin)
		}
	}
}

// TestW14Z160_XclientForgets checks that XCLIENT discards the authentication of the client.
func TestW14Z160_XclientForgets(t *testing.T) {
	w := &witness{}
	list := append(ehlo.Default(), ehlo.XCLIENT(netip.MustParsePrefix("127.0.0.1/32")))
	addr := listening(t, w, server.Options{Extensions: list, AllowInsecureAuth: true})
	p := newTalker(t, addr)
	p.say("EHLO proxy.example", "250")
	p.say("AUTH PLAIN AGFsaWNlAHNlY3JldCBvZiBhbGljZQ==", "235 ")
	p.say("XCLIENT ADDR=198.51.100.2 HELO=h.example", "220 mail.example ESMTP")
	p.say("MAIL FROM:<a@b.example>", "503 ")
	p.say("EHLO proxy.example", "250")
	p.say("MAIL FROM:<a@b.example>", "250 ")
	p.say("XCLIENT ADDR=127.0.0.1", "503 ")
	p.say("RCPT TO:<c@d.example>", "250 ")
	p.say("DATA", "354 ")
	p.say(".", "250 ")
	if got := w.seen[0]; got.identity != "" || got.remote != "198.51.100.2:0" || got.origin.Hello != "h.example" {
		t.Errorf("the message came from %+v", got)
	}
}

// TestW14_XclientThenTLS checks that STARTTLS discards what XCLIENT stated about the session, and keeps who the client
// is.
func TestW14_XclientThenTLS(t *testing.T) {
	w := &witness{}
	theirs, ours := ownTLS(t)
	ours.ServerName = "mail.example"
	list := append(ehlo.Default(), ehlo.XCLIENT(netip.MustParsePrefix("127.0.0.1/32")))
	addr := listening(t, w, server.Options{Extensions: list, TLSConfig: theirs})
	p := newTalker(t, addr)
	p.say("XCLIENT ADDR=198.51.100.2 NAME=h.example HELO=h.example LOGIN=mallory PROTO=ESMTP", "220 ")
	p.say("EHLO proxy.example", "250")
	p.say("STARTTLS", "220 ")
	p.nc = tls.Client(p.nc, ours)
	p.say("EHLO proxy.example", "250")
	p.deliver()
	want := ext.Origin{Addr: "198.51.100.2", Name: "h.example"}
	if got := w.seen[0]; got.identity != "" || got.remote != "198.51.100.2:0" || *got.origin != want {
		t.Errorf("the message came from %+v of %+v", got, got.origin)
	}
}

// TestW14Z160_XclientNotListed: a peer that is not listed is refused, and changes nothing.
func TestW14Z160_XclientNotListed(t *testing.T) {
	w := &witness{}
	list := append(ehlo.Default(), ehlo.XCLIENT(netip.MustParsePrefix("192.0.2.0/24")), ehlo.XFORWARD())
	addr := listening(t, w, server.Options{Extensions: list})
	c, err := client.Dial(t.Context(), addr, &client.Options{Extensions: list, TLS: ext.TLSInsecureNone})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = ehlo.SendXCLIENT(t.Context(), c, ext.Origin{Addr: "127.0.0.1", Login: "admin"})
	if err == nil || c.Caps().Has("XCLIENT") || c.Caps().Has("XFORWARD") {
		t.Errorf("XCLIENT: %v, offered %v", err, c.Caps())
	}
	p := newTalker(t, addr)
	p.say("EHLO x.example", "250")
	p.say("XCLIENT ADDR=127.0.0.1 LOGIN=admin", "550 5.7.1 ")
	p.say("XFORWARD ADDR=127.0.0.1", "550 5.7.1 ")
	p.say("MAIL FROM:<a@b.example>", "250 ")
	p.say("RCPT TO:<c@d.example>", "250 ")
	p.say("DATA", "354 ")
	p.say(".", "250 ")
	if got := w.seen[0]; got.identity != "" || got.origin != nil || got.remote != got.peer {
		t.Errorf("the message came from %+v", got)
	}
}
