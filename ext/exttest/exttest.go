package exttest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
)

// A Sample is what cannot be learnt about an extension from its description: who takes part in it, and what can be said.
// All fields may be zero. Values of a parameter need not be given if it is a Flag, has Values, or takes one of a few
// common values such as a number, a word, an address or a time.
type Sample struct {
	// Session returns a session that takes part in the extension, a new one for each connection. The same dialogue has
	// to have the same replies each time. It need not be a server.Session: of one that is, the methods are called as
	// well. Nil is a session that has no more methods than it must.
	Session func() any
	// Identity is the name that the client has authenticated as; "" if it has not.
	Identity string
	// With are other extensions to have in the list, beyond those of ehlo.Default and those of package ext that Requires
	// names. One takes the place of another with its keyword.
	With []ext.Extension
	// Mail and Rcpt are parameters as they stand in commands, such as "RET=FULL ENVID=1", that the session accepts.
	// With RCPT the first of Mail is sent, if there is one.
	Mail, Rcpt []string
	// BadMail and BadRcpt are parameters that have to be refused with 501.
	BadMail, BadRcpt []string
	// Dialogues are scripts of package prototest for the verbs. They begin after the reply to EHLO, and say what follows up
	// to the end, or to the place where the client may hang up. TLS cannot be started in them.
	Dialogues []string
}

// Test tests e, and fails t for each rule that is broken. Each sample is tested by itself; without any, what needs a
// session that takes part cannot be tested, which is a failure if e is never on offer to others.
//
// A part of the test that finds something is the last one: those after it would mostly say the same in other words.
func Test(t *testing.T, e ext.Extension, samples ...Sample) {
	t.Helper()
	examine(e, samples, func(part string, flaws []error) {
		t.Run(part, func(t *testing.T) {
			for _, err := range flaws {
				t.Error(err)
			}
		})
	})
}

// Check is [Test] for use elsewhere: it returns the rules broken as errors, joined by errors.Join, and nil if there is none.
func Check(e ext.Extension, samples ...Sample) error {
	var all []error
	examine(e, samples, func(_ string, flaws []error) { all = append(all, flaws...) })
	return errors.Join(all...)
}

// patience is how long a function of the extension's, or a reply, may take. A few times it may take longer; then the test is
// given up.
const patience = 10 * time.Second

// examine runs the parts of the test one after the other, and tells of each what it has found.
func examine(e ext.Extension, samples []Sample, tell func(part string, flaws []error)) {
	if len(samples) == 0 {
		samples = []Sample{{}}
	}
	s := &suite{e: e, samples: samples}
	s.spied = s.spy(e)
	parts := []struct {
		name string
		run  func()
	}{
		{"description", s.description},
		{"offer", s.offer},
		{"values", s.values},
		{"parameters", s.parameters},
		{"verbs", s.verbs},
		{"dialogues", s.dialogues},
		{"client", s.client},
		{"concurrency", s.concurrency},
	}
	for _, p := range parts {
		p.run()
		if s.slow.exceeded() && s.sound() {
			s.broken("nothing may take for ever", "the test was kept waiting %d times and is given up, with the part %s: some "+
				"function does not return, such as Serve when the client is gone and Challenge has failed", mostSlow, p.name)
		}
		flaws := s.take()
		tell(p.name, flaws)
		if len(flaws) > 0 {
			return
		}
	}
}

// A suite is the test of one extension.
type suite struct {
	e       ext.Extension // as it was given
	spied   ext.Extension // with functions that are watched
	samples []Sample
	stages  []*stage // for each sample, where it is on offer, or where it can be if it never is

	mu        sync.Mutex
	flaws     []*flaw
	connected int // how often Negotiate was called

	slow slowness
}

// A flaw is a rule that was broken. Only the first of a kind is told, and how many others there are: a mistake in one place
// shows in many.
type flaw struct {
	kind, text, rule string          // the kind is the format of the text
	others           map[string]bool // the texts of the others
}

func (f *flaw) Error() string {
	text := f.text
	// An error of the library may name the rule itself.
	if i := strings.LastIndexByte(text, '('); !strings.HasPrefix(text[max(i, 0):], "(RFC ") || !strings.HasSuffix(text, ")") {
		text += " (" + f.rule + ")"
	}
	if n := len(f.others); n > 0 {
		text += fmt.Sprintf("; and %d more like it", n)
	}
	return text
}

// broken records that a rule was broken. The rule is an RFC section, or what else it follows from.
func (s *suite) broken(rule, format string, args ...any) {
	text := fmt.Sprintf("smtp: %s: %s", s.name(), fmt.Sprintf(format, args...))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.flaws {
		if f.kind == format {
			if f.text != text {
				f.others[text] = true
			}
			return
		}
	}
	s.flaws = append(s.flaws, &flaw{kind: format, text: text, rule: rule, others: make(map[string]bool)})
}

// sound reports whether the part that runs has found nothing so far.
func (s *suite) sound() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.flaws) == 0
}

// take returns what was found since it was called last.
func (s *suite) take() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var flaws []error
	for _, f := range s.flaws {
		flaws = append(flaws, f)
	}
	s.flaws = nil
	return flaws
}

// name is what the extension is called in errors.
func (s *suite) name() string {
	switch {
	case s.e.Keyword != "":
		return s.e.Keyword
	case len(s.e.Verbs) > 0:
		return "the extension of " + s.e.Verbs[0].Name
	}
	return "the extension without a keyword"
}

// within calls f and reports whether it returned in time.
func (s *suite) within(f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return s.slow.done(done)
}
