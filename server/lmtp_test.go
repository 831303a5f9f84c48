package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// eachStore is a store whose sessions tell the outcome for each recipient.
type eachStore struct {
	*store
	each func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error
}

func (st eachStore) NewSession(ctx context.Context, c *server.Conn) (server.Session, error) {
	s, err := st.store.NewSession(ctx, c)
	if err != nil {
		return nil, err
	}
	return eachSession{s.(*session), st.each}, nil
}

type eachSession struct {
	*session
	each func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error
}

func (s eachSession) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	return s.each(ctx, r, result)
}

// deliver dials an LMTP server, whose DataEach is each, and opens a transaction with three recipients.
func deliver(t *testing.T, each func(context.Context, io.Reader, func(int, proto.Reply, error)) error) *peer {
	t.Helper()
	var b server.Backend = &store{}
	if each != nil {
		b = eachStore{&store{}, each}
	}
	p := dial(t, newServer(t, b, server.Options{Protocol: proto.LMTP, MaxSize: 1000}))
	p.expect("220 mail.example LMTP")
	p.ask("LHLO client.example", "250-")
	openThree(p)
	return p
}

func openThree(p *peer) {
	p.t.Helper()
	p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<one@d.example>", "250 ", "RCPT TO:<two@d.example>", "250 ",
		"RCPT TO:<two@d.example>", "250 ")
}

var errFull = &proto.Error{Code: 452, Status: proto.Status{4, 2, 2}, Text: "mailbox full"}

func TestLMTP(t *testing.T) {
	readAll := func(_ context.Context, r io.Reader, _ func(int, proto.Reply, error)) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	for _, c := range []struct {
		name string
		each func(context.Context, io.Reader, func(int, proto.Reply, error)) error
		say  string
		want []string
	}{
		{"T02 without DataEach", nil, "hello\r\n.", []string{"250 2.0.0", "250 2.0.0", "250 2.0.0"}},
		{"T11 too large", nil, strings.Repeat("x", 2000) + "\r\n.", []string{"552 5.3.4", "552 5.3.4", "552 5.3.4"}},
		{"bare LF", nil, "a\nb\r\n.", []string{"554 5.6.0", "554 5.6.0", "554 5.6.0"}},
		{"no results", readAll, ".", []string{"250 2.0.0", "250 2.0.0", "250 2.0.0"}},
		{"T02 results", func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			err := readAll(ctx, r, result)
			result(2, proto.Reply{}, nil)
			result(0, proto.Reply{Code: 250, Text: "delivered"}, nil)
			result(0, proto.Reply{}, errFull)                           // the first one counts
			result(1, proto.Reply{}, &proto.Error{Code: 421, Text: ""}) // the others have a right to their replies
			result(3, proto.Reply{}, errFull)
			result(-1, proto.Reply{}, errFull)
			return err
		}, ".", []string{"250 2.0.0 delivered", "451 ", "250 2.0.0 Message"}},
		{"the rest", func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			result(1, proto.Reply{}, errFull) // before the message has been read
			return errors.New("secret")
		}, "hello\r\n.", []string{"451 4.3.0 Local", "452 4.2.2", "451 4.3.0 Local"}},
		{"malformed whatever the results are", func(_ context.Context, _ io.Reader, result func(int, proto.Reply, error)) error {
			for i := range 3 {
				result(i, proto.Reply{}, nil)
			}
			return nil
		}, "a\nb\r\n.", []string{"554 5.6.0", "554 5.6.0", "554 5.6.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := deliver(t, c.each)
			p.ask("DATA", "354 ")
			p.send(c.say + "\r\n")
			p.expect(c.want...)
			p.ask("NOOP", "250 ") // and no reply more
			openThree(p)
			p.quit()
		})
	}
}

