package servertest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// BackendOptions tell [TestBackend] what the backend takes. The zero value is for one that takes everything.
type BackendOptions struct {
	// From is a sender whom the backend takes. Default "alice@example.org".
	From string
	// To are recipients whom the backend takes, two or more. Default "bob@example.net" and "carol@example.net".
	To []string
	// Unknown is a recipient whom the backend refuses. Default: none, and that rule is not tested.
	Unknown string
	// User and Password are what the client authenticates with, by PLAIN. Default: it does not.
	User, Password string
	// Server has options of the server, such as its Extensions. The protocol, the limits and the logger are
	// those of TestBackend, and so is TLSConfig if it is nil.
	Server server.Options

	// Kept returns all messages that the backend has accepted since TestBackend began, such as the files in a Maildir. Of
	// each it has to fill in Raw, with CRLF at the ends of lines; there may be more in front of what the client sent, such
	// as a Received field. It fills in From and To if they are known. If there is a copy for each recipient, Kept fills in
	// To: copies of a message for different recipients are one message. Kept is called once, after all sessions. Without
	// Kept, the rules about messages that are kept are not tested.
	Kept func() []*Message
	// Patience is how long a method may take when its context has ended. Default 5 seconds.
	Patience time.Duration
}

// TestBackend tests whether the sessions of a backend keep the rules of server.Session. Each rule is a subtest. Its
// failure says what has happened, what the rule is, and what to do. A rule that was not tested is skipped, with the
// reason. The options may be nil.
//
// It sends messages in pieces and in chunks, to several recipients, in plaintext and behind STARTTLS; messages that are
// too large; bounces, odd addresses and wrong passwords; and content that is not lines of text, if Server.Extensions
// have BINARYMIME. It gives transactions up, hangs up at every octet of a
// dialogue, has several connections at a time, and calls methods with contexts that have ended.
//
// The messages have a Message-ID that ends with "@servertest.example". The backend has to be used by nobody else
// meanwhile. Sessions that have DataEach are tested with LMTP as well. Run the test with the race detector too.
func TestBackend(t *testing.T, b server.Backend, opt *BackendOptions) {
	t.Helper()
	x, err := newExam(b, opt)
	if err != nil {
		t.Fatal(err)
	}
	x.run()
	for _, r := range rules {
		t.Run(string(r.name), func(t *testing.T) { x.report(t, r) })
	}
}

// report tells the test of a rule how it is broken.
func (x *exam) report(t testing.TB, r ruleText) {
	t.Helper()
	broken := x.broken(r.name)
	for _, what := range broken {
		t.Errorf("%s.\n\tThe rule: %s.\n\tWhat to do: %s.", what, r.text, r.remedy)
	}
	if why := x.untested(r); why != "" && len(broken) == 0 {
		t.Skip("not tested: " + why)
	}
}

// untested returns why the rule was not tested, or "" if it was.
func (x *exam) untested(r ruleText) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.early && r.name != ruleTakes:
		return "the backend does not take what it should; see the rule " + string(ruleTakes)
	case r.needs == nil:
		return ""
	}
	return r.needs(x)
}

// An exam is a test of a backend.
type exam struct {
	opt     BackendOptions
	backend server.Backend
	server  *server.Server // that of the protocol in hand

	mu       sync.Mutex
	faults   map[rule][]string
	messages []*sent
	next     int
	each     bool // there is a session with DataEach
	renewed  bool // the server has offered STARTTLS
	early    bool // the first messages were not taken, and that was the end
	stride   int  // a hang-up is at each octet of a dialogue, or at each nth
	limit    int  // the size of the largest message that the server accepts
}

// A sent is a message that was sent.
type sent struct {
	id, content string
	to          []string
	scenario    string

	from   string
	params string // of MAIL
	shows  rule   // the rule that is broken if the envelope is that of another message
	loose  bool   // the recipients are those whom the backend accepts

	// What Data has done, guarded by exam.mu.
	accepted bool // it has read all, and returned nil
	cut      bool // the reader has returned an error
	tried    bool // it was called
}

func newExam(b server.Backend, opt *BackendOptions) (*exam, error) {
	if err := checkBackend(b); err != nil {
		return nil, err
	}
	x := &exam{backend: b, faults: make(map[rule][]string), stride: 1, limit: maxExamMessage}
	if opt != nil {
		x.opt = *opt
	}
	if x.opt.From == "" {
		x.opt.From = "alice@example.org"
	}
	if len(x.opt.To) == 0 {
		x.opt.To = []string{"bob@example.net", "carol@example.net"}
	}
	if len(x.opt.To) < 2 {
		return nil, fmt.Errorf("smtp: BackendOptions.To has %d recipients, and two are needed", len(x.opt.To))
	}
	addresses := append([]string{x.opt.From}, x.opt.To...)
	if x.opt.Unknown != "" {
		addresses = append(addresses, x.opt.Unknown)
	}
	for _, a := range addresses {
		if _, err := proto.ParseAddress(a); err != nil {
			return nil, fmt.Errorf("smtp: BackendOptions has the address %q: %w", a, err)
		}
	}
	if x.opt.Patience <= 0 {
		x.opt.Patience = 5 * time.Second
	}
	return x, nil
}

// checkBackend returns an error if there is no backend.
func checkBackend(b server.Backend) error {
	const text = "smtp: servertest.TestBackend needs a Backend"
	switch f := b.(type) {
	case nil:
		return errors.New(text)
	case server.MessageFunc:
		if f == nil {
			return errors.New(text + ", and the MessageFunc is nil")
		}
	case server.BackendFunc:
		if f == nil {
			return errors.New(text + ", and the BackendFunc is nil")
		}
	}
	return nil
}

// maxFaults is how many faults are reported for a rule.
const maxFaults = 3

// fail notes that a rule is broken.
func (x *exam) fail(r rule, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	x.mu.Lock()
	defer x.mu.Unlock()
	if list := x.faults[r]; len(list) < maxFaults && !slices.Contains(list, text) {
		x.faults[r] = append(list, text)
	}
}

func (x *exam) broken(r rule) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.faults[r])
}

// run plays all scenarios.
func (x *exam) run() {
	x.play(proto.SMTP)
	x.mu.Lock()
	each := x.each
	x.mu.Unlock()
	if each && len(x.broken(ruleTakes)) == 0 {
		x.play(proto.LMTP)
	}
	x.checkKept()
}

// newServer makes the server for a protocol.
func (x *exam) newServer(p proto.Protocol) error {
	opt := x.opt.Server
	opt.Protocol = p
	if p == proto.LMTP {
		opt.Extensions = nil
	}
	if opt.Hostname == "" {
		opt.Hostname = Hostname
	}
	opt.AllowInsecureAuth = true
	opt.Limits = server.Limits{Conns: -1, ConnsPerHost: -1, Errors: -1, MessageSize: int64(x.limit)}
	opt.Logger = examLogger(x)
	opt.Trace = examTrace(opt.Trace)
	opt.RequireTLS = false
	if opt.TLSConfig == nil {
		cert, err := certificate(Good, Hostname)
		if err != nil {
			return err
		}
		opt.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	srv, err := server.New(server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
		return x.newSession(ctx, c)
	}), &opt)
	x.server = srv
	return err
}
