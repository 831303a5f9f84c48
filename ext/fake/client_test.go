package fake

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

func TestClientRecords(t *testing.T) {
	c := Client{Replies: []proto.Reply{{Code: 334}, {Code: 235}}}
	r1, err1 := c.Do(t.Context(), "AUTH", "X")
	r2, err2 := c.Line(t.Context(), "=")
	_, err3 := c.Do(t.Context(), "NOOP", "")
	if r1.Code != 334 || r2.Code != 235 || err1 != nil || err2 != nil || !errors.Is(err3, ErrHungUp) {
		t.Errorf("%v %v, %v %v, %v", r1, err1, r2, err2, err3)
	}
	if want := []string{"AUTH X", "=", "NOOP"}; !slices.Equal(c.Sent, want) {
		t.Errorf("sent %q, want %q", c.Sent, want)
	}
	c.Secret()
	if c.Authenticated("alice"); c.Identity() != "alice" || !c.Redacted {
		t.Errorf("authenticated as %q, redacted: %v", c.Identity(), c.Redacted)
	}
	err := c.Converse(t.Context(), func(_ context.Context, conn ext.ClientConn) error {
		if conn != &c {
			t.Errorf("Converse passed on %v", conn)
		}
		return err3
	})
	if err != err3 {
		t.Errorf("Converse returned %v", err)
	}
	a, b := net.Pipe()
	defer a.Close()
	c.NetConn = a
	err = c.Handover(t.Context(), func(_ context.Context, conn net.Conn) (net.Conn, error) {
		if conn != a {
			t.Errorf("Handover passed on %v", conn)
		}
		return b, err3
	})
	if err != err3 || c.Next != b {
		t.Errorf("%v, goes on with %v", err, c.Next)
	}
}

// A Policy always has a configuration for TLS with a name in it, as package ext promises.
func TestClientPolicy(t *testing.T) {
	var c Client
	if got := c.Policy().TLSConfig; got == nil || got.ServerName != "mail.example" || c.Conn.Policy.TLSConfig != nil {
		t.Errorf("%v", got)
	}
	own := &tls.Config{ServerName: "a"}
	c.Conn.Policy = ext.Policy{TLSConfig: own, TLS: ext.TLSImplicit}
	if got := c.Policy(); got.TLSConfig != own || got.TLS != ext.TLSImplicit {
		t.Errorf("%v", got)
	}
}
