package ehlo_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// ownTLS returns the configuration of a server with a self-made certificate, and that of a client that trusts it.
func ownTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	cert, pool := prototest.Certificate(t, "mail.example")
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: pool, ServerName: "mail.example"}
}

// listening serves b on the loopback and returns the address. It closes the server at the end of the test.
func listening(t *testing.T, b server.Backend, opt server.Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, b, opt)
	return l.Addr().String()
}

func serving(t *testing.T, l net.Listener, b server.Backend, opt server.Options) {
	t.Helper()
	opt.Hostname, opt.Logger = "mail.example", slog.New(slog.DiscardHandler)
	srv, err := server.New(b, &opt)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
}

// An able session implements the interfaces of all parameters, and records those that it gets.
type able struct {
	keeper
	mail, rcpt []proto.Params
	quota      ehlo.Quota
	highest    ehlo.Priority
}

func (a *able) Mail(_ context.Context, _ proto.Address, p proto.Params) error {
	a.mail = append(a.mail, p)
	return nil
}

func (a *able) Rcpt(_ context.Context, _ proto.Address, p proto.Params) error {
	a.rcpt = append(a.rcpt, p)
	if ehlo.ReadConNeg(p) {
		return ehlo.ContentReply("(image-file-structure=TIFF)").Err()
	}
	return nil
}

func (a *able) NotifiesSenders() bool          { return true }
func (a *able) KeepsTLS() bool                 { return true }
func (a *able) PriorityPolicy() string         { return "MIXER" }
func (a *able) HighestPriority() ehlo.Priority { return a.highest }
func (a *able) MinDeliverBy() time.Duration    { return time.Minute }
func (a *able) HoldsMail() bool                { return true }
func (a *able) TracksMessages() bool           { return true }
func (a *able) Converts() bool                 { return true }
func (a *able) NegotiatesContent() bool        { return true }
func (a *able) Quota() *ehlo.Quota             { return &a.quota }

func (a *able) CheckOwnership(_ context.Context, to proto.Address, _ time.Time) error {
	if to.Local == "sold" {
		return ehlo.ErrOwnerChanged
	}
	return nil
}

func (a *able) Unwanted(_ context.Context, to proto.Address) ([]string, error) {
	return []string{"org.example:" + to.Local}, nil
}

func (a *able) PermitsSubmitter(_ context.Context, who proto.Address) (bool, error) {
	return who.Local == "alice", nil
}

func (a *able) StartQueue(_ context.Context, node ehlo.Node) (int, error) {
	if node.Name == "limit.example" {
		a.quota.MailMax = 7
	}
	return 14, nil
}

// all returns the extensions of parameters, for a server to which anybody may submit.
func all() []ext.Extension {
	anybody := ehlo.SubmissionPolicy{Trusted: func(ext.ServerConn) bool { return true }}
	return append(ehlo.Default(), ehlo.FutureRelease(ehlo.HoldLimits{Interval: time.Hour}), ehlo.NoSoliciting("net.example:ADV"), ehlo.MTRK(),
		ehlo.Submitter(), ehlo.ConPerm(), ehlo.ConNeg(), anybody.Extension())
}

// dialIn returns the extensions of a server that keeps mail for hosts that dial in.
func dialIn() []ext.Extension { return append(ehlo.Default(), ehlo.ETRN()) }

// say sends the lines to a server of all extensions one by one, and returns the last reply. Each line has one reply
// while the connection lasts.
func say(t *testing.T, s server.Session, lines ...string) string {
	t.Helper()
	return sayTo(t, all(), s, lines...)
}

// sayTo does the same with a server that has the extensions of list.
func sayTo(t *testing.T, list []ext.Extension, s server.Session, lines ...string) string {
	t.Helper()
	srv := newServer(t, s, &server.Options{Hostname: "mail.example", Extensions: list, MaxRcpts: 3})
	return talk(t, srv, lines...)
}

// A replyCase is what a client says after EHLO, line by line, and how the last reply begins.
type replyCase struct {
	name  string
	lines []string
	want  string
}

// testReplies sends commands that our client would not send, to a server of all extensions.
func testReplies(t *testing.T, session func() server.Session, cases []replyCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			if got := say(t, session(), append([]string{Caps}, tt.lines...)...); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q: %q, want %q", tt.lines, got, tt.want)
			}
		})
	}
}

