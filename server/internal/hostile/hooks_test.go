package hostile

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// A misfit is a session that does something else than it should in one of its methods.
type misfit struct {
	enterer
	hook string // the method, and where in it
	act  func(context.Context) error
}

func (m *misfit) at(ctx context.Context, hook string) error {
	if m.hook == hook {
		return m.act(ctx)
	}
	return nil
}

func (m *misfit) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	if err := m.at(ctx, "Mail"); err != nil {
		return err
	}
	return m.enterer.Mail(ctx, from, p)
}

func (m *misfit) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	return cmpErr(m.at(ctx, "Rcpt"), m.enterer.Rcpt(ctx, to, p))
}

func (m *misfit) FilterContent(ctx context.Context, r io.Reader) (io.Reader, error) {
	return r, m.at(ctx, "FilterContent")
}

func (m *misfit) Data(ctx context.Context, r io.Reader) error {
	return m.take(ctx, r, "Data", m.enterer.Data)
}

// take takes a message as next does, which reads it to its end.
func (m *misfit) take(
	ctx context.Context, r io.Reader, hook string, next func(context.Context, io.Reader) error,
) error {
	first := make([]byte, 1)
	if err := m.at(ctx, hook); err != nil {
		return err
	}
	if _, err := io.ReadFull(r, first); err != nil {
		return err
	}
	if err := m.at(ctx, hook+" in the midst"); err != nil {
		return err
	}
	rest, err := io.ReadAll(r)
	if err := cmpErr(err, m.at(ctx, hook+" at the end")); err != nil {
		return err
	}
	return next(ctx, io.MultiReader(bytes.NewReader(first), bytes.NewReader(rest)))
}

func (m *misfit) Reset(ctx context.Context) {
	m.enterer.Reset(ctx)
	_ = m.at(ctx, "Reset")
}

func (m *misfit) Close() error { return cmpErr(m.enterer.Close(), m.at(context.Background(), "Close")) }

func (m *misfit) Authenticate(ctx context.Context, _, _ string) error {
	return m.at(ctx, "Authenticate")
}

func (m *misfit) Authorize(ctx context.Context, _, _ string) error { return m.at(ctx, "Authorize") }

func (m *misfit) AuthOutcome(ctx context.Context, _ ext.AuthOutcome) { _ = m.at(ctx, "AuthOutcome") }

func (m *misfit) CheckSize(ctx context.Context, _ int64) error { return m.at(ctx, "CheckSize") }

func (m *misfit) Help(ctx context.Context, _ string) (string, error) {
	return "help", m.at(ctx, "Help")
}

func (m *misfit) Verify(ctx context.Context, _ string) (ehlo.Mailbox, error) {
	return mailbox, m.at(ctx, "Verify")
}

func (m *misfit) Expand(ctx context.Context, _ string) ([]ehlo.Mailbox, error) {
	return []ehlo.Mailbox{mailbox}, m.at(ctx, "Expand")
}

var mailbox = ehlo.Mailbox{Address: proto.Address{Local: "alice", Domain: mustDomain("d.example")}}

