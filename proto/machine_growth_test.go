package proto

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// naiveAhead finds the state ahead as its definition has it: it walks everything outstanding.
func naiveAhead(m *Machine) State {
	s := m.now
	for i := range m.count {
		e := m.queue[m.at(i)]
		if e.line {
			s = success(e.verb, m.resume)
		} else if s&e.verb.In != 0 {
			s = success(e.verb, s)
		}
	}
	return s
}

// TestMachineAhead plays random dialogues with many commands outstanding and compares Ahead with its definition.
func TestMachineAhead(t *testing.T) {
	verbs := []string{"MAIL", "RCPT", "RCPT", "RCPT", "BDAT", "BDAT", "RSET", "MAIL", "RSET", "NOOP", "DATA", "AUTH"}
	codes := []int{250, 250, 250, 250, 250, 450, 550, 503, 354, 334}
	replies, moved := 0, 0
	for seed := range uint64(1000) {
		random := rand.New(rand.NewPCG(seed, 8))
		m := newTestMachine(t, SMTP)
		for range 400 {
			if random.IntN(5) > 1 {
				args := fmt.Sprint(random.IntN(9))
				if random.IntN(2) == 0 {
					args += " LAST"
				}
				switch m.Ahead() {
				case Content:
					_ = m.End()
				case Exchange:
					_ = m.Line()
				default:
					_ = m.Command(m.table.Lookup(verbs[random.IntN(len(verbs))]), []byte(args))
				}
			} else {
				before := m.Ahead()
				if _, err := m.Reply(codes[random.IntN(len(codes))]); err == nil {
					replies++
				}
				if m.Ahead() != before {
					moved++
				}
			}
			if got, want := m.Ahead(), naiveAhead(m); got != want {
				t.Fatalf("seed %d: ahead is %v, and everything outstanding leads to %v", seed, got, want)
			}
		}
	}
	if replies < 10_000 || moved < 200 {
		t.Errorf("%d replies, of which %d moved the state ahead: the dialogues test little", replies, moved)
	}
}

// TestMachineReplyLooksAtItsOwn checks that a reply costs no more with a thousand messages outstanding than with one.
// Entries that must not be looked at have no verb, and to look at one panics.
func TestMachineReplyLooksAtItsOwn(t *testing.T) {
	const messages, rcpts = 1000, 50
	begin := func() *Machine {
		m := newTestMachine(t, SMTP)
		play(t, m, "250\nEHLO\n250")
		for range messages {
			command(t, m, "MAIL", "")
			for range rcpts {
				command(t, m, "RCPT", "")
			}
			command(t, m, "BDAT", "9 LAST")
		}
		return m
	}
	// reply gives a reply to the first of what is outstanding while all behind the next n entries is out of sight.
	reply := func(m *Machine, code, n int) {
		hidden := make([]*Verb, m.count)
		for i := n + 1; i < m.count; i++ {
			e := &m.queue[m.at(i)]
			hidden[i], e.verb = e.verb, nil
		}
		if _, err := m.Reply(code); err != nil {
			t.Fatal(err)
		}
		for i := n + 1; i < len(hidden); i++ {
			m.queue[m.at(i-1)].verb = hidden[i]
		}
	}
	t.Run("success", func(t *testing.T) {
		m := begin()
		for range rcpts + 2 {
			reply(m, 250, 0)
		}
	})
	t.Run("a recipient refused", func(t *testing.T) {
		m := begin()
		reply(m, 250, 0)
		for range rcpts {
			reply(m, 550, 2) // the last one is refused with what follows it: BDAT, and MAIL begins anew
		}
		reply(m, 503, 0)
		reply(m, 250, 0)
	})
	t.Run("the sender refused", func(t *testing.T) {
		m := begin()
		reply(m, 550, rcpts+1) // all of the message is refused with it
		for range rcpts + 1 {
			reply(m, 503, 0)
		}
		reply(m, 250, 0)
	})
}

func command(t *testing.T, m *Machine, verb, args string) {
	t.Helper()
	if err := m.Command(m.table.Lookup(verb), []byte(args)); err != nil {
		t.Fatalf("%s: %v", verb, err)
	}
}

// newTestMachine returns a machine with a command of each kind.
func newTestMachine(t *testing.T, p Protocol) *Machine {
	t.Helper()
	exchange := Verb{Name: "AUTH", In: Ready, Last: true, More: Exchange}
	return NewMachine(mustTable(t, p, chunkVerb(), exchange))
}
