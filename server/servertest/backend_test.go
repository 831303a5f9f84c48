package servertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A store is a backend that keeps to all rules, but for the one that is spoiled.
type store struct {
	spoiled string
	release chan struct{} // ends what blocks

	mu     sync.Mutex
	kept   []*Message
	seen   map[*server.Conn]bool
	shared *storeSession
}

func (st *store) is(spoiled string) bool { return st.spoiled == spoiled }

func (st *store) all() []*Message {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.kept
}

func (st *store) keep(m *Message) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.kept = append(st.kept, m)
}

func (st *store) NewSession(ctx context.Context, c *server.Conn) (server.Session, error) {
	s := &storeSession{st: st}
	switch {
	case st.is("no session at all"):
		return nil, errors.New("DIRECTORY-IS-GONE")
	case st.is("no session") && ctx.Err() != nil:
		return nil, nil
	case st.is("a code that is none") && ctx.Err() != nil:
		return nil, &proto.Error{Code: 250, Text: "no"}
	case st.is("NewSession blocks") && ctx.Err() != nil:
		<-st.release
	case st.is("one session for a connection"):
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.seen[c] {
			return nil, errors.New("there is a session")
		}
		st.seen[c] = true
	case st.is("a goroutine for each session"):
		go func() { <-st.release }()
	case st.is("one session for all"):
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.shared == nil {
			st.shared = s
		}
		return plainSession{st.shared}, nil
	case st.is("recipients of before"), st.is("keeps for whom it refuses"), st.is("a refusal that is none"):
		return plainSession{s}, nil
	case st.is("a wrong signature"):
		return wrongSession{plainSession{s}}, nil
	}
	return s, nil
}

// A plainSession has no DataEach.
type plainSession struct{ s *storeSession }

func (p plainSession) Mail(ctx context.Context, from proto.Address, params proto.Params) error {
	return p.s.Mail(ctx, from, params)
}

func (p plainSession) Rcpt(ctx context.Context, to proto.Address, params proto.Params) error {
	return p.s.Rcpt(ctx, to, params)
}

func (p plainSession) Data(ctx context.Context, r io.Reader) error { return p.s.Data(ctx, r) }

type wrongSession struct{ plainSession }

func (wrongSession) Reset() {}

type storeSession struct {
	st *store

	mu     sync.Mutex // of a session that connections share
	from   proto.Address
	to     []proto.Recipient
	reader io.Reader
	result func(int, proto.Reply, error)
}

// block waits for ever if the context has ended and the method is to be spoiled by that.
func (s *storeSession) block(ctx context.Context, spoiled string) {
	if s.st.is(spoiled) && ctx.Err() != nil {
		<-s.st.release
	}
}

func (s *storeSession) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	s.block(ctx, "Mail blocks")
	if s.st.is("parameters modified") && len(p) > 0 && p[0].Key == "SIZE" {
		p[0].Value = "0"
	}
	if s.st.is("refuses all") {
		return proto.Refuse(550, proto.Status{5, 7, 1}, "No")
	}
	if s.st.is("bounces refused") && from.IsNull() {
		return proto.Refuse(550, proto.Status{5, 7, 1}, "No bounces")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.st.is("sender of before") || !from.IsNull() {
		s.from = from
	}
	if !s.st.is("recipients of before") {
		s.to = nil
	}
	return nil
}

func (s *storeSession) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	s.block(ctx, "Rcpt blocks")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.is("fails for odd addresses") && strings.ContainsAny(to.Local, " /") {
		return errors.New("a file name with a blank or a slash")
	}
	unknown := to.Local == "unknown" && !s.st.is("accepts anybody")
	if !unknown || s.st.is("keeps for whom it refuses") {
		s.to = append(s.to, proto.Recipient{Address: to, Params: p})
	}
	if unknown {
		return proto.Refuse(550, proto.Status{5, 1, 1}, "No such mailbox")
	}
	return nil
}

