package servertest

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
)

// Names of what a fault can be for, beside the verbs of commands.
const (
	Greeting  = "greeting"  // the first reply of a connection
	Content   = "content"   // the reply to the content of a message: to the final dot, or to the last chunk
	Handshake = "handshake" // the TLS handshake
	Any       = "any"       // every command and every reply, the greeting and the content included
)

// A Fault is something that the server does wrong, or does not want to do. The methods of Server declare faults:
//
//	srv.Fail("RCPT", 450).For("bob@").Times(2) // refuse the recipient twice, and then accept it
//	srv.Delay(servertest.Greeting, time.Minute) // greet slowly
//	srv.Drop(servertest.Content).Times(1)      // accept the message, and hang up in place of the reply
//
// Without Times a fault lasts until [Server.Reset]. Faults are asked in the order in which they were declared. One that
// refuses, one that delays, and one of the others can act on the same reply: the first of them that is not used up.
// Only a fault that acts is counted.
//
// Its methods may be called concurrently.
type Fault struct {
	all  *faults
	verb string
	kind kind
	made string // the call that has declared it

	code  int
	text  string
	delay time.Duration
	octet int64
	edit  func([]byte) []byte

	// These are guarded by all.mu.
	who    string // as For was given it
	arg    string // in lower case
	skip   int
	times  int // negative: always
	hits   int
	came   int  // how often the command came for which it is
	chunks bool // it is for DATA, and BDAT came
}

// A kind is what a fault does.
type kind uint8

const (
	refuse kind = iota
	delay
	drop
	dropAfter
	truncate
	garble
	stall
	stopReading
	dropContent
)

// A group is those kinds of which one can act at a time.
type group []kind

var (
	refusals  = group{refuse}
	delays    = group{delay}
	onReplies = group{drop, dropAfter, truncate, garble, stall, stopReading}
	onContent = group{dropContent}
)

// Times has the fault act n times more, and then no more. N is at least 1.
func (f *Fault) Times(n int) *Fault {
	f.all.t.Helper()
	if n < 1 {
		f.all.t.Fatalf("smtp: %s.Times(%d): a fault acts once or more: to have none, do not declare it, or call Reset",
			f.made, n)
	}
	return f.set(func() { f.times = f.hits + n })
}

// Skip has the fault leave out the first n occasions to act. N is not negative.
func (f *Fault) Skip(n int) *Fault {
	f.all.t.Helper()
	if n < 0 {
		f.all.t.Fatalf("smtp: %s.Skip(%d): the number of occasions to leave out is 0 or more", f.made, n)
	}
	return f.set(func() { f.skip = n })
}

// For has the fault act only on commands whose arguments contain text, in upper or lower case, such as
// "<bob@example.net>". For [Content] the arguments are those of MAIL and of each RCPT that came before.
func (f *Fault) For(text string) *Fault {
	return f.set(func() { f.who, f.arg = text, strings.ToLower(text) })
}

// Text sets the text of a refusal. It is "Refused by the test" otherwise.
func (f *Fault) Text(text string) *Fault { return f.set(func() { f.text = text }) }

// Hits returns how often the fault has acted.
func (f *Fault) Hits() int {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	return f.hits
}

func (f *Fault) set(change func()) *Fault {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	change()
	return f
}

// refusal is the reply of a fault that refuses.
func (f *Fault) refusal() *proto.Error {
	return proto.Refuse(f.code, proto.DefaultStatus(f.code), f.text)
}

// Faults are those of a server.
type faults struct {
	t testing.TB

	mu     sync.Mutex
	list   []*Fault // as many as the test declares
	past   []*Fault // those that Reset has ended, and that have never acted
	hidden map[string]bool
	chaos  *chaos // nil without
}

// An occasion is where a fault can act.
type occasion struct {
	names []string // the verb, Greeting, Content or Handshake
	args  string
}

// pick returns the fault that acts, and counts it. It returns nil if none does.
func (s *faults) pick(g group, o occasion) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		if !slices.Contains(g, f.kind) || !f.applies(o) || f.times == f.hits {
			continue
		}
		if f.skip > 0 {
			f.skip--
			continue
		}
		f.hits++
		return f
	}
	return nil
}

func (f *Fault) applies(o occasion) bool {
	named := slices.Contains(o.names, f.verb) || f.verb == Any && len(o.names) > 0 && !slices.Contains(o.names, Handshake)
	return named && strings.Contains(strings.ToLower(o.args), f.arg)
}

// shortestContent returns after how many octets of content a connection may have to be dropped.
func (s *faults) shortestContent() (n int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		if f.kind == dropContent && f.times != f.hits && (!ok || f.octet < n) {
			n, ok = f.octet, true
		}
	}
	return n, ok
}

func (s *faults) isHidden(keyword string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hidden[keyword]
}

