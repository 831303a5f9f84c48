package prototest_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// TestReceiver plays the scripts to the engine of a server, at every cut of what the client says.
func TestReceiver(t *testing.T) {
	scripts, err := prototest.ReadDir(filepath.Join("..", "testdata", "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	played := 0
	for _, s := range scripts {
		if _, whole := s.Directives["server"]; whole {
			continue
		}
		played++
		t.Run(s.Title(), func(t *testing.T) {
			p := newPlayer(t, s)
			input := s.Steps.ClientBytes()
			p.play(len(input), input)
			for i := 1; i < len(input); i += 1 + len(input)/2000 {
				p.play(i, input[:i], input[i:])
			}
			var octets [][]byte
			for i := range input {
				octets = append(octets, input[i:i+1])
			}
			p.play(1, octets...)
		})
	}
	if played < 40 {
		t.Errorf("only %d scripts were played", played)
	}
}

type player struct {
	t      *testing.T
	script *prototest.Script
	table  *proto.Table
}

func newPlayer(t *testing.T, s *prototest.Script) *player {
	t.Helper()
	dialect := proto.SMTP
	if _, ok := s.Directives["lmtp"]; ok {
		dialect = proto.LMTP
	}
	set, err := ext.NewSet(dialect, ehlo.DefaultFor(dialect))
	if err != nil {
		t.Fatal(err)
	}
	return &player{t: t, script: s, table: set.Table()}
}

// play plays the script once, with input in pieces; cut is where the first one ends, for messages.
func (p *player) play(cut int, pieces ...[]byte) {
	p.t.Helper()
	s := session{rx: proto.NewReceiver(p.table, proto.Limits{})}
	s.reply(proto.Reply{Code: 220, Text: "mail.example ready"})
	for _, piece := range pieces {
		for len(piece) > 0 && !s.over {
			n := copy(s.rx.Space(), piece)
			s.rx.Filled(n)
			piece = piece[n:]
			s.run()
		}
	}
	err := errors.Join(s.err, p.script.Steps.Check(s.out))
	last := p.script.Steps[len(p.script.Steps)-1]
	if closed := last.Kind == prototest.Close; err == nil && closed != s.over {
		err = errors.New(last.String() + ": the session is in the state " + s.rx.State().String())
	}
	if err != nil {
		p.t.Fatalf("cut at %d: %v", cut, err)
	}
}

// A session is as much of a server as the engine needs.
type session struct {
	rx     *proto.Receiver
	out    []byte
	answer proto.Reply // to the command being answered
	over   bool
	err    error
}

func (s *session) reply(r proto.Reply) {
	var err error
	if s.out, err = s.rx.AppendReply(s.out, r); err != nil {
		s.err = errors.Join(s.err, err)
		s.over = true
	}
}

func (s *session) run() {
	for !s.over {
		switch ev := s.rx.Next(); ev.Kind {
		case proto.NeedInput:
			return
		case proto.End:
			s.over = true
		case proto.Fatal:
			s.reply(ev.Err.Reply())
			s.over = true
		case proto.Command:
			s.answer = respond(ev)
		case proto.EndOfBody:
			if s.rx.State() == proto.Content {
				s.answer = ok
			}
			if s.rx.BareNewline() && s.answer.Code == 250 && (ev.Verb == nil || ev.Verb.In&proto.Content != 0 || ev.Verb.Ends()) {
				s.answer = proto.Reply{Code: 554, Text: "bare CR or LF"}
			}
		case proto.NeedReply:
			for s.rx.Due() > 0 && !s.over {
				s.reply(s.answer)
			}
		}
	}
}

var ok = proto.Reply{Code: 250, Text: "ok"}

func respond(ev proto.Event) proto.Reply {
	if ev.Err != nil {
		return ev.Err.Reply()
	}
	if ev.Verb.OK == proto.Never && ev.Verb.More == 0 {
		return proto.Reply{Code: 502, Text: "not implemented"}
	}
	switch ev.Verb.Name {
	case "EHLO", "LHLO":
		return proto.Reply{Code: 250, Text: "mail.example\nPIPELINING\nCHUNKING"}
	case "HELO":
		return proto.Reply{Code: 250, Text: "mail.example"}
	case "MAIL":
		if _, _, err := proto.ParseMailArgs(ev.Args, false); err != nil {
			return err.Reply()
		}
	case "RCPT":
		to, _, err := proto.ParseRcptArgs(ev.Args, false)
		switch {
		case err != nil:
			return err.Reply()
		case strings.HasPrefix(to.Local, "reject"):
			return proto.Reply{Code: 550, Text: "no"}
		case strings.HasPrefix(to.Local, "defer"):
			return proto.Reply{Code: 450, Text: "later"}
		}
	case "DATA":
		if len(ev.Args) == 0 {
			return proto.Reply{Code: 354, Text: "go on"}
		}
	case "QUIT":
		return proto.Reply{Code: 221, Text: "bye"}
	}
	return ok
}
