package fake

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// The zero Server is in plaintext, greeted with EHLO, and ready for a command.
func TestServerDefaults(t *testing.T) {
	var s Server
	if s.Protocol() != proto.SMTP || s.Hostname() != "mail.example" || s.Hello() != "client.example" || !s.Extended() {
		t.Errorf("%v %q %q %v", s.Protocol(), s.Hostname(), s.Hello(), s.Extended())
	}
	local, remote, peer := s.LocalAddr().String(), s.RemoteAddr().String(), s.PeerAddr().String()
	if local != "192.0.2.1:25" || remote != "198.51.100.1:50000" || peer != remote {
		t.Errorf("%s, %s, %s", local, remote, peer)
	}
	if s.State() != proto.Ready || s.MaxSize() != 0 || s.MaxRcpts() != 100 || !s.Serves(nil) || s.TLS() != nil {
		t.Errorf("%v, %d, %d, %v", s.State(), s.MaxSize(), s.MaxRcpts(), s.TLS())
	}
}

func TestServerFields(t *testing.T) {
	addr := &net.TCPAddr{Port: 587}
	s := Server{Conn: ServerState{
		Hostname: "a", Hello: "b", HELO: true, Protocol: proto.LMTP, LocalAddr: addr, RemoteAddr: addr,
		State: proto.Mail, MaxRcpts: 1, Serves: func(*proto.Verb) bool { return false },
	}}
	if s.Hostname() != "a" || s.Hello() != "b" || s.Extended() || s.Protocol() != proto.LMTP {
		t.Errorf("%q %q %v %v", s.Hostname(), s.Hello(), s.Extended(), s.Protocol())
	}
	if s.LocalAddr() != addr || s.RemoteAddr() != addr || s.PeerAddr() != addr {
		t.Errorf("%v, %v, %v", s.LocalAddr(), s.RemoteAddr(), s.PeerAddr())
	}
	if s.State() != proto.Mail || s.MaxRcpts() != 1 || s.Serves(nil) {
		t.Errorf("%v, %d", s.State(), s.MaxRcpts())
	}
}

// Serve has the extension serve its first verb, unless the test chose another, and leaves the choice to the next call.
func TestServerServe(t *testing.T) {
	e := ext.Extension{
		Verbs: []proto.Verb{{Name: "XA"}, {Name: "XB"}},
		Serve: func(_ context.Context, c ext.Command) (proto.Reply, error) {
			c.PermitUTF8()
			return proto.Reply{Code: 250, Text: c.Verb().Name + " " + c.Args() + " \u00e4"}, nil
		},
	}
	var s Server
	if got := s.Serve(t, e, "1"); got != "250 2.0.0 XA 1 \u00e4" || s.Conn.Verb != nil || !s.UTF8Permitted {
		t.Errorf("%q, verb %v", got, s.Conn.Verb)
	}
	s.Conn.Verb = &e.Verbs[1]
	if got := s.Serve(t, e, "2"); got != "250 2.0.0 XB 2 \u00e4" || s.Conn.Verb != &e.Verbs[1] {
		t.Errorf("%q, verb %v", got, s.Conn.Verb)
	}
}

func TestServerRecords(t *testing.T) {
	s := Server{Responses: []string{"one", "two"}}
	for _, want := range []string{"one", "two", ""} {
		line, err := s.Challenge(t.Context(), proto.Reply{Code: 334})
		if line != want || errors.Is(err, ErrHungUp) != (want == "") {
			t.Errorf("%q, %v, want %q", line, err, want)
		}
	}
	if denied, last := s.AuthOutcome(ext.AuthOutcome{Identity: "alice"}); s.Identity() != "alice" || denied != 0 || last {
		t.Errorf("authenticated as %q, %d denied", s.Identity(), denied)
	}
	for i := 1; i <= 4; i++ {
		denied, last := s.AuthOutcome(ext.AuthOutcome{Identity: "bob", Denied: true, Err: ErrHungUp})
		if denied != i || last != (i == 4) || len(s.Outcomes) != i+1 || s.AuthFailures != i || s.Identity() != "alice" {
			t.Errorf("%d denied, %v, %v", denied, last, s.Outcomes)
		}
	}
	o := &ext.Origin{Name: "c.example"}
	if r, err := s.Restart(t.Context(), o); r.Code != 220 || err != nil || !s.Restarted || s.Origin() != o {
		t.Errorf("%v, %v, origin %v", r, err, s.Origin())
	}
	a, b := net.Pipe()
	defer a.Close()
	s.NetConn = a
	broken := errors.New("broken")
	err := s.Handover(t.Context(), proto.Reply{Code: 220}, func(_ context.Context, c net.Conn) (net.Conn, error) {
		if c != a {
			t.Errorf("Handover passed on %v", c)
		}
		return b, broken
	})
	if err != broken || s.Next != b {
		t.Errorf("%v, goes on with %v", err, s.Next)
	}
	err = s.Surrender(t.Context(), proto.Reply{Code: 250}, func(_ context.Context, c net.Conn) error {
		if c != a {
			t.Errorf("Surrender passed on %v", c)
		}
		return broken
	})
	if err != broken {
		t.Error(err)
	}
	var codes []int
	for _, r := range s.Sent {
		codes = append(codes, r.Code)
	}
	if !slices.Equal(codes, []int{334, 334, 334, 220, 250}) {
		t.Errorf("sent %v", codes)
	}
}