func (s *storeSession) Data(ctx context.Context, r io.Reader) error {
	s.block(ctx, "Data blocks")
	s.mu.Lock()
	m := &Message{From: s.from, To: slices.Clone(s.to)}
	s.reader = r
	s.mu.Unlock()
	if s.st.is("reads the beginning") {
		_, err := io.CopyN(io.Discard, r, 10)
		return err
	}
	text, err := io.ReadAll(r)
	if err == nil && s.st.is("the disk is gone") {
		return errors.New("DISK-IS-GONE")
	}
	m.Raw = append([]byte("Received: by store; now\r\n"), text...)
	switch {
	case err != nil && s.st.is("keeps what is cut"):
		s.st.keep(m)
	case err != nil && s.st.is("keeps the beginning") && 0 < len(text) && len(text) < 40:
		s.st.keep(m)
	case err != nil && s.st.is("accepts what is cut"):
		return nil
	case err != nil && s.st.is("a refusal that is none"):
		return &proto.Error{Code: 250, Text: "no"}
	case err != nil && s.st.is("panics"):
		panic(err)
	}
	if err != nil {
		return err
	}
	if s.st.is("removes dots") {
		m.Raw = []byte(strings.ReplaceAll(string(m.Raw), "\r\n.", "\r\n"))
	}
	if s.st.is("makes lines of everything") {
		m.Raw = []byte(strings.ReplaceAll(strings.ReplaceAll(string(m.Raw), "\r\n", "\n"), "\n", "\r\n"))
	}
	for i, to := range m.To {
		if one := *m; strings.HasPrefix(s.st.spoiled, "copies for") {
			if one.To = []proto.Recipient{to}; s.st.is("copies for each without To") {
				one.To = nil
			}
			one.Raw = fmt.Appendf(nil, "Return-Path: <x>\r\nDelivered-To: %s\r\n%s", to.Address, m.Raw)
			if s.st.is("copies for each, and one is spoiled") && i == 1 {
				one.Raw = one.Raw[:len(one.Raw)-1]
			}
			s.st.keep(&one)
		}
	}
	if s.st.is("copies for a recipient twice") {
		s.st.keep(m)
	}
	if !s.st.is("keeps nothing") && !strings.HasPrefix(s.st.spoiled, "copies for") {
		s.st.keep(m)
	}
	if s.st.is("keeps twice") {
		s.st.keep(m)
	}
	return nil
}

func (s *storeSession) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	s.block(ctx, "DataEach blocks")
	if s.st.is("DataEach reads the beginning") {
		_, err := io.CopyN(io.Discard, r, 10)
		for i := range s.to {
			result(i, proto.Reply{}, err)
		}
		return err
	}
	s.result = result
	err := s.Data(ctx, r)
	if err == nil && s.st.is("an outcome too many") {
		result(len(s.to), proto.Reply{}, errors.New("who?"))
	}
	if s.st.is("two outcomes") {
		result(0, proto.Reply{}, err)
		result(0, proto.Reply{}, errors.New("the disk is full"))
	}
	if err != nil && s.st.is("a success that is none") {
		result(0, proto.Reply{Code: 354}, nil)
		return err
	}
	if err != nil && s.st.is("a refusal of a recipient that is none") {
		result(0, proto.Reply{}, &proto.Error{Code: 250})
	}
	for i := range s.to {
		result(i, proto.Reply{}, err)
	}
	return nil
}

func (s *storeSession) Authenticate(_ context.Context, user, password string) error {
	switch {
	case s.st.is("any password") || user == "alice" && password == "secret":
		return nil
	case s.st.is("the wrong error for a password"):
		return errors.New("wrong")
	}
	return auth.ErrCredentials
}

func (s *storeSession) Reset(ctx context.Context) {
	s.block(ctx, "Reset blocks")
	if s.st.is("reads too late") && s.reader != nil {
		s.reader.Read(make([]byte, 10))
	}
	if s.st.is("an outcome too late") && s.result != nil {
		s.result(0, proto.Reply{}, nil)
	}
	s.reader, s.result = nil, nil
}

// Notes are a test whose failures are looked at.
type notes struct {
	testing.TB
	text strings.Builder
	skip string
}

