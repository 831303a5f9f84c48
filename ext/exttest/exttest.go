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

// A Sample tells [Test] what the description of an extension does not: which session takes part in it, and which
// parameters and commands are valid.
//
// All fields may be zero. A parameter needs no sample if it is a Flag, has Values, or accepts one of a few common
// values, such as a number, a word, an address or a time.
type Sample struct {
	// Session returns a new session that takes part in the extension. It is called for each connection. The same dialogue
	// must get the same replies each time. The session need not be a server.Session; if it is, its methods are called too.
	// Nil stands for a session that only takes messages.
	Session func() any
	// Identity is the name under which the client has authenticated, or "".
	Identity string
	// With has more extensions for the list. Those of ehlo.Default are in it, and those of package ehlo that Requires
	// names. One with the keyword of another replaces it.
	With []ext.Extension
	// Mail and Rcpt are parameters that the session accepts, as they stand in a command, such as "RET=FULL ENVID=1". If
	// Mail is not empty, its first element is sent before each of Rcpt.
	Mail, Rcpt []string
	// BadMail and BadRcpt are parameters that the server must refuse with 501.
	BadMail, BadRcpt []string
	// Dialogues are scripts for the verbs, in the form that prototest.Script documents. A script begins after the reply to
	// EHLO. It goes to the end of the session, or to a place where the client may hang up. It cannot start TLS.
	Dialogues []string
}

// Test tests e, and fails t for each rule that is broken. It tests each sample separately. Without a sample, the
// session does not take part in e; it is a failure if e is then never advertised.
//
// Test ends after the first part that finds something, since the next ones would mostly report the same mistake in
// other words.
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

// Check is [Test] without a testing.T. It returns the broken rules as errors, joined by errors.Join, or nil if there is
// none.
func Check(e ext.Extension, samples ...Sample) error {
	var all []error
	examine(e, samples, func(_ string, flaws []error) { all = append(all, flaws...) })
	return errors.Join(all...)
}

// timeout is how long a function of the extension, or a reply, may take. After maxDelays timeouts the test is given up.
const timeout = 10 * time.Second

// examine runs the parts of the test one after the other, and reports what each has found.
func examine(e ext.Extension, samples []Sample, report func(part string, flaws []error)) {
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
		if s.delays.exceeded() && s.found.none() {
			s.broken("nothing may take for ever", "the test was kept waiting %d times and is given up, with the part %s: some "+
				"function does not return, such as Serve when the client is gone and Challenge has failed", maxDelays, p.name)
		}
		flaws := s.found.flush()
		report(p.name, flaws)
		if len(flaws) > 0 {
			return
		}
	}
}

// A suite is the test of one extension.
type suite struct {
	e        ext.Extension // as it was given
	spied    ext.Extension // with functions that check what those of e do
	samples  []Sample
	settings []*setting // for each sample, one in which e is advertised, or any if there is none

	found  findings
	delays delays
}

// findings are what a part of a suite has found. They may be added to from several goroutines.
type findings struct {
	mu        sync.Mutex
	flaws     []*flaw
	connected int // how often Negotiate was called
}

// A flaw is a rule that was broken. One mistake shows in many places, so only the first flaw of a kind is reported,
// with the number of the others.
type flaw struct {
	kind, text, rule string          // the kind is the format of the text
	others           map[string]bool // the texts of other flaws of the kind
}

func (f *flaw) Error() string {
	text := f.text
	// An error of the library may have the rule in its text.
	if i := strings.LastIndexByte(text, '('); !strings.HasPrefix(text[max(i, 0):], "(RFC ") || !strings.HasSuffix(text, ")") {
		text += " (" + f.rule + ")"
	}
	if n := len(f.others); n > 0 {
		text += fmt.Sprintf("; and %d more like it", n)
	}
	return text
}

// broken records that a rule was broken. The rule is a section of an RFC, or where else it is written.
func (s *suite) broken(rule, format string, args ...any) {
	s.found.add(rule, format, fmt.Sprintf("smtp: %s: %s", s.name(), fmt.Sprintf(format, args...)))
}

func (f *findings) add(rule, kind, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, other := range f.flaws {
		if other.kind == kind {
			if other.text != text {
				other.others[text] = true
			}
			return
		}
	}
	f.flaws = append(f.flaws, &flaw{kind: kind, text: text, rule: rule, others: make(map[string]bool)})
}

// none reports whether the current part has found nothing so far.
func (f *findings) none() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.flaws) == 0
}

// flush returns what was found since its last call.
func (f *findings) flush() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var flaws []error
	for _, found := range f.flaws {
		flaws = append(flaws, found)
	}
	f.flaws = nil
	return flaws
}

// negotiated counts a call of Negotiate.
func (f *findings) negotiated() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connected++
}

// negotiations returns how often Negotiate was called.
func (f *findings) negotiations() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.connected
}

// name returns the name of the extension for errors.
func (s *suite) name() string {
	switch {
	case s.e.Keyword != "":
		return s.e.Keyword
	case len(s.e.Verbs) > 0:
		return "the extension of " + s.e.Verbs[0].Name
	}
	return "the extension without a keyword"
}

// completes calls f and reports whether it returned in time.
func (s *suite) completes(f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return s.delays.closed(done)
}
