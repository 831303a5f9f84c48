package ehlo_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/server"
)

// TestXforward has our client tell our server where messages came from.
func TestXforward(t *testing.T) {
	w := &witness{}
	list := append(ehlo.Default(), ehlo.XFORWARD(netip.MustParsePrefix("127.0.0.1/32")))
	addr := listening(t, w, server.Options{Extensions: list})
	c, err := client.Dial(t.Context(), addr, &client.Options{Extensions: list, TLS: ext.TLSInsecureNone})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o := ext.Origin{Name: strings.Repeat("n", 255), Addr: "2001:db8::1", Port: "25", Protocol: "ESMTP",
		Hello: strings.Repeat("h", 255), Ident: "4XyZ", Source: "REMOTE"}
	if err := ehlo.SendXFORWARD(t.Context(), c, o); err != nil {
		t.Fatal(err)
	}
	send(t, c, "forwarded\r\n")
	send(t, c, "of its own\r\n")
	if got := w.seen[0]; got.recorded != o || got.remote != got.peer || got.origin != nil {
		t.Errorf("the first message came from %+v", got)
	}
	if got := w.seen[1]; got.recorded != (ext.Origin{}) {
		t.Errorf("the second message came from %+v: what was told holds for one", got)
	}
	_, err = c.Do(t.Context(), "XCLIENT", "ADDR=127.0.0.1")
	if err == nil || errors.Is(err, client.ErrClosed) {
		t.Errorf("a client without the extension sends XCLIENT: %v", err)
	}
}