func (n *notes) Helper()                           {}
func (n *notes) Skip(args ...any)                  { n.skip += fmt.Sprint(args...) }
func (n *notes) Errorf(format string, args ...any) { fmt.Fprintf(&n.text, format+"\n", args...) }

// TestTestBackend spoils each rule, and finds that it is the one that is reported.
func TestTestBackend(t *testing.T) {
	reported := make(map[rule]bool)
	for _, tt := range []struct {
		spoiled string
		rule    rule // "" if none is broken
		want    string
	}{
		{"nothing", "", ""},
		{"refuses all", ruleTakes, `message 1 in pieces of 1048576 octets: to "MAIL FROM:<alice@example.org> SIZE=`},
		{"reads the beginning", ruleWhole, "Data has accepted the message after it has read 10 octets, and no io.EOF"},
		{"DataEach reads the beginning", ruleWhole, "DataEach has accepted the message after it has read 10 octets"},
		{"accepts what is cut", ruleFailed, `the reader has returned the error "unexpected EOF", and Data has accepted`},
		{"keeps what is cut", ruleKept, "a hang-up in the content, 30 octets before its end: the message did not arrive"},
		{"copies for each recipient", "", ""},
		{"copies for a recipient twice", ruleOnce, "the message was accepted, and 3 are kept"},
		{"copies for each without To", ruleOnce,
			"accepted, and 2 are kept. If there is a copy for each recipient, have Kept fill in To.\n"},
		{"copies for each, and one is spoiled", ruleOctets, "what is kept does not end with them"},
		{"makes lines of everything", ruleOctets, "a message with BODY=BINARYMIME: the message has "},
		{"the disk is gone", ruleTakes, `the server says "451 4.3.0 `},
		{"the disk is gone", ruleTakes, `, want 250; Data has returned "DISK-IS-GONE"`},
		{"no session at all", ruleTakes, `want 220; NewSession has returned "DIRECTORY-IS-GONE"`},
		{"keeps twice", ruleOnce, "the message was accepted, and 2 are kept"},
		{"keeps nothing", ruleOnce, "the message was accepted, and 0 are kept"},
		{"removes dots", ruleOctets, "what is kept does not end with them"},
		{"reads too late", ruleReader, "the reader was used after Data had returned"},
		{"NewSession blocks", ruleContext, "NewSession has not returned 5s after"},
		{"Mail blocks", ruleContext, "Mail has not returned 5s after"},
		{"Rcpt blocks", ruleContext, "Rcpt has not returned 5s after"},
		{"Data blocks", ruleContext, "Data has not returned 5s after"},
		{"DataEach blocks", ruleContext, "DataEach has not returned 5s after"},
		{"Reset blocks", ruleContext, "a hang-up behind MAIL: the client has hung up, and Reset has not returned"},
		{"recipients of before", ruleAnew, "a message behind another: the message to [carol@example.net] is kept for [bob@"},
		{"one session for all", ruleApart,
			"two transactions at a time: the message to [bob@example.net] is kept for [carol@"},
		{"an outcome too many", ruleOutcomes, "DataEach has told the outcome of the recipient 2 of 2, counted from 0"},
		{"an outcome too late", ruleOutcomes, "DataEach has told an outcome after it has returned"},
		{"two outcomes", ruleOutcomes, "DataEach has told two outcomes of the recipient 0"},
		{"a success that is none", ruleOutcomes, "DataEach has accepted a recipient with the code 354"},
		{"a refusal of a recipient that is none", ruleOutcomes, "DataEach has refused a recipient with the code 250"},
		{"a refusal that is none", ruleRefusals, "Data has refused with the code 250"},
		{"a code that is none", ruleRefusals, "NewSession has refused with the code 250"},
		{"no session", ruleRefusals, "NewSession has returned neither"},
		{"bounces refused", ruleNull, `a message from <>: to "MAIL FROM:<> SIZE=`},
		{"sender of before", ruleAnew, "a message from <>: the message from <> is kept as one from alice@example.org"},
		{"accepts anybody", ruleRefused, `to RCPT TO:<unknown@example.net>, which is BackendOptions.Unknown, the server`},
		{"keeps for whom it refuses", ruleRefused, "is kept for [bob@example.net unknown@example.net]"},
		{"fails for odd addresses", ruleAddresses, `Rcpt has failed for the address <"a b"@example.org>: a file name`},
		{"any password", ruleAuth, `the server says "235`},
		{"the wrong error for a password", ruleAuth, `the server says "454`},
		{"the wrong error for a password", ruleAuth, `want 535; authentication has failed with "wrong"`},
		{"one session for a connection", ruleRenewed, `a message behind STARTTLS: the server says "`},
		{"keeps the beginning", ruleKept, `a message is kept that was not sent, or the beginning of one: "Received`},
		{"parameters modified", ruleParams, "Mail has made [{SIZE 0 true}] of [{SIZE "},
		{"panics", rulePanics, "Data has panicked with: unexpected EOF"},
		{"a wrong signature", ruleSignatures, "Reset"},
		{"a goroutine for each session", ruleGoroutines, "there are 20 goroutines more after 20 sessions"},
	} {
		reported[tt.rule] = true
		t.Run(tt.spoiled, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := &store{spoiled: tt.spoiled, release: make(chan struct{}), seen: make(map[*server.Conn]bool)}
				defer close(st.release)
				opt := &BackendOptions{Kept: st.all, Unknown: "unknown@example.net"}
				if strings.HasSuffix(tt.spoiled, "password") {
					opt.User, opt.Password = "alice", "secret"
				}
				x, err := newExam(st, opt)
				if err != nil {
					t.Fatal(err)
				}
				if tt.spoiled != "nothing" && tt.spoiled != "keeps the beginning" {
					x.stride, x.limit = 50, 1<<18 // to save time
				}
				x.run()
				for _, r := range rules {
					report := &notes{}
					x.report(report, r)
					broken := report.text.String()
					switch {
					case r.name != tt.rule && broken != "":
						t.Errorf("%s: %q, want the rule %q alone", r.name, broken, tt.rule)
					case r.name == tt.rule && !(strings.Contains(broken, tt.want) && strings.Contains(broken, r.text) &&
						strings.Contains(broken, r.remedy)):
						t.Errorf("%s: %q, want %q, the rule and what to do", r.name, broken, tt.want)
					}
				}
			})
		})
	}
	for _, r := range rules {
		if !reported[r.name] {
			t.Errorf("no backend breaks the rule %q", r.name)
		}
	}
}

