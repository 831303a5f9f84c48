package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

func TestBothEnds(t *testing.T) {
	place, err := run(t.Context(), extensions())
	if err != nil || place != "in the mailbox of b@example.org" {
		t.Errorf("the message is %q, %v", place, err)
	}
}

// TestClientWithout has a client that does not know the extension: it must not send the parameter, nor the verb.
func TestClientWithout(t *testing.T) {
	_, err := run(t.Context(), ext.Default())
	if _, ok := errors.AsType[*ext.NeedError](err); !ok {
		t.Errorf("the parameter: %v, want a NeedError", err)
	}
}

// conversation starts a server with the extensions in list and the session, says the lines, and returns the replies.
func conversation(t *testing.T, s server.Session, list []ext.Extension, lines ...string) []string {
	t.Helper()
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return s, nil
	}), &server.Options{Hostname: "localhost", Extensions: list})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.ServeConn(context.Background(), far)
	}()
	defer func() {
		near.Close()
		<-ended
	}()
	r := bufio.NewReader(near)
	var replies []string
	reply := func() {
		for all := ""; ; {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if all += line; len(line) > 3 && line[3] == ' ' {
				replies = append(replies, all)
				return
			}
		}
	}
	reply()
	for _, line := range lines {
		if _, err := near.Write([]byte(line + "\r\n")); err != nil {
			t.Fatal(err)
		}
		reply()
	}
	return replies
}

// plain is a session that is no Locator.
type plain struct{ server.Session }

// TestServer says to a server what a client of ours would not.
func TestServer(t *testing.T) {
	s := &session{places: map[string]string{"1": "here"}}
	long := strings.Repeat("f", longestID)
	for name, c := range map[string]struct {
		session server.Session
		line    string
		code    string
	}{
		"parameter":       {s, "MAIL FROM:<a@b.example> XTRACE=" + long, "250 "},
		"lower case":      {s, "mail from:<a@b.example> xtrace=1", "250 "},
		"malformed":       {s, "MAIL FROM:<a@b.example> XTRACE=xyz", "501 "},
		"too long":        {s, "MAIL FROM:<a@b.example> XTRACE=" + long + "f", "501 "},
		"without value":   {s, "MAIL FROM:<a@b.example> XTRACE", "501 "},
		"twice":           {s, "MAIL FROM:<a@b.example> XTRACE=1 XTRACE=2", "501 "},
		"another":         {s, "MAIL FROM:<a@b.example> XTRACES=1", "555 "},
		"not on offer":    {plain{s}, "MAIL FROM:<a@b.example> XTRACE=1", "555 "},
		"verb":            {s, "XWHERE 1", "250 2.0.0 here"},
		"verb, malformed": {s, "XWHERE x", "501 "},
		"verb, unknown":   {s, "XWHERE 2", "550 "},
		"verb, no offer":  {plain{s}, "XWHERE 1", "502 "},
	} {
		t.Run(name, func(t *testing.T) {
			replies := conversation(t, c.session, extensions(), "EHLO x.example", c.line)
			if offered := strings.Contains(replies[1], "XTRACE 32\r\n"); offered != (c.session == server.Session(s)) {
				t.Errorf("offered is %t in %q", offered, replies[1])
			}
			if !strings.HasPrefix(replies[2], c.code) {
				t.Errorf("%s: %q, want %s", c.line, replies[2], c.code)
			}
		})
	}
	replies := conversation(t, s, ext.Default(), "EHLO x.example", "XWHERE 1", "MAIL FROM:<a@b.example> XTRACE=1")
	if !strings.HasPrefix(replies[2], "500 ") || !strings.HasPrefix(replies[3], "555 ") {
		t.Errorf("a server without the extension answers %q", replies[2:])
	}
}

// TestVerbRefused has clients that must not send the verb: one that lacks the extension, and one whose server does.
func TestVerbRefused(t *testing.T) {
	for name, c := range map[string]struct{ ours, theirs []ext.Extension }{
		"client without": {ext.Default(), extensions()},
		"server without": {extensions(), ext.Default()},
	} {
		t.Run(name, func(t *testing.T) {
			asked := ""
			srv, err := server.New(server.Handler(func(context.Context, *server.Message) error { return nil }), &server.Options{
				Hostname: "localhost", Extensions: c.theirs,
				Trace: &server.Trace{Command: func(_ *server.Conn, verb, _ string) { asked += verb + " " }},
			})
			if err != nil {
				t.Fatal(err)
			}
			near, far := net.Pipe()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = srv.ServeConn(context.Background(), far)
			}()
			conn, err := client.NewClient(t.Context(), near, "localhost", &client.Options{TLS: ext.TLSInsecureNone, Extensions: c.ours})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Where(t.Context(), conn, "1"); err == nil {
				t.Error("the verb was sent")
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			<-ended
			if asked != "EHLO QUIT " {
				t.Errorf("the server was told %q", asked)
			}
		})
	}
}

// TestLineGrows shows that the command line may be longer by what the parameter declares, and no more.
func TestLineGrows(t *testing.T) {
	limit := func(list []ext.Extension) int {
		set, err := ext.NewSet(proto.SMTP, list)
		if err != nil {
			t.Fatal(err)
		}
		return set.Table().Lookup("MAIL").Grow
	}
	if got := limit(extensions()) - limit(ext.Default()); got != len(" XTRACE=")+longestID {
		t.Errorf("the line grows by %d octets", got)
	}
}
