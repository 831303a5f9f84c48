package prototest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"smtpkit.example/smtp/proto"
)

// A Pair is a Sender and a Receiver joined by a wire in memory. Nothing moves on the wire until Deliver is called, so
// the test decides what is in flight.
type Pair struct {
	TX *proto.Sender
	RX *proto.Receiver
	// Answer chooses the reply to an event of the Receiver: a command, a line, or the end of content. It is called once
	// for each reply that is due.
	Answer func(ev proto.Event) proto.Reply

	toServer, toClient []byte
	pending            proto.Event // what the server is about to answer
	Replies            int         // answers that the Sender has reported
}

// NewPair returns a Pair over t whose server accepts everything.
func NewPair(t *proto.Table) *Pair {
	return &Pair{TX: proto.NewSender(t, proto.Limits{}), RX: proto.NewReceiver(t, proto.Limits{}), Answer: Accept}
}

// Accept answers an event with the reply by which the session goes on.
func Accept(ev proto.Event) proto.Reply {
	switch {
	case ev.Err != nil:
		return ev.Err.Reply()
	case ev.Verb != nil && ev.Verb.OK == proto.Never:
		return proto.Reply{Code: 354, Text: "go on"}
	}
	return proto.Reply{Code: 250, Text: "fine"}
}

// Command puts a command on the wire.
func (p *Pair) Command(v *proto.Verb, args string) (err error) {
	p.toServer, err = p.TX.AppendCommand(p.toServer, v, []byte(args))
	return err
}

// Payload puts octets of a command's payload on the wire.
func (p *Pair) Payload(data string) (err error) {
	p.toServer, err = p.TX.AppendPayload(p.toServer, []byte(data))
	return err
}

// Content puts content and its end on the wire.
func (p *Pair) Content(data string) (err error) {
	if p.toServer, err = p.TX.AppendBody(p.toServer, []byte(data)); err != nil {
		return err
	}
	p.toServer, err = p.TX.AppendEnd(p.toServer)
	return err
}

// Line puts a line of an exchange on the wire.
func (p *Pair) Line(text string) (err error) {
	p.toServer, err = p.TX.AppendLine(p.toServer, []byte(text))
	return err
}

// Quiet reports whether nothing is on the wire.
func (p *Pair) Quiet() bool { return len(p.toServer) == 0 && len(p.toClient) == 0 }

// Deliver moves up to n octets to the server, which handles them, or to the client if there are none for the server. It
// returns an error if one of the engines gives up.
func (p *Pair) Deliver(n int) error {
	if len(p.toServer) > 0 {
		n = min(n, len(p.toServer), len(p.RX.Space()))
		copy(p.RX.Space(), p.toServer[:n])
		p.RX.Filled(n)
		p.toServer = p.toServer[n:]
		return p.serve()
	}
	n = min(n, len(p.toClient), len(p.TX.Space()))
	copy(p.TX.Space(), p.toClient[:n])
	p.TX.Filled(n)
	p.toClient = p.toClient[n:]
	return p.read()
}

// Greet makes the server send its greeting.
func (p *Pair) Greet() error { return p.reply(proto.Reply{Code: 220, Text: "pair.example"}) }

func (p *Pair) reply(r proto.Reply) (err error) {
	p.toClient, err = p.RX.AppendReply(p.toClient, r)
	return err
}

func (p *Pair) serve() error {
	for {
		ev := p.RX.Next()
		switch ev.Kind {
		case proto.NeedInput, proto.End:
			return nil
		case proto.Fatal:
			return ev.Err
		case proto.Command, proto.Line:
			ev.Args, ev.Data = append([]byte(nil), ev.Args...), append([]byte(nil), ev.Data...)
			p.pending = ev
		case proto.EndOfBody:
			// Content that followed 354 is answered by itself, a payload together with its command.
			if ev.Verb.In == proto.Content {
				p.pending = ev
			}
		case proto.NeedReply:
			for p.RX.Due() > 0 {
				if err := p.reply(p.Answer(p.pending)); err != nil {
					return fmt.Errorf("reply to %v: %w", p.pending.Verb.Name, err)
				}
			}
		}
	}
}

func (p *Pair) read() error {
	for {
		switch ev := p.TX.Next(); ev.Kind {
		case proto.Answer:
			p.Replies++
		case proto.Fatal:
			return ev.Err
		default:
			return nil
		}
	}
}

