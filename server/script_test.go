package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// TestScripts plays every dialogue script to a real server over a pipe, at every cut of its octets. Scripts of more
// than 2000 octets, which are about lengths, are cut in a hundred places.
func TestScripts(t *testing.T) {
	scripts, err := prototest.ReadDir("../proto/testdata/scripts")
	if err != nil {
		t.Fatal(err)
	}
	serverTLS, clientTLS := tlsPair(t)
	for _, s := range scripts {
		t.Run(s.Title(), func(t *testing.T) {
			t.Parallel()
			length := len(s.Parts()[0].ClientBytes())
			step := 1
			if length > 2000 || testing.Short() {
				step = length/100 + 1
			}
			// The pauses that follow a wrong password take no time in a bubble.
			synctest.Test(t, func(t *testing.T) {
				srv := scriptServer(t, s, serverTLS)
				for cut := 0; cut <= length; cut += step {
					if err := playScript(srv, s, cut, clientTLS); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// scriptSession is the session that the scripts in proto/testdata/scripts are about.
type scriptSession struct{}

func (scriptSession) Mail(context.Context, proto.Address, proto.Params) error { return nil }

func (scriptSession) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	switch {
	case strings.HasPrefix(to.Local, "reject"):
		return &proto.Error{Code: 550, Text: "no such mailbox"}
	case strings.HasPrefix(to.Local, "defer"):
		return &proto.Error{Code: 450, Text: "mailbox busy"}
	}
	return nil
}

func (scriptSession) Data(_ context.Context, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (scriptSession) Authenticate(_ context.Context, user, password string) error {
	if user != "alice" || password != "secret" {
		return auth.ErrCredentials
	}
	return nil
}

// AuthPause keeps the scripts from waiting a second for each refusal, at each cut.
func (scriptSession) AuthPause(int) time.Duration { return 0 }

// scriptServer returns the server that a script asks for with its directives.
func scriptServer(t *testing.T, s *prototest.Script, config *tls.Config) *server.Server {
	t.Helper()
	opt := server.Options{Strict: true, Limits: server.Limits{MessageSize: 10240}, TLSConfig: config}
	for key := range s.Directives {
		switch key {
		case "insecure-auth":
			opt.AllowInsecureAuth = true
		case "lmtp":
			opt.Protocol = proto.LMTP
		case "server": // needs more than an engine, which is what we have
		default:
			t.Fatalf("%s: unknown directive %q", s.Name, key)
		}
	}
	return newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return scriptSession{}, nil
	}), opt)
}

// playScript plays the client of s to srv over a pipe, its octets cut at cut, and checks what the server says.
func playScript(srv *server.Server, s *prototest.Script, cut int, config *tls.Config) error {
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
	if err := near.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	var conn net.Conn = near
	for i, part := range s.Parts() {
		if i > 0 {
			conn = tls.Client(conn, config)
		}
		if err := playPart(conn, part, cut); err != nil {
			return fmt.Errorf("cut at %d: %w", cut, err)
		}
	}
	return nil
}

func playPart(conn net.Conn, part prototest.Steps, cut int) error {
	written := make(chan struct{})
	in := part.ClientBytes()
	go func() {
		defer close(written)
		cut = min(cut, len(in))
		for _, piece := range [][]byte{in[:cut], in[cut:]} {
			if _, err := conn.Write(piece); len(piece) > 0 && err != nil {
				return // the server may close before it has read all
			}
		}
	}()
	defer func() {
		_ = conn.SetWriteDeadline(time.Now())
		<-written
		_ = conn.SetWriteDeadline(time.Time{})
	}()
	var out []byte
	for _, step := range part {
		var err error
		if out, err = hear(conn, step, out); err != nil {
			return err
		}
		if step.Kind == prototest.Hangup {
			<-written
		}
	}
	if len(out) > 0 {
		return fmt.Errorf("%v: the server says %q after the last step", part[len(part)-1], out)
	}
	return nil
}

// hear reads until the server has said what it has to in step, and returns what was read beyond that.
func hear(conn net.Conn, step prototest.Step, out []byte) ([]byte, error) {
	switch step.Kind {
	case prototest.Close:
		rest, err := io.ReadAll(conn)
		if out = append(out, rest...); err != nil || len(out) > 0 && !isAlert(out) {
			return nil, fmt.Errorf("%v: the server says %q, and then %w", step, out, errors.Join(err, io.EOF))
		}
		return nil, nil
	case prototest.Line, prototest.Reply:
	default:
		return out, nil
	}
	buf := make([]byte, 4096)
	for {
		n, err := step.Take(out)
		if n > 0 || err != nil {
			return out[n:], err
		}
		n, err = conn.Read(buf)
		out = append(out, buf[:n]...)
		if err == io.EOF && step.Optional && len(out) == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%v: the server says %q, and then %w", step, out, err)
		}
	}
}

// isAlert reports whether out begins with an alert of TLS, with which a handshake ends that was broken by commands
// slipped in.
func isAlert(out []byte) bool { return len(out) >= 2 && out[0] == 21 && out[1] == 3 }