func ableSession() server.Session { return &able{} }

// talk sends the lines to srv one by one, and returns the last reply.
func talk(t *testing.T, srv *server.Server, lines ...string) string {
	t.Helper()
	_, raw := over(t, srv, nil)
	p := prototest.NewPeer(t, raw())
	last := p.Reply()
	for _, line := range lines {
		p.Say(line)
		last = p.Reply()
	}
	return last
}

const (
	Caps  = "EHLO client.example"
	from  = "MAIL FROM:<a@b.example>"
	to    = "RCPT TO:<c@d.example>"
	mtrk  = "MTRK=5en6G6MezRroT3XKqkdPOmY/BfQ"
	since = "RRVS=2014-04-03T23:01:00Z"
)

// A witness is a backend that records the client of each message.
type witness struct {
	mu   sync.Mutex
	seen []witnessed
}

type witnessed struct {
	remote, peer, identity string
	origin                 *ext.Origin // by XCLIENT
	recorded               ext.Origin  // by XFORWARD
	body                   string
}

func (w *witness) NewSession(_ context.Context, c *server.Conn) (server.Session, error) {
	return &witnessSession{w: w, conn: c}, nil
}

type witnessSession struct {
	w        *witness
	conn     *server.Conn
	recorded ext.Origin
}

func (s *witnessSession) Mail(context.Context, proto.Address, proto.Params) error { return nil }
func (s *witnessSession) Rcpt(context.Context, proto.Address, proto.Params) error { return nil }

func (s *witnessSession) Data(_ context.Context, r io.Reader) error {
	body, err := io.ReadAll(r)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.seen = append(s.w.seen, witnessed{
		s.conn.RemoteAddr().String(), s.conn.PeerAddr().String(), s.conn.Identity(), s.conn.Origin(), s.recorded, string(body),
	})
	return err
}

func (s *witnessSession) Reset(context.Context) { s.recorded = ext.Origin{} }

func (s *witnessSession) RecordOrigin(_ context.Context, o ext.Origin) error {
	s.recorded.Merge(o)
	return nil
}

func (s *witnessSession) Authenticate(_ context.Context, user, password string) error {
	if password != "secret of "+user {
		return auth.ErrCredentials
	}
	return nil
}

func send(t *testing.T, c *client.Client, body string) {
	t.Helper()
	m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// A talker sends lines to a server.
type talker struct {
	t    *testing.T
	nc   net.Conn
	text string
}

// newTalker returns a talker to the server at addr, which has sent its greeting.
func newTalker(t *testing.T, addr string) *talker {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	p := &talker{t: t, nc: nc}
	p.expect("220 ")
	return p
}

// deliver sends a whole message.
func (p *talker) deliver() {
	p.t.Helper()
	p.say("MAIL FROM:<a@b.example>", "250 ")
	p.say("RCPT TO:<c@d.example>", "250 ")
	p.say("DATA", "354 ")
	p.say(".", "250 ")
}

func (p *talker) say(line, want string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, line+"\r\n"); err != nil {
		p.t.Fatal(err)
	}
	p.expect(want)
}

// expect reads a reply.
func (p *talker) expect(want string) string {
	p.t.Helper()
	reply := ""
	for {
		line, rest, ok := strings.Cut(p.text, "\r\n")
		if !ok {
			b := make([]byte, 4096)
			n, err := p.nc.Read(b)
			if err != nil {
				p.t.Fatalf("waiting for %q: %v", want, err)
			}
			p.text += string(b[:n])
			continue
		}
		p.text = rest
		reply += line + "\r\n"
		if len(line) > 3 && line[3] == ' ' {
			break
		}
	}
	if !strings.HasPrefix(reply, want) {
		p.t.Fatalf("the server says %q, want %q", reply, want)
	}
	return reply
}

// A registrar is a session that supports every extension of the registry, and records what it gets.
type registrar struct {
	able
	conn       *server.Conn
	from, user proto.Address
	body       string
}

func (r *registrar) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	r.from = from
	return r.able.Mail(ctx, from, p)
}

func (r *registrar) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	r.user = to
	return r.able.Rcpt(ctx, to, p)
}

