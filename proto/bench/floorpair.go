package main

import (
	"errors"
	"fmt"
	"time"
)

// A pair is a process under test with its peer.
type pair struct {
	role        role
	test, peer  *process
	n           int // messages in a round
	foreignSend bool
}

// startPair starts a contestant and what it is tried with.
func startPair(r role) (*pair, error) {
	x := &pair{role: r}
	err := x.start()
	if err != nil {
		x.stop()
		return nil, err
	}
	return x, nil
}

func (x *pair) start() error {
	r := x.role
	var err error
	if r.Is == "server" {
		if r.By == "smtp-sink" {
			x.test, err = spawnSink()
		} else {
			x.test, err = spawn(r)
		}
		if err != nil {
			return err
		}
		l := r
		l.Is, l.Core, l.Addr, l.Profile = "load", 1, x.test.addr, ""
		x.peer, err = spawn(l)
		return err
	}
	if x.peer, err = spawn(role{Is: "sink", Core: 1, Delay: r.Delay, NoChunking: r.NoChunking}); err != nil {
		return err
	}
	x.role.Addr = x.peer.addr
	if r.By == "smtp-source" {
		x.foreignSend = true
		_, err = findProgram(r.By)
		return err
	}
	if r.By == nodemailer {
		x.test, err = spawnNode(x.role)
	} else {
		x.test, err = spawn(x.role)
	}
	return err
}

func (x *pair) stop() {
	if x != nil {
		_ = errors.Join(x.test.stop(), x.peer.stop()) // what was measured has been checked
	}
}

// do transfers n messages. It returns what that took of the process under test, and checks that all have arrived.
func (x *pair) do(n int) (usage, error) {
	if x.role.Is != "server" {
		return x.doClient(n)
	}
	before, err := x.test.do("usage")
	if err != nil {
		return usage{}, err
	}
	u, err := x.peer.do(fmt.Sprintf("run %d", n))
	if err != nil {
		return usage{}, err
	}
	after, err := x.test.do("usage")
	if err != nil {
		return usage{}, err
	}
	wall := u.Wall
	if got := after.Messages - before.Messages; x.test.in != nil && got != int64(n) {
		return usage{}, fmt.Errorf("%d messages arrived of %d", got, n)
	}
	want := int64(n) * int64(len(workload{size: x.role.Size}.text()))
	if got := after.Octets - before.Octets; x.test.in != nil && got != want {
		return usage{}, fmt.Errorf("%d octets arrived of %d", got, want)
	}
	return usage{CPU: after.CPU - before.CPU, Wall: wall, Mallocs: after.Mallocs - before.Mallocs, Peak: after.Peak}, nil
}

func (x *pair) doClient(n int) (usage, error) {
	first, err := x.peer.do("usage")
	if err != nil {
		return usage{}, err
	}
	var u usage
	if x.foreignSend {
		u, err = source(x.role, n)
	} else {
		var before usage
		if before, err = x.test.do("usage"); err == nil {
			u, err = x.test.do(fmt.Sprintf("run %d", n))
			u.CPU -= before.CPU
			u.Mallocs -= before.Mallocs
		}
	}
	if err != nil {
		return usage{}, err
	}
	last, err := x.peer.do("usage")
	if err != nil {
		return usage{}, err
	}
	least := int64(n) * int64(x.role.Size)
	if last.Messages-first.Messages != int64(n) || last.Octets-first.Octets < least {
		return usage{}, fmt.Errorf("%d messages of %d octets arrived; %d of %d or more were sent",
			last.Messages-first.Messages, last.Octets-first.Octets, n, least)
	}
	return u, nil
}

// calibrate finds how many messages take the time of a round. It is also what warms the processes up.
func (x *pair) calibrate(d time.Duration) error {
	step := 1
	if x.role.By == "smtpkit" {
		step = max(1, x.role.Batch) // the others have no call for a batch
	}
	if x.role.Is == "server" {
		step = max(1, 10*x.role.Conns) // so that the first group of each connection, which follows no content, does not count
	}
	if x.role.Delay > 0 {
		x.n = max(step, 10)
		_, err := x.do(1)
		return err
	}
	for n := step; ; n *= 2 {
		u, err := x.do(n)
		if err != nil {
			return err
		}
		if u.Wall >= d/4 {
			x.n = max(int(float64(n)*float64(d)/float64(u.Wall))/step, 1) * step
			return nil
		}
	}
}

// round measures once.
func (x *pair) round(s *score) error {
	u, err := x.do(x.n)
	if err != nil {
		return err
	}
	n := time.Duration(x.n)
	s.cpu = append(s.cpu, u.CPU/n)
	s.wall = append(s.wall, u.Wall/n)
	s.allocs = append(s.allocs, float64(u.Mallocs)/float64(x.n))
	s.peak = max(s.peak, u.Peak)
	return nil
}