// TestGoodBackends has backends that keep to the rules, with options.
func TestGoodBackends(t *testing.T) {
	t.Run("store", func(t *testing.T) {
		st := &store{}
		TestBackend(t, st, &BackendOptions{Kept: st.all, Patience: time.Minute})
	})
	t.Run("MessageFunc without Kept", func(t *testing.T) {
		TestBackend(t, server.MessageFunc(func(_ context.Context, m *server.Message) error {
			_, err := io.Copy(io.Discard, m.Body)
			return err
		}), nil)
	})
	t.Run("the backend of servertest, with a password", func(t *testing.T) {
		backend, err := backendOf(&Options{Users: map[string]string{"alice": "secret"}})
		if err != nil {
			t.Fatal(err)
		}
		TestBackend(t, backend, &BackendOptions{
			User: "alice", Password: "secret", From: "alice@example.com", To: []string{"x@example.com", "y@example.com"},
			Server: server.Options{RequireAuth: true},
		})
	})
	for want, b := range map[string]server.Backend{
		"smtp: servertest.TestBackend needs a Backend":                             nil,
		"smtp: servertest.TestBackend needs a Backend, and the MessageFunc is nil": server.MessageFunc(nil),
		"smtp: servertest.TestBackend needs a Backend, and the BackendFunc is nil": server.BackendFunc(nil),
	} {
		if _, err := newExam(b, nil); err == nil || err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
	for _, opt := range []BackendOptions{
		{From: "no address"}, {To: []string{"one@example.net"}}, {To: []string{"one@example.net", ""}},
	} {
		if _, err := newExam(&store{}, &opt); err == nil || !strings.HasPrefix(err.Error(), "smtp: BackendOptions") {
			t.Errorf("%+v: %v", opt, err)
		}
	}
}
