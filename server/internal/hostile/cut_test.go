package hostile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A stretch is what a client sends at once.
type stretch struct {
	text   string
	owed   int  // the replies to it, and to nothing else
	wait   bool // the client waits for all replies that are owed before it goes on
	letter int  // the message that is complete at its end, from 1; 0 is none
	tls    bool // TLS begins behind the reply
}

// A letter is a message in a dialogue.
type letter struct {
	content string
	to      []string // the recipients that RCPT accepted
	refused []string // those of them for whom the content is refused
}

// A dialogue is what a client would say if its connection did not break off.
type dialogue struct {
	name      string
	protocol  proto.Protocol
	implicit  bool // TLS comes first
	stretches []stretch
	letters   []letter
}

// A cutting is a way for a connection to break off.
type cutting struct {
	name string
	// exact says that the server gets all octets that were sent.
	exact bool
	// answered says that the client gets all replies too, in plaintext.
	answered bool
	cut      func(w *wire)
	output   bool // the octets that the server sends are counted, and not those of the client
}

func cuttings() []cutting {
	return []cutting{
		{name: "hangs up", cut: func(w *wire) { w.near.Close() }},
		{name: "hangs up after a while", exact: true, cut: func(w *wire) {
			synctest.Wait()
			w.near.Close()
		}},
		{name: "shuts its direction down", exact: true, answered: true, cut: func(w *wire) { _ = w.near.CloseWrite() }},
		{name: "is reset", cut: func(w *wire) { w.reset() }},
		{name: "falls silent", exact: true, answered: true, cut: func(*wire) {}},
		{name: "cannot be written to", output: true},
	}
}

// TestDisconnects breaks the connection off at every octet of each dialogue, in every way. A message that was
// accepted is delivered just once, and one that was not is not delivered. What the server should have done is found
// from what the client has sent and received alone.
func TestDisconnects(t *testing.T) {
	for _, d := range dialogues() {
		for _, c := range cuttings() {
			t.Run(d.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				ours, theirs := tlsPair(t)
				synctest.Test(t, func(t *testing.T) {
					j := &journal{}
					backend := server.BackendFunc(j.newSession)
					if d.protocol == proto.LMTP {
						backend = j.newSorter
					}
					srv := newServer(t, backend, server.Options{
						Protocol:  d.protocol,
						TLSConfig: ours,
						Limits:    server.Limits{MessageSize: maxLetter, ConnsPerMinute: -1, MessagesPerMinute: -1},
					})
					for at := 0; ; at += octetStep {
						out := d.play(srv, ours, theirs, c, at)
						if err := d.judge(out, j.take(), c); err != nil {
							t.Fatalf("broken off at octet %d: %v\nreplies: %d", at, err, out.replies)
						}
						if !out.broken {
							if octets := d.octets(); !c.output && at <= octets-octetStep {
								t.Errorf("only %d octets of %d", at, octets)
							}
							break
						}
					}
				})
			})
		}
	}
}

// octets returns how many octets the client says, without those of TLS.
func (d *dialogue) octets() (n int) {
	for _, s := range d.stretches {
		n += len(s.text)
	}
	return n
}

// An outcome is what a client knows when its connection has ended.
type outcome struct {
	broken  bool  // the connection has broken off
	begun   int   // stretches of which an octet was sent
	sent    int   // stretches sent to their end
	replies []int // the codes of the replies that were received
	text    string
	err     error // of the server
	tls     bool
}

// play plays the dialogue, and breaks it off in the way c before the octet at.
func (d *dialogue) play(srv *server.Server, ours, theirs *tls.Config, c cutting, at int) *outcome {
	w := newWire(c, at)
	done := make(chan error, 1)
	go func() { done <- w.serve(srv, d.implicit, ours) }()
	out := &outcome{}
	cl := &client{wire: w, out: out}
	cl.begin()
	if d.implicit {
		cl.secure(theirs)
	}
	owed := 1
	cl.await(owed)
	for _, s := range d.stretches {
		if cl.over {
			break
		}
		cl.send(s.text)
		owed += s.owed
		if s.wait {
			cl.await(owed)
		}
		if s.tls {
			cl.secure(theirs)
		}
	}
	cl.await(1 << 30)
	w.near.Close()
	out.err = <-done
	out.broken = w.broken.Load()
	return out
}

