package servertest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
)

// An Inbox has the messages that a server has accepted, in the order in which it accepted them. Its methods may be
// called concurrently, except that Wait and WaitN have to be called in the goroutine of the test.
//
// It keeps the last Options.Keep messages, and forgets the oldest of those that have more than 256 MiB together.
type Inbox struct {
	t     testing.TB
	keep  int
	delay time.Duration // Options.Wait

	mu      sync.Mutex
	list    []*Message
	octets  int
	added   chan struct{} // closed when a message is added
	dropped int           // how many were forgotten
}

// maxOctets is how much content an Inbox keeps.
const maxOctets = 256 << 20

func newInbox(t testing.TB, keep int, delay time.Duration) *Inbox {
	if keep <= 0 {
		keep = 1000
	}
	if delay <= 0 {
		delay = 10 * time.Second
	}
	return &Inbox{t: t, keep: keep, delay: delay, added: make(chan struct{})}
}

func (in *Inbox) add(m *Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.list = append(in.list, m)
	in.octets += len(m.Raw)
	for len(in.list) > in.keep || in.octets > maxOctets && len(in.list) > 1 {
		in.octets -= len(in.list[0].Raw)
		in.list[0] = nil
		in.list = in.list[1:]
		in.dropped++
	}
	close(in.added)
	in.added = make(chan struct{})
}

// All returns the messages that match, which may be none.
func (in *Inbox) All(match ...Match) []*Message {
	found, _ := in.find(match)
	return found
}

// Clear forgets all messages.
func (in *Inbox) Clear() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.list, in.octets, in.dropped = nil, 0, 0
}

// find returns the messages that match, and what is closed when there is another message.
func (in *Inbox) find(match []Match) ([]*Message, <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	var found []*Message
	for _, m := range in.list {
		if matches(m, match) {
			found = append(found, m)
		}
	}
	return found, in.added
}

// Wait returns the first message that matches, and waits for it if it has not arrived yet. The test ends with a failure
// if none arrives in Options.Wait. Wait does not remove the message: see [Inbox.Clear].
func (in *Inbox) Wait(match ...Match) *Message {
	in.t.Helper()
	return in.WaitN(1, match...)[0]
}

// WaitN is Wait for the first n messages that match. N is at least 1.
func (in *Inbox) WaitN(n int, match ...Match) []*Message {
	in.t.Helper()
	if n < 1 {
		in.t.Fatalf("smtp: WaitN(%d): wait for 1 message or more; All tells whether there is none", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), in.delay)
	defer cancel()
	found, err := in.WaitContext(ctx, n, match...)
	if err != nil {
		in.t.Fatalf("in %v: %v", in.delay, err)
	}
	return found
}

// WaitContext returns the first n messages that match, and waits until they have arrived. If ctx ends before that, it
// returns those that have, and an error that tells what arrived instead and wraps the error of ctx. N is at least 1.
func (in *Inbox) WaitContext(ctx context.Context, n int, match ...Match) ([]*Message, error) {
	if n < 1 {
		return nil, fmt.Errorf("smtp: WaitContext for %d messages: wait for 1 or more; All tells whether there is none", n)
	}
	for {
		found, added := in.find(match)
		if len(found) >= n {
			return found[:n], nil
		}
		select {
		case <-added:
		case <-ctx.Done():
			return found, in.missing(ctx.Err(), len(found), n, match)
		}
	}
}

// maxShown is how many messages an error describes.
const maxShown = 20

// missing returns an error that says what arrived in place of n messages that match.
func (in *Inbox) missing(err error, found, n int, match []Match) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	var b strings.Builder
	if n == 1 {
		b.WriteString("no message")
	} else {
		fmt.Fprintf(&b, "%d of %d messages", found, n)
	}
	for i, m := range match {
		if i > 0 {
			b.WriteString(" and")
		}
		b.WriteString(" " + m.what)
	}
	b.WriteString(" arrived")
	if len(in.list) == 0 {
		b.WriteString(", and no other")
	} else {
		fmt.Fprintf(&b, "; there are %d:", len(in.list))
	}
	for i, m := range in.list[max(0, len(in.list)-maxShown):] {
		fmt.Fprintf(&b, "\n\t%d. %v", max(0, len(in.list)-maxShown)+i+1, m)
	}
	if in.dropped > 0 {
		fmt.Fprintf(&b, "\n\t%d older messages were forgotten: see Options.Keep", in.dropped)
	}
	return fmt.Errorf("smtp: %s: %w", b.String(), err)
}

// A Match is a condition on a message. Make one with To, From, Subject or Where.
type Match struct {
	what string // for an error
	ok   func(*Message) bool
}

func matches(m *Message, match []Match) bool {
	for _, c := range match {
		if !c.ok(m) {
			return false
		}
	}
	return true
}

// To matches messages that were accepted for the recipient addr, whatever their header says.
func To(addr string) Match {
	same := sameAddress(addr)
	return Match{"to <" + addr + ">", func(m *Message) bool {
		for _, r := range m.To {
			if same(r.Address) {
				return true
			}
		}
		return false
	}}
}

// From matches messages whose reverse-path is addr, whatever their header says. It is "" for that of bounces, <>.
func From(addr string) Match {
	same := sameAddress(addr)
	return Match{"from <" + addr + ">", func(m *Message) bool { return same(m.From) }}
}

// sameAddress returns a function that compares an address with addr.
func sameAddress(addr string) func(proto.Address) bool {
	if addr == "" {
		return proto.Address.IsNull
	}
	want, err := proto.ParseAddress(addr)
	return func(a proto.Address) bool { return err == nil && a.Equal(want) || err != nil && a.String() == addr }
}

// Subject matches messages whose decoded subject contains text.
func Subject(text string) Match {
	return Match{fmt.Sprintf("with %q in the subject", text), func(m *Message) bool {
		return strings.Contains(m.Subject(), text)
	}}
}

// Where matches messages for which ok returns true. What describes them in the message of a failure, such as "with an
// attachment". Ok may be called concurrently, and must not use the Inbox.
func Where(what string, ok func(*Message) bool) Match { return Match{what, ok} }
