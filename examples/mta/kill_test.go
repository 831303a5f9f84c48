package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
)

// stores are the values of -queue.
var stores = []string{"dir", "sqlite"}

var rounds = flag.Int("rounds", 3, "how often TestKill kills the program")

const (
	senders = 32
	// flight is how long before a kill a transaction may have ended and still be unknown to the store.
	flight = 2 * time.Second
)

// A siege is the program as a process that is killed again and again, with those who send to it and receive from it.
type siege struct {
	t      *testing.T
	binary string
	flags  []string
	dir    string
	to     *receivers
	fuse   atomic.Int64 // events that are left until the kill
	burnt  chan struct{}

	mu       sync.Mutex
	up       chan struct{} // closed when the program listens
	addr     string        // of submission over TLS
	accepted map[delivery]bool

	processes []*process
	kills     []time.Time
	read      map[string]bool // files of Maildirs
	boxed     map[delivery][]outcome
	reported  map[delivery][]outcome
}

// TestKill kills the program at random moments, 32 senders and many receivers at work. Everything that was accepted
// ends at its receiver or is reported to the sender, and comes twice only if its transaction was under way at a kill.
//
//	go test -run TestKill -rounds 100 -timeout 1h .
func TestKill(t *testing.T) {
	binary := build(t)
	for _, store := range stores {
		t.Run(store, func(t *testing.T) {
			s := &siege{t: t, binary: binary, dir: t.TempDir(), up: make(chan struct{}), accepted: map[delivery]bool{},
				read: map[string]bool{}, boxed: map[delivery][]outcome{}, reported: map[delivery][]outcome{}}
			s.to = newReceivers(t, s.event)
			at := s.to.Addr().String()
			s.flags = []string{"-dir", s.dir, "-hostname", "mx.a.example", "-domain", "a.example", "-queue", store,
				"-user", "alice:secret", "-user", "bob:secret", "-mx-addr", "", "-submission-addr", "", "-submissions-addr",
				"127.0.0.1:0",
				"-route", "good.example=" + at, "-route", "flaky.example=" + at, "-route", "bad.example=" + at,
				"-retry", "100ms,300ms,500ms", "-expire", "1m", "-delay-report", "-1s"}
			s.run()
		})
	}
}

// event is called at each step of a dialogue, and burns the fuse.
func (s *siege) event() {
	if s.fuse.Add(-1) == 0 {
		close(s.burnt)
	}
}

func (s *siege) run() {
	ctx, stop := context.WithCancel(s.t.Context())
	var sending sync.WaitGroup
	for n := range senders {
		sending.Go(func() { s.send(ctx, n) })
	}
	for range *rounds {
		s.burnt = make(chan struct{})
		p := s.start()
		s.fuse.Store(int64(200 + rand.IntN(3000)))
		<-s.burnt
		s.kill(p)
	}
	p := s.start()
	stop()
	sending.Wait()
	s.drain(p)
	p.stop()
	s.judge()
}

// start starts the program, and tells those who send.
func (s *siege) start() *process {
	p := startProcess(s.t, s.binary, s.flags...)
	s.processes = append(s.processes, p)
	s.mu.Lock()
	s.addr = p.addrs[0]
	close(s.up)
	s.mu.Unlock()
	return p
}

// kill kills the program, and notes when.
func (s *siege) kill(p *process) {
	s.mu.Lock()
	s.up = make(chan struct{})
	s.mu.Unlock()
	p.kill()
	s.kills = append(s.kills, time.Now())
}

// send submits messages over one connection after the other, until ctx ends.
func (s *siege) send(ctx context.Context, n int) {
	opt := &client.Options{
		TLS: ext.TLSImplicit, TLSConfig: &tls.Config{InsecureSkipVerify: true}, AllowUnverifiedAuth: true,
		Credentials: auth.Password("alice", "secret", "PLAIN"),
	}
	for i := 0; ctx.Err() == nil; {
		s.mu.Lock()
		up := s.up
		s.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return
		}
		c, err := client.Dial(ctx, s.addr, opt)
		for err == nil {
			i++
			id := fmt.Sprintf("<%d.%d@a.example>", n, i)
			var m *client.Message
			to := []string{fmt.Sprintf("%d@%s", i, domains[rand.IntN(len(domains))])}
			if rand.IntN(5) == 0 {
				to = append(to, "x@good.example", "y@flaky.example", "bob@a.example")
			}
			if m, err = client.NewMessage("alice@a.example", to, strings.NewReader(compose(id, "alice@a.example"))); err != nil {
				s.t.Error(err)
				return
			}
			var result *client.Result
			result, err = c.Send(context.WithoutCancel(ctx), m)
			s.mu.Lock()
			for _, r := range result.Recipients {
				if r.Err == nil {
					s.accepted[delivery{id, r.Address.String()}] = true
				}
			}
			s.mu.Unlock()
			s.event()
			if ctx.Err() != nil {
				err = ctx.Err()
			}
		}
		if c != nil {
			c.Close()
		}
	}
}

var domains = []string{"good.example", "flaky.example", "bad.example"}

// drain waits until everything that was accepted has an outcome, or nothing has happened for a minute.
func (s *siege) drain(p *process) {
	for {
		idle := time.After(time.Minute)
		select {
		case <-p.ended:
			s.t.Fatalf("it has ended: %v\n%s", p.err, p.tail())
		case <-p.log:
			if len(p.log) == 0 && len(s.missing()) == 0 {
				return
			}
		case <-idle:
			s.t.Errorf("nothing happens any more, and %d are missing:\n%s", len(s.missing()), p.tail())
			return
		}
	}
}
