package servertest

import (
	"context"
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
	// User and Password are what the client authenticates with, by PLAIN. Default: it does not.
	User, Password string
	// Server has options of the server, such as its Extensions. The protocol and the limits are TestBackend's own.
	Server server.Options

	// Kept returns the messages that the backend has accepted and whose content contains id, such as a file in a Maildir.
	// Of each it has to fill in Raw, which may have more in front of what the client sent, such as a Received field. It
	// fills in From and To if they are known. Kept may be called concurrently. Without Kept, the rules about messages that
	// are kept are not tested.
	Kept func(id string) []*Message
	// Patience is how long a method may take when its context has ended. Default 5 seconds.
	Patience time.Duration
}

// TestBackend tests whether the sessions of a backend keep the rules of server.Session, with messages of several kinds:
// in pieces and in chunks, given up, cut off in every state, over connections at the same time, and with contexts that
// have ended. Each rule is a subtest, and its failure says what the rule is, what has happened, and what to do. The
// options may be nil.
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
	if r.kept && x.opt.Kept == nil {
		t.Log("not tested: BackendOptions has no Kept")
	}
	for _, what := range x.broken(r.name) {
		t.Errorf("%s.\n\tThe rule: %s.\n\tWhat to do: %s.", what, r.text, r.remedy)
	}
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
}

// A sent is a message that was sent.
type sent struct {
	id, content string
	to          []string
	scenario    string
	apart       bool // another connection had a transaction at the same time

	// What Data has done, guarded by exam.mu.
	accepted bool // it has read all, and returned nil
	cut      bool // the reader has returned an error
	tried    bool // it was called
}

func newExam(b server.Backend, opt *BackendOptions) (*exam, error) {
	x := &exam{backend: b, faults: make(map[rule][]string)}
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
	for _, a := range append([]string{x.opt.From}, x.opt.To...) {
		if _, err := proto.ParseAddress(a); err != nil {
			return nil, fmt.Errorf("smtp: BackendOptions has the address %q: %w", a, err)
		}
	}
	if x.opt.Patience <= 0 {
		x.opt.Patience = 5 * time.Second
	}
	return x, nil
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

// checkKept compares what is kept with what was accepted.
func (x *exam) checkKept() {
	if x.opt.Kept == nil {
		return
	}
	x.mu.Lock()
	messages := slices.Clone(x.messages)
	x.mu.Unlock()
	for _, m := range messages {
		x.mu.Lock()
		accepted, cut, tried := m.accepted, m.cut, m.tried
		x.mu.Unlock()
		kept := x.opt.Kept(m.id)
		switch {
		case len(kept) > 0 && (cut || !tried):
			x.fail(ruleKept, "%s: the message did not arrive to its end, and there is one: %v", m.scenario, kept[0])
		case accepted && len(kept) != 1:
			x.fail(ruleOnce, "%s: the message was accepted, and %d are kept", m.scenario, len(kept))
		case !accepted && len(kept) > 0:
			x.fail(ruleOnce, "%s: the message was refused, and %d are kept", m.scenario, len(kept))
		case accepted:
			x.compare(m, kept[0])
		}
	}
}

// compare compares the message that is kept with the one that was sent.
func (x *exam) compare(m *sent, kept *Message) {
	if raw := string(kept.Raw); len(raw) < len(m.content) || raw[len(raw)-len(m.content):] != m.content {
		x.fail(ruleOctets, "%s: the message has %d octets, and what is kept does not end with them: it has %d", m.scenario,
			len(m.content), len(raw))
	}
	if len(kept.To) == 0 {
		return
	}
	var to []string
	for _, r := range kept.To {
		to = append(to, r.Address.Key())
	}
	var want []string
	for _, a := range m.to {
		address, _ := proto.ParseAddress(a)
		want = append(want, address.Key())
	}
	slices.Sort(to)
	slices.Sort(want)
	if slices.Equal(to, want) {
		return
	}
	r := ruleAnew
	if m.apart {
		r = ruleApart
	}
	x.fail(r, "%s: the message to %v is kept for %v", m.scenario, want, to)
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
	opt.Limits = server.Limits{Conns: -1, ConnsPerHost: -1, Errors: -1}
	opt.Logger = examLogger(x)
	srv, err := server.New(server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
		return x.newSession(ctx, c)
	}), &opt)
	x.server = srv
	return err
}