func mustDomain(s string) proto.Domain {
	d, err := proto.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

// A misfitEach is a misfit that decides for each recipient.
type misfitEach struct{ misfit }

func (m *misfitEach) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	return m.take(ctx, r, "DataEach", func(ctx context.Context, r io.Reader) error {
		return (&sorter{m.enterer}).DataEach(ctx, r, result)
	})
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A step is a line of a client's, and the methods that are called for it.
type step struct {
	line, want string
	hooks      []string
}

// steps returns what a client says to a session with all methods. The last step is behind QUIT.
func steps(p proto.Protocol) []step {
	auth := base64.StdEncoding.EncodeToString([]byte("bob\x00alice\x00secret"))
	all := []step{
		{"", "220", []string{"NewSession"}},
		{"EHLO client.example", "250", nil},
		{"AUTH PLAIN " + auth, "235", []string{"Authenticate", "Authorize", "AuthOutcome"}},
		{"VRFY alice", "250", []string{"Verify"}},
		{"EXPN list", "250", []string{"Expand"}},
		{"HELP", "214", []string{"Help"}},
		{"MAIL FROM:<a@b.example> SIZE=100", "250", []string{"CheckSize", "Mail"}},
		{"RCPT TO:<alice@d.example>", "250", []string{"Rcpt"}},
		{"DATA", "354", nil},
		{"misfit\r\n.", "250", []string{"FilterContent", "Data", "Data in the midst", "Data at the end"}},
		{"NOOP", "250", []string{"Reset"}},
		{"QUIT", "221", nil},
		{"", "", []string{"Close"}},
	}
	if p == proto.LMTP {
		all[1].line = "LHLO client.example"
		all[9].hooks = []string{"DataEach", "DataEach in the midst", "DataEach at the end"}
		all = slices.Delete(all, 4, 5)
	}
	return all
}

// A bench is a server with a client whose session misbehaves, and others whose sessions do not.
type bench struct {
	*testing.T
	*journal
	srv     *server.Server
	log     bytes.Buffer
	release chan struct{} // closed when a session may go on that ignores its context
	served  int           // messages of clients whose sessions do not misbehave
}

// misfitAddr is the address of the client whose session misbehaves.
var misfitAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 66), Port: 666}

func newBench(t *testing.T, p proto.Protocol, hook string, b behaviour) *bench {
	h := &bench{T: t, journal: &journal{}, release: make(chan struct{})}
	backend := func(ctx context.Context, c *server.Conn) (server.Session, error) {
		s := enterer{journal: h.journal}
		m := misfit{enterer: s, hook: hook, act: func(ctx context.Context) error { return b.act(h, ctx) }}
		if c.RemoteAddr() != misfitAddr {
			m.hook = ""
		} else if err := m.at(ctx, "NewSession"); err != nil {
			return nil, err
		}
		h.change(func() { h.made++ })
		if p == proto.LMTP {
			return &misfitEach{m}, nil
		}
		return &m, nil
	}
	h.srv = newServer(t, server.BackendFunc(backend), server.Options{
		Protocol: p, AllowInsecureAuth: true, Logger: slog.New(slog.NewTextHandler(&h.log, nil)),
	})
	return h
}

// dial connects from addr. The channel is closed when the server is done with the connection.
func (h *bench) dial(addr net.Addr) (*prototest.Peer, <-chan struct{}) {
	near, far := servertest.Pipe(addr, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 25), Port: 25})
	done := make(chan struct{})
	go func() {
		defer close(done)                                                  // also if the session ends the goroutine
		_ = h.srv.ServeConn(context.Background(), struct{ net.Conn }{far}) // which cannot be closed in one direction
	}()
	p := prototest.NewPeer(h, near)
	p.Timeout = 24 * time.Hour
	return p, done
}

// serveAnother has another client deliver a message, which must take no time.
func (h *bench) serveAnother(p proto.Protocol) {
	h.Helper()
	start := time.Now()
	peer, done := h.dial(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1})
	for _, s := range steps(p) {
		if s.line == "DATA" {
			break
		}
		if s.line != "" {
			peer.Say(s.line)
		}
		peer.Expect(s.want)
	}
	peer.Ask("DATA", "354", fmt.Sprintf("good %d\r\n.", h.served), "250", "QUIT", "221")
	peer.ExpectEnd()
	<-done
	h.served++
	if d := time.Since(start); d != 0 {
		h.Errorf("another client has to wait for %v", d)
	}
}

// A behaviour is what a session does that it should not do.
type behaviour struct {
	name string
	act  func(h *bench, ctx context.Context) error
	// check is called when the session does it. It returns when the connection is over.
	check func(h *bench, peer *prototest.Peer, done <-chan struct{}, hook string)
}

func behaviours() []behaviour {
	return []behaviour{
		{"panics", func(*bench, context.Context) error { panic("at the disco") }, checkPanic},
		{"ends its goroutine", func(*bench, context.Context) error { runtime.Goexit(); return nil }, checkExit},
		{"waits for its context", func(_ *bench, ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}, checkWait},
		{"ignores its context", func(h *bench, _ context.Context) error { <-h.release; return nil }, checkIgnore},
	}
}