// judge compares what was delivered with what the client knows.
func (d *dialogue) judge(out *outcome, got *journal, c cutting) error {
	answer := 1 // of the greeting
	for i, s := range d.stretches {
		answer += s.owed
		if s.letter == 0 {
			continue
		}
		l := d.letters[s.letter-1]
		answers := 1
		if d.protocol == proto.LMTP {
			answers = len(l.to)
		}
		for r, to := range l.to {
			k := answer - answers + min(r, answers-1)
			code := 0
			if k < len(out.replies) {
				code = out.replies[k]
			}
			least, most := 0, 1
			switch refused := contains(l.refused, to); {
			case code/100 == 2 && refused:
				return fmt.Errorf("letter %d to %s is accepted", s.letter, to)
			case i >= out.sent && code/100 == 2:
				return fmt.Errorf("letter %d to %s is accepted before its end", s.letter, to)
			case i >= out.sent || refused || code >= 400 && code != 421:
				most = 0
			case code/100 == 2 || c.exact:
				least = 1
			}
			n := got.delivered[delivery{to, l.content}]
			if n < least || n > most {
				return fmt.Errorf("letter %d to %s, with the reply %d, is delivered %d times", s.letter, to, code, n)
			}
			delete(got.delivered, delivery{to, l.content})
		}
	}
	for k := range got.delivered {
		return fmt.Errorf("nobody has sent what %s got: %q", k.to, k.content)
	}
	if got.made != got.closed || got.begun != got.reset {
		return fmt.Errorf("%d sessions were made and %d closed, %d transactions begun and %d reset",
			got.made, got.closed, got.begun, got.reset)
	}
	return d.judgeReplies(out, c)
}

// judgeReplies finds that the client has all replies to what it has sent, if it has listened.
func (d *dialogue) judgeReplies(out *outcome, c cutting) error {
	want := 1
	for _, s := range d.stretches[:out.sent] {
		want += s.owed
	}
	switch {
	case out.broken && (!c.answered || out.tls || d.implicit):
	case len(out.replies) < want:
		return fmt.Errorf("%d replies to %d stretches, want %d", len(out.replies), out.sent, want)
	case !out.broken && (len(out.replies) != want || out.sent != len(d.stretches) || out.err != nil):
		return fmt.Errorf("the dialogue ends with %d replies of %d, %d stretches of %d, and %w",
			len(out.replies), want, out.sent, len(d.stretches), errors.Join(out.err, io.EOF))
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// An enterer is a session that enters into the journal what it delivers. It refuses recipients that begin with
// "nobody", content with "spam" in it, and in LMTP any content for recipients that begin with "full".
type enterer struct {
	*journal
	to []string
}

func (j *journal) newSession(context.Context, *server.Conn) (server.Session, error) {
	j.change(func() { j.made++ })
	return &enterer{journal: j}, nil
}

func (s *enterer) Mail(context.Context, proto.Address, proto.Params) error {
	s.change(func() { s.begun++ })
	return nil
}

func (s *enterer) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	if strings.HasPrefix(to.Local, "nobody") {
		return proto.Refuse(550, proto.Status{5, 1, 1}, "Nobody of that name")
	}
	s.to = append(s.to, to.Local)
	return nil
}

func (s *enterer) Data(_ context.Context, r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if strings.Contains(string(content), "spam") {
		return proto.Refuse(550, proto.Status{5, 7, 1}, "No spam")
	}
	for _, to := range s.to {
		s.deliver(to, string(content))
	}
	return nil
}

// A sorter is an enterer that decides for each recipient.
type sorter struct{ enterer }

func (j *journal) newSorter(context.Context, *server.Conn) (server.Session, error) {
	j.change(func() { j.made++ })
	return &sorter{enterer{journal: j}}, nil
}

func (s *sorter) DataEach(_ context.Context, r io.Reader, result func(i int, r proto.Reply, err error)) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	for i, to := range s.to {
		if strings.HasPrefix(to, "full") {
			result(i, proto.Reply{}, proto.Refuse(452, proto.Status{4, 2, 2}, "Mailbox full"))
			continue
		}
		s.deliver(to, string(content))
		result(i, proto.Reply{}, nil)
	}
	return nil
}

func (s *enterer) Reset(context.Context) {
	s.to = nil
	s.change(func() { s.reset++ })
}

func (s *enterer) Close() error {
	s.change(func() { s.closed++ })
	return nil
}
