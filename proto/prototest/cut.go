package prototest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

// Drive hands input to rx in the given pieces, and answers each event as answer says. It returns the events, replies
// and content as text. Two ways of cutting the same input must return the same text (law 3).
func Drive(rx *proto.Receiver, answer func(proto.Event) proto.Reply, pieces ...[]byte) string {
	d := driver{rx: rx, answer: answer}
	d.reply(proto.Reply{Code: 220, Text: "cut.example"})
	for _, p := range pieces {
		for len(p) > 0 {
			n := copy(rx.Space(), p)
			rx.Filled(n)
			p = p[n:]
			d.run()
		}
	}
	d.flush()
	if s := rx.State(); s == proto.Handover {
		fmt.Fprintf(&d.log, "leftover\n") // its length may depend on the cut
	}
	fmt.Fprintf(&d.log, "state %v, %d recipients\n", rx.State(), rx.Rcpts())
	return d.log.String()
}

type driver struct {
	rx      *proto.Receiver
	answer  func(proto.Event) proto.Reply
	log     strings.Builder
	body    []byte
	pending proto.Event
}

func (d *driver) run() {
	for {
		ev := d.rx.Next()
		switch ev.Kind {
		case proto.NeedInput, proto.End:
			return
		case proto.Body:
			d.body = append(d.body, ev.Data...)
			continue
		case proto.NeedReply:
			for d.rx.Due() > 0 {
				d.reply(d.answer(d.pending))
			}
			continue
		}
		d.flush()
		if ev.Kind == proto.EndOfBody && ev.Verb != nil && ev.Verb.In != proto.Content {
			fmt.Fprintf(&d.log, "chunk complete, bare %t\n", d.rx.BareNewline())
			continue
		}
		name := "-"
		if ev.Verb != nil {
			name = ev.Verb.Name
		}
		fmt.Fprintf(&d.log, "%d %s %q %q %d %v\n", ev.Kind, name, ev.Args, ev.Data, ev.Payload, ev.Err)
		if ev.Kind == proto.EndOfBody {
			fmt.Fprintf(&d.log, "bare %t\n", d.rx.BareNewline())
		}
		ev.Args, ev.Data = append([]byte(nil), ev.Args...), append([]byte(nil), ev.Data...)
		d.pending = ev
		if ev.Kind == proto.Fatal {
			d.reply(ev.Err.Reply())
		}
	}
}

func (d *driver) flush() {
	if len(d.body) > 0 {
		fmt.Fprintf(&d.log, "content %q\n", d.body)
		d.body = nil
	}
}

func (d *driver) reply(r proto.Reply) {
	line, err := d.rx.AppendReply(nil, r)
	if err != nil {
		fmt.Fprintf(&d.log, "reply %d: %v\n", r.Code, err)
		line, _ = d.rx.AppendReply(nil, proto.Reply{Code: 421, Text: "out of step"})
	}
	d.log.Write(line)
}

// EveryCut drives a Receiver with input whole, octet by octet, and in two pieces for each place where it can be cut.
// The test fails if the outcomes differ. EveryCut returns the outcome. In a long run of the same octet it makes one cut
// in 64.
func EveryCut(t testing.TB, table *proto.Table, answer func(proto.Event) proto.Reply, input []byte) string {
	t.Helper()
	want, err := AnyCut(table, answer, input)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// AnyCut is EveryCut without a test. The error describes the first cut with another outcome.
func AnyCut(table *proto.Table, answer func(proto.Event) proto.Reply, input []byte) (string, error) {
	drive := func(pieces ...[]byte) string {
		return Drive(proto.NewReceiver(table, proto.Limits{}), answer, pieces...)
	}
	want := drive(input)
	each := make([][]byte, len(input))
	for i := range input {
		each[i] = input[i : i+1]
	}
	if got := drive(each...); got != want {
		return want, fmt.Errorf("octet by octet:\n%s\nin one piece:\n%s", got, want)
	}
	for i := 1; i < len(input); i++ {
		if i > 8 && i%64 != 0 && len(bytes.Trim(input[i-8:min(i+8, len(input))], string(input[i:i+1]))) == 0 {
			continue
		}
		if got := drive(input[:i], input[i:]); got != want {
			return want, fmt.Errorf("cut at %d of %q:\n%s\nin one piece:\n%s", i, input, got, want)
		}
	}
	return want, nil
}