// checkPanic finds that the client gets 421 and nothing more, and that the panic is logged.
func checkPanic(h *bench, peer *prototest.Peer, done <-chan struct{}, hook string) {
	if hook != "Close" {
		peer.Expect("421 ")
	}
	peer.ExpectEnd()
	<-done
	if text := h.log.String(); strings.Count(text, "disco") != 1 || !strings.Contains(text, "hooks_test.go") {
		h.Errorf("the log is %q, want the panic with its stack, once", text)
	}
}

func checkExit(_ *bench, peer *prototest.Peer, done <-chan struct{}, _ string) {
	peer.ExpectEnd()
	<-done
}

// checkWait hangs up, which ends the context of the session, and with it the connection. In front of the end of a
// message, it is for the reader to tell the session of that; there only the end of the server ends the context.
func checkWait(h *bench, peer *prototest.Peer, done <-chan struct{}, hook string) {
	time.Sleep(time.Second)
	if strings.HasPrefix(hook, "Data") && !strings.HasSuffix(hook, "at the end") || hook == "FilterContent" {
		_ = h.srv.Close()
	} else {
		peer.Close()
	}
	synctest.Wait()
	select {
	case <-done:
	default:
		h.Error("the context of the session does not end")
	}
}

// checkIgnore hangs up, for nothing. Shutdown waits as long as it is told to, and Close not at all.
func checkIgnore(h *bench, peer *prototest.Peer, done <-chan struct{}, hook string) {
	peer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	start := time.Now()
	if err := h.srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
		h.Errorf("Shutdown returns %v after %v", err, time.Since(start))
	}
	_ = h.srv.Close()
	if d := time.Since(start); d != 10*time.Second {
		h.Errorf("Close has returned after %v", d)
	}
	time.Sleep(time.Hour)
	select {
	case <-done:
		h.Error("the server is done with a connection that a session works for")
	default:
	}
	close(h.release)
	<-done
}

// TestH19_Hooks has a session misbehave in each of its methods. No other connection is affected; the message that the
// session was given is delivered only if the client was told so, and then once; and Reset and Close of the session are
// called.
func TestH19_Hooks(t *testing.T) {
	for _, p := range []proto.Protocol{proto.SMTP, proto.LMTP} {
		for _, b := range behaviours() {
			for i, s := range steps(p) {
				for _, hook := range s.hooks {
					if hook == "Close" && b.name == "waits for its context" {
						continue // it has none
					}
					t.Run(fmt.Sprintf("%v/%s/%s", p, hook, b.name), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { testHook(newBench(t, p, hook, b), p, hook, b, i) })
					})
				}
			}
		}
	}
}

func testHook(h *bench, p proto.Protocol, hook string, b behaviour, at int) {
	peer, done := h.dial(misfitAddr)
	for i, s := range steps(p) {
		if s.line != "" {
			peer.Say(s.line)
		}
		if i == at {
			break
		}
		peer.Expect(s.want)
	}
	synctest.Wait()
	h.serveAnother(p)
	b.check(h, peer, done, hook)
	if b.name == "panics" || b.name == "ends its goroutine" {
		h.serveAnother(p)
		if err := h.srv.Shutdown(h.Context()); err != nil {
			h.Errorf("Shutdown returns %v", err)
		}
	}
	got := h.take()
	least, most := 0, 0
	switch {
	case hook == "Reset" || hook == "Close": // behind the message
		least, most = 1, 1
	case b.name == "ignores its context" && (strings.HasPrefix(hook, "Data") || hook == "FilterContent"):
		most = 1 // the session has all of the message, and nobody can be told
	}
	if n := got.delivered[delivery{"alice", "misfit\r\n"}]; n < least || n > most {
		h.Errorf("the message is delivered %d times, want %d to %d", n, least, most)
	}
	for i := range h.served {
		if n := got.delivered[delivery{"alice", fmt.Sprintf("good %d\r\n", i)}]; n != 1 {
			h.Errorf("a message of another client is delivered %d times", n)
		}
	}
	if got.made != got.closed || got.begun != got.reset {
		h.Errorf("%d sessions were made and %d closed, %d transactions begun and %d reset",
			got.made, got.closed, got.begun, got.reset)
	}
}