// RandomDialogue plays random steps, legal and illegal, on a Pair over table: pipelined commands, payloads, content and
// lines, refused at random and delivered in random pieces. Whenever the wire is quiet, both ends must agree on the
// state and on the recipients, and nothing may be outstanding. The function args returns random arguments for a verb,
// and the payload that they announce.
//
// RandomDialogue returns how often the two ends agreed in each state, so that the caller can check that it got
// anywhere.
func RandomDialogue(t testing.TB, table *proto.Table, rnd *rand.Rand, steps int,
	args func(*rand.Rand, *proto.Verb) (string, string)) map[proto.State]int {
	t.Helper()
	d := &dialogue{table: table, rnd: rnd, args: args, agreed: make(map[proto.State]int)}
	d.restart()
	for step := range steps {
		if err := d.step(); err != nil {
			t.Fatalf("step %d: %v\n%s", step, err, d.log())
		}
	}
	return d.agreed
}

type dialogue struct {
	pair   *Pair
	table  *proto.Table
	rnd    *rand.Rand
	args   func(*rand.Rand, *proto.Verb) (string, string)
	agreed map[proto.State]int
	split  bool     // the content is being answered for each recipient
	played []string // the steps since the connection was made, for the report
}

func (d *dialogue) restart() {
	d.pair = NewPair(d.table)
	d.pair.Answer = d.answer
	d.pair.TX.SetGroups(true)
	d.split = false
	d.played = d.played[:0]
	if err := d.pair.Greet(); err != nil {
		panic(err) // a fresh Receiver owes its greeting
	}
}

func (d *dialogue) note(format string, args ...any) {
	d.played = append(d.played, fmt.Sprintf(format, args...))
}

func (d *dialogue) log() string {
	text := ""
	for _, line := range d.played[max(0, len(d.played)-60):] {
		text += line + "\n"
	}
	return text
}

// answer is a server that refuses one command in four, and closes the session at one in two hundred.
func (d *dialogue) answer(ev proto.Event) proto.Reply {
	r := Accept(ev)
	content := ev.Kind == proto.EndOfBody || ev.Verb != nil && ev.Verb.Ends()
	rx := d.pair.RX
	fresh := !d.split && rx.Due() == 1 && d.table.Protocol() == proto.SMTP
	switch {
	case ev.Err == nil && content && fresh && rx.Splits() && rx.State() != proto.Broken && d.rnd.IntN(2) == 0:
		d.split = true
		return proto.Reply{Code: 353, Text: "each"}
	case rx.Due() == 1:
		d.split = false
	}
	if ev.Err == nil {
		switch n := d.rnd.IntN(200); {
		case n == 0:
			r = proto.Reply{Code: 421, Text: "closing"}
		case n < 50:
			r = proto.Reply{Code: 450 + 100*d.rnd.IntN(2), Text: "no"}
		case n < 75 && ev.Verb.More == proto.Exchange:
			r = proto.Reply{Code: 334}
		}
	}
	d.note("S: %d to %v", r.Code, ev.Kind)
	return r
}

func (d *dialogue) step() error {
	p := d.pair
	if d.rnd.IntN(3) > 0 && !p.Quiet() {
		if err := p.Deliver(1 + d.rnd.IntN(40)); err != nil {
			return err
		}
	} else if err := d.send(); err != nil {
		return err
	}
	if !p.Quiet() {
		return nil
	}
	tx, rx := p.TX, p.RX
	if tx.State() != rx.State() || tx.Outstanding() != 0 && rx.State() != proto.Closed || tx.Rcpts() != rx.Rcpts() {
		return fmt.Errorf("the client is in %v with %d outstanding and %d recipients, the server in %v with %d",
			tx.State(), tx.Outstanding(), tx.Rcpts(), rx.State(), rx.Rcpts())
	}
	d.agreed[tx.State()]++
	if tx.State()&(proto.Closed|proto.Handover) != 0 {
		d.restart()
	}
	return nil
}

// verb chooses a verb: mostly one that leads on from where the client is, otherwise any.
func (d *dialogue) verb() *proto.Verb {
	verbs := d.table.Verbs()
	var on []*proto.Verb
	for _, v := range verbs {
		leads := v.OK | v.More
		if v.In&d.pair.TX.Ahead() != 0 && leads != 0 && leads&(proto.Ready|proto.Closed|proto.Handover) == 0 {
			on = append(on, v)
		}
	}
	if len(on) > 0 && d.rnd.IntN(4) > 0 {
		return on[d.rnd.IntN(len(on))]
	}
	return verbs[d.rnd.IntN(len(verbs))]
}

// send puts something on the wire, legal or not. What the Sender refuses must leave no trace.
func (d *dialogue) send() error {
	p := d.pair
	switch d.rnd.IntN(8) {
	case 0, 1:
		if p.Content("line\r\n.dot\r\n") == nil {
			d.note("C: content")
		}
		return nil
	case 2:
		if p.Line("aGVsbG8=") == nil {
			d.note("C: line")
		}
		return nil
	}
	v := d.verb()
	args, payload := d.args(d.rnd, v)
	if p.Command(v, args) != nil {
		return nil
	}
	d.note("C: %s %s (%d octets)", v.Name, args, len(payload))
	return p.Payload(payload)
}