func (r *registrar) Data(_ context.Context, body io.Reader) error {
	b, err := io.ReadAll(body)
	r.body = string(b)
	return err
}

func (r *registrar) Authenticate(_ context.Context, user, password string) error {
	if user != "alice" || password != "secret" {
		return auth.ErrCredentials
	}
	return nil
}

func (r *registrar) Expand(context.Context, string) ([]ehlo.Mailbox, error) {
	return []ehlo.Mailbox{{Name: "C", Address: r.user}, {Address: r.user}}, nil
}

// A meeting is our client connected to our server, under TLS.
type meeting struct {
	c       *client.Client
	session *registrar
	log     []string // of the client: "C: " and a command, "S: " and a code
	res     *client.Result
}

// meet connects a client to a server, both with the extensions of list.
func meet(t *testing.T, list []ext.Extension, without ...string) *meeting {
	t.Helper()
	m := &meeting{}
	theirs, ours := ownTLS(t)
	addr := listening(t, server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		m.session = &registrar{able: able{highest: 9, quota: ehlo.Quota{MailMax: 50}}, conn: c}
		return m.session, nil
	}), server.Options{Extensions: list, TLSConfig: theirs, MaxSize: 1000, MaxRcpts: 100})
	c, err := client.Dial(t.Context(), addr, &client.Options{
		Extensions: list, TLSConfig: ours, Without: without, Credentials: auth.Password("alice", "secret", "PLAIN"),
		Trace: &client.Trace{
			Command: func(_ context.Context, _ *client.Client, verb, args string) {
				m.log = append(m.log, "C: "+strings.TrimSpace(verb+" "+args))
			},
			Reply: func(_ context.Context, _ *client.Client, _ string, r proto.Reply) {
				m.log = append(m.log, fmt.Sprint("S: ", r.Code))
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	m.c = c
	return m
}

// send sends a message after change.
func (m *meeting) send(t *testing.T, body string, change func(*client.Message)) error {
	t.Helper()
	msg, err := client.NewMessage("a@b.example", []string{"c@d.example"}, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(msg)
	}
	m.log = nil
	m.res, err = m.c.Send(t.Context(), msg)
	return err
}

// said reports whether the lines are in the log, one directly after the other.
func (m *meeting) said(lines ...string) bool {
	return strings.Contains("\n"+strings.Join(m.log, "\n")+"\n", "\n"+strings.Join(lines, "\n")+"\n")
}

// does reports whether the reply to a command has the code.
func (m *meeting) does(t *testing.T, verb, args string, code int) bool {
	t.Helper()
	r, err := m.c.Do(t.Context(), verb, args)
	return err == nil && r.Code == code
}

// A forwarder is a session that relays each message to the next server before it accepts it.
type forwarder struct {
	next func(context.Context) (*client.Client, error)
	m    client.Message
}

func (r *forwarder) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	r.m = client.Message{From: from}
	return nil
}

func (r *forwarder) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	r.m.To = append(r.m.To, proto.Recipient{Address: to})
	return nil
}

func (r *forwarder) Data(ctx context.Context, body io.Reader) error {
	c, err := r.next(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	r.m.Body = body
	_, err = c.Send(ctx, &r.m)
	return err
}

// over returns two functions: one connects a client to srv by a pipe, the other returns a bare connection.
func over(t *testing.T, srv *server.Server, opt *client.Options) (func(context.Context) (*client.Client, error), func() net.Conn) {
	raw := func() net.Conn {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.ServeConn(context.Background(), far)
		}()
		t.Cleanup(func() {
			near.Close()
			<-done
		})
		return near
	}
	return func(ctx context.Context) (*client.Client, error) {
		return client.NewClient(ctx, raw(), "next.example", opt)
	}, raw
}

func backend(s server.Session) server.Backend {
	return server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) { return s, nil })
}

func newServer(t *testing.T, s server.Session, opt *server.Options) *server.Server {
	t.Helper()
	srv, err := server.New(backend(s), opt)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// keeper records the recipients of its messages.
type keeper struct{ to []string }

func (k *keeper) Mail(context.Context, proto.Address, proto.Params) error { return nil }

func (k *keeper) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	k.to = append(k.to, to.String())
	if len(p) > 0 {
		k.to = append(k.to, "with parameters")
	}
	return nil
}

func (k *keeper) Data(_ context.Context, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
