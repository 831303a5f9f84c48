package servertest

import (
	"math/rand/v2"
	"time"
)

// A chaos draws faults at random.
type chaos struct {
	seed uint64
	rate float64
}

// maxChaosDelay is how long a random delay is at most.
const maxChaosDelay = 100 * time.Millisecond

// Chaos has the server do something wrong with each command and each reply with the probability rate, from 0 to 1: it
// refuses the command with 4yz, 5yz or 421; or it delays the reply by up to 0.1 s, cuts it short, or closes the
// connection before or behind it. It may be used beside declared faults, which come first.
//
// What happens depends only on the seed, on the number of the connection, and on the number of the command or reply in
// it. A seed of 0 stands for a random one. The seed is logged: give it to Chaos to have the same again.
func (s *Server) Chaos(seed uint64, rate float64) {
	s.t.Helper()
	if !(rate >= 0 && rate <= 1) {
		s.t.Fatalf("smtp: Chaos(%d, %v): the rate is a probability, from 0 to 1, such as 0.05", seed, rate)
	}
	for seed == 0 {
		seed = rand.Uint64()
	}
	s.t.Logf("servertest: Chaos has the seed %d", seed)
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.chaos = &chaos{seed: seed, rate: rate}
}

// Dice are those of one connection: for commands, and for replies.
type dice struct {
	of                *chaos
	commands, replies *rand.Rand
}

// roll returns the dice of the line for the chaos that there is now, or nil.
func (l *line) roll() *dice {
	l.srv.faults.mu.Lock()
	now := l.srv.faults.chaos
	l.srv.faults.mu.Unlock()
	if now == nil {
		return nil
	}
	if l.dice.of != now {
		l.dice = dice{now, rand.New(rand.NewPCG(now.seed, uint64(2*l.number))),
			rand.New(rand.NewPCG(now.seed, uint64(2*l.number+1)))}
	}
	return &l.dice
}

// randomRefusal returns a fault that refuses, or nil.
func (l *line) randomRefusal() *Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.roll()
	if d == nil || d.commands.Float64() >= d.of.rate {
		return nil
	}
	codes := []int{421, 450, 451, 452, 550, 554}
	return &Fault{kind: refuse, code: codes[d.commands.IntN(len(codes))], text: "Refused by chaos"}
}

// randomFault returns a fault of a reply that has so many octets, or nil.
func (l *line) randomFault(length int) *Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.roll()
	if d == nil || d.replies.Float64() >= d.of.rate {
		return nil
	}
	kinds := []kind{drop, dropAfter, truncate, delay, delay}
	f := &Fault{kind: kinds[d.replies.IntN(len(kinds))]}
	n := d.replies.Float64() // always drawn, so that the next draw is the same
	f.octet = int64(n * float64(length))
	f.delay = time.Duration(n * float64(maxChaosDelay))
	return f
}