// TestT07_AsReady: a result is sent when it is known and those before it are (RFC 2033 section 5).
func TestT07_AsReady(t *testing.T) {
	next := make(chan int)
	var wg sync.WaitGroup
	p := deliver(t, func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
		_, err := io.Copy(io.Discard, r)
		for range 3 {
			rcpt := <-next
			wg.Go(func() { result(rcpt, proto.Reply{}, nil) }) // from any goroutine
			wg.Wait()
			next <- rcpt
		}
		return err
	})
	p.ask("DATA", "354 ")
	p.send("hello\r\n.\r\n")
	step := func(rcpt int) {
		next <- rcpt
		<-next
	}
	step(0)
	p.expect("250 ")
	step(2)
	select {
	case line := <-p.lines:
		t.Errorf("the server says %q before its turn", line)
	default:
	}
	step(1)
	p.expect("250 ", "250 ")
	p.quit()
}

// TestT04_Chunks: only the last chunk has a reply for each recipient (RFC 2033 section 4.3).
func TestT04_Chunks(t *testing.T) {
	p := deliver(t, func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
		_, err := io.Copy(io.Discard, r)
		result(1, proto.Reply{}, errFull)
		return err
	})
	p.chunk("BDAT 3", "abc", "250 2.0.0 3 octets")
	p.chunk("BDAT 3 LAST", "def", "250 2.0.0 Message")
	p.expect("452 4.2.2", "250 2.0.0 Message")
	openThree(p)
	p.chunk("BDAT 3 LAST", "d\nf", "554 ")
	p.expect("554 ", "554 ")
	p.ask("NOOP", "250 ")
	p.quit()
}

// TestT01T03_Verbs: LHLO alone introduces a client, and content needs a recipient (RFC 2033 section 4).
func TestT01T03_Verbs(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{Protocol: proto.LMTP}))
	p.expect("220 ")
	p.ask("EHLO x", "500 ", "HELO x", "500 ", "LHLO", "501 ", "LHLO x", "250-", "MAIL FROM:<a@b.example>", "250 ",
		"DATA", "503 ")
	p.quit()
}

// A wellKnown is a listener of a port that tests cannot listen on. Nobody connects.
type wellKnown struct {
	addr   net.Addr
	closed chan struct{}
	once   sync.Once
}

func (l *wellKnown) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *wellKnown) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *wellKnown) Addr() net.Addr { return l.addr }

// TestT06_Port25: LMTP must not be used there (RFC 2033 section 5).
func TestT06_Port25(t *testing.T) {
	config, _ := tlsPair(t)
	loopback := net.IPv4(127, 0, 0, 1)
	for _, tt := range []struct {
		name     string
		protocol proto.Protocol
		addr     net.Addr
		refused  bool
	}{
		{"LMTP on 25", proto.LMTP, &net.TCPAddr{IP: loopback, Port: 25}, true},
		{"LMTP on 24", proto.LMTP, &net.TCPAddr{IP: loopback, Port: 24}, false},
		{"LMTP on a Unix socket", proto.LMTP, &net.UnixAddr{Name: "lmtp", Net: "unix"}, false},
		{"SMTP on 25", proto.SMTP, &net.TCPAddr{IP: loopback, Port: 25}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := newServer(t, &store{}, server.Options{Protocol: tt.protocol, TLSConfig: config})
			for _, serve := range []func(net.Listener) error{srv.Serve, srv.ServeTLS} {
				l := &wellKnown{addr: tt.addr, closed: make(chan struct{})}
				served := make(chan error, 1)
				go func() { served <- serve(l) }()
				if !tt.refused {
					l.Close()
					if err := <-served; !errors.Is(err, net.ErrClosed) {
						t.Errorf("%v, want it to accept until the listener is closed", err)
					}
					continue
				}
				if err := <-served; err == nil || !strings.HasPrefix(err.Error(), "smtp: LMTP ") || !strings.Contains(err.Error(), "port 25") {
					t.Errorf("%v, want an error about port 25", err)
				}
				select {
				case <-l.closed:
				default:
					t.Error("the listener is left open")
				}
			}
		})
	}
	srv := newServer(t, &store{}, server.Options{Protocol: proto.LMTP})
	if err := srv.ListenAndServe(""); err == nil || !strings.Contains(err.Error(), "which one") {
		t.Errorf("without a port: %v", err)
	}
}