// fault declares a fault. The call is the method of Server that does, and more are its other arguments.
func (s *Server) fault(verb string, k kind, call string, more ...any) *Fault {
	s.t.Helper()
	f := &Fault{all: &s.faults, verb: verb, kind: k, times: -1, made: callText(call, verb, more)}
	if why := verbError(verb); why != "" {
		s.t.Fatalf("smtp: %s: %s", f.made, why)
	}
	if verb == Handshake && k != drop && k != delay && k != stall && k != garble {
		s.t.Fatalf("smtp: %s: a fault of a TLS handshake is one of Drop, Delay, Stall and Garble", f.made)
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, f)
	return f
}

// Fail refuses with a code of 4yz or 5yz: a command, which the session does not see; [Content], which the session does
// not see either; or, for [Greeting], the client. The code 421 ends the connection too. Commands that the server
// refuses by itself, such as those out of sequence, are not counted. QUIT cannot be refused.
//
// To refuse a message use [Content]. "DATA" is the command alone, and clients that use BDAT in its place (RFC 3030)
// never send it.
//
// The verb is in upper case, as in all methods that declare faults. One that is in no RFC may be that of an extension.
//
// The client's limits hold: after some errors the server disconnects it; see server.Limits.
func (s *Server) Fail(verb string, code int) *Fault {
	s.t.Helper()
	switch {
	case code < 400 || code > 599:
		s.t.Fatalf("smtp: Fail(%q, %d): a refusal has a code from 400 to 599", verb, code)
	case strings.EqualFold(verb, "QUIT"):
		s.t.Fatal("smtp: QUIT cannot be refused: to change the reply use Garble")
	}
	f := s.fault(verb, refuse, "Fail", code)
	f.set(func() { f.code, f.text = code, "Refused by the test" })
	return f
}

// Delay has the reply wait for d, and those behind it too.
func (s *Server) Delay(verb string, d time.Duration) *Fault {
	s.t.Helper()
	f := s.fault(verb, delay, "Delay", d)
	if d < 0 {
		s.t.Fatalf("smtp: %s: a delay is not negative", f.made)
	}
	return f.set(func() { f.delay = d })
}

// Drop closes the connection in place of the reply. The command has been carried out: with [Content], the message has
// been accepted.
func (s *Server) Drop(verb string) *Fault {
	s.t.Helper()
	return s.fault(verb, drop, "Drop")
}

// DropAfter closes the connection after the reply.
func (s *Server) DropAfter(verb string) *Fault {
	s.t.Helper()
	return s.fault(verb, dropAfter, "DropAfter")
}

// Truncate closes the connection after the first n octets of the reply. N is not negative.
func (s *Server) Truncate(verb string, n int) *Fault {
	s.t.Helper()
	f := s.fault(verb, truncate, "Truncate", n)
	if n < 0 {
		s.t.Fatalf("smtp: %s: the number of octets that are sent is 0 or more", f.made)
	}
	return f.set(func() { f.octet = int64(n) })
}

// Garble sends what edit returns in place of the reply, whose octets it is given with all lines and their CRLF. Of a
// [Handshake] they are the first that the server sends, in which any change breaks it. Edit may be called concurrently.
func (s *Server) Garble(verb string, edit func(reply []byte) []byte) *Fault {
	s.t.Helper()
	f := s.fault(verb, garble, "Garble", edit)
	if edit == nil {
		s.t.Fatalf("smtp: %s: give it a function that returns what is sent", f.made)
	}
	return f.set(func() { f.edit = edit })
}

// Stall never sends the reply. The connection stays open until the client closes it, or the server is closed.
func (s *Server) Stall(verb string) *Fault {
	s.t.Helper()
	return s.fault(verb, stall, "Stall")
}

// StopReading reads nothing any more behind the reply, so that what the client sends fills the buffers in between. The
// connection stays open until a timeout of the server, or until the server is closed. For "DATA" it is the content that
// is not read.
func (s *Server) StopReading(verb string) *Fault {
	s.t.Helper()
	return s.fault(verb, stopReading, "StopReading")
}

// DropContent closes the connection when n octets of the content of a message have arrived, without an answer. The
// dots that SMTP adds for transparency count. N is not negative.
func (s *Server) DropContent(n int64) *Fault {
	s.t.Helper()
	f := s.fault(Content, dropContent, "DropContent", n)
	if n < 0 {
		s.t.Fatalf("smtp: %s: the number of octets is 0 or more", f.made)
	}
	return f.set(func() { f.octet = n })
}

// Hide leaves keywords such as "PIPELINING" out of the reply to EHLO. The server then behaves as one that lacks these
// extensions.
func (s *Server) Hide(keywords ...string) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if s.faults.hidden == nil {
		s.faults.hidden = make(map[string]bool)
	}
	for _, k := range keywords {
		s.faults.hidden[strings.ToUpper(k)] = true
	}
}

// Reset ends all faults, those of [Server.Chaos] too, and hides nothing. What a fault does already goes on: a reply
// that is delayed, and a connection from which the server does not read.
func (s *Server) Reset() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	for _, f := range s.faults.list {
		if f.hits == 0 {
			s.faults.past = append(s.faults.past, f)
		}
	}
	s.faults.list, s.faults.hidden, s.faults.chaos = nil, nil, nil
}
