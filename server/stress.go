package server

import (
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// A Load is how full a server is: what its connections hold together, and how much that may be by [Limits]. A maximum
// of 0 is no limit.
type Load struct {
	Conns, MaxConns           int   // connections, without those turned away
	Handshakes, MaxHandshakes int   // TLS handshakes under way; without a limit they are not counted
	Memory, MaxMemory         int64 // octets, as Limits.Memory counts them
}

// Max returns how full the fullest of connections, handshakes and memory is, from 0 to 1. What has no limit is empty.
func (l Load) Max() float64 {
	return max(fullness(l.Conns, l.MaxConns), fullness(l.Handshakes, l.MaxHandshakes), fullness(l.Memory, l.MaxMemory))
}

func fullness[T int | int64](n, most T) float64 {
	if most <= 0 {
		return 0
	}
	return min(max(float64(n)/float64(most), 0), 1)
}

// Load returns how full the server is, all its services together. It may be called at any time.
func (s *Server) Load() Load { return s.common.load() }

// A Stress is what holds while a server is nearly full, in place of what has the same name in [Timeouts] and [Limits].
// A field that is zero changes nothing, and neither does one that is less strict than the option. Timeouts hold for
// waits that have begun already, too, and are looked at once a second.
type Stress struct {
	// Command is for a whole command line to arrive. It also bounds Options.GreetingDelay.
	Command time.Duration
	// Content is for the next octets of a message to arrive.
	Content time.Duration
	// MinRateGrace is how long the server waits for the octets of a message before Limits.MinRate is enforced.
	MinRateGrace time.Duration
	// Write is for the client to accept replies.
	Write time.Duration
	// Handshake is for a TLS handshake.
	Handshake time.Duration
	// Errors is how many commands may be refused with 5yz since the last message was accepted.
	Errors int
	// Junk is how many commands that do nothing to transfer mail a client may send since then. EHLO, STARTTLS and AUTH
	// are among them, so it has to be at least 4.
	Junk int
}

// DefaultStress is Options.Stress unless that is set. It returns nil unless connections, handshakes or memory are above
// 90 % of their limit. Then each timeout is 10 seconds and Errors is 1, as in Postfix under stress, and Junk is 10.
// Of connections and handshakes, a limit below 10 does not count.
func DefaultStress(l Load) *Stress {
	if l.MaxConns < leastStressed {
		l.MaxConns = 0
	}
	if l.MaxHandshakes < leastStressed {
		l.MaxHandshakes = 0
	}
	if l.Max() <= stressThreshold {
		return nil
	}
	return &Stress{
		Command: stressTimeout, Content: stressTimeout, MinRateGrace: stressTimeout, Write: stressTimeout,
		Handshake: stressTimeout, Errors: 1, Junk: 10,
	}
}

const (
	stressThreshold = 0.9
	leastStressed   = 10 // the least limit that counts
	// stressTimeout is Postfix's smtpd_timeout and smtpd_starttls_timeout under stress, and 1 its smtpd_hard_error_limit.
	stressTimeout = 10 * time.Second
	// stressTick is how often the load and all waits are looked at under stress.
	stressTick = time.Second
	// stressCalm is for how long Options.Stress has to return nil before the stress is over.
	stressCalm = 10 * time.Second
)

// A stressing is whether a server is under stress. Without stress it costs a look at the load where that grows; with
// stress a timer looks at all connections.
type stressing struct {
	ask    func(Load) *Stress // Options.Stress
	logger *slog.Logger
	broken atomic.Bool            // ask has panicked
	now    atomic.Pointer[Stress] // nil without stress

	mu     sync.Mutex // guards what follows, and changes of now
	began  time.Time
	strain time.Time // when ask has returned something last
}

func (s *common) load() Load {
	return Load{
		Conns: int(s.active.Load()), MaxConns: s.limits.Conns,
		Handshakes: len(s.handshakes), MaxHandshakes: s.limits.Handshakes,
		Memory: s.memory.used.Load(), MaxMemory: s.memory.most,
	}
}

// askStress asks Options.Stress. If that panics, it is not asked again.
func (s *common) askStress(l Load) (st *Stress) {
	t := &s.stress
	if t.broken.Load() {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			st = nil
			if !t.broken.Swap(true) {
				t.logger.Error("smtp: Options.Stress has panicked, and is not called again", "panic", v,
					"stack", string(debug.Stack()))
			}
		}
	}()
	return t.ask(l)
}

// strained looks whether the server has come under stress. It is called where the load has grown, without Server.mu.
func (s *common) strained() {
	t := &s.stress
	if t.now.Load() != nil {
		return // watch looks from time to time
	}
	l := s.load()
	st := s.askStress(l)
	if st == nil {
		return
	}
	t.mu.Lock()
	if t.now.Load() != nil {
		t.mu.Unlock()
		return
	}
	st = st.clone()
	t.now.Store(st)
	t.began = time.Now()
	t.strain = t.began
	t.mu.Unlock()
	s.stats.stresses.Add(1)
	t.logger.Warn("smtp: under stress, timeouts and limits are stricter", l.attrs()...)
	s.cutWaits(st)
	time.AfterFunc(stressTick, s.watch)
}

// watch is called from time to time under stress. It ends the stress, or what has lasted too long.
func (s *common) watch() {
	t := &s.stress
	l := s.load()
	asked := s.askStress(l)
	now := time.Now()
	t.mu.Lock()
	if asked != nil {
		t.now.Store(asked.clone())
		t.strain = now
	}
	gone := s.closing.Load() && l.Conns == 0
	if gone || now.Sub(t.strain) >= stressCalm {
		t.now.Store(nil)
	}
	st, lasted := t.now.Load(), now.Sub(t.began)
	t.mu.Unlock()
	switch {
	case st != nil:
		s.cutWaits(st)
		time.AfterFunc(stressTick, s.watch)
	case !gone:
		t.logger.Info("smtp: no longer under stress", append(l.attrs(), "lasted", lasted)...)
	}
}

func (s *Stress) clone() *Stress {
	c := *s
	return &c
}

// attrs returns what the log says of the load.
func (l Load) attrs() []any {
	return []any{"conns", l.Conns, "max_conns", l.MaxConns, "handshakes", l.Handshakes, "max_handshakes", l.MaxHandshakes,
		"memory", l.Memory, "max_memory", l.MaxMemory}
}

// cutWaits ends all waits for clients that have lasted too long under stress.
func (s *common) cutWaits(st *Stress) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.link.cutWait(now, st) {
			s.stats.stressClosed.Add(1)
		}
	}
}

// stress returns what holds for the connection under stress, nil without stress.
func (c claims) stress() *Stress {
	if st := c.srv.stress.now.Load(); st != nil && !c.link.spared {
		return st
	}
	return nil
}

// spare looks whether the client is one of those that feel no stress: those without rates.
func (c claims) spare() {
	spared := !c.srv.ratedNetworkOf(c.RemoteAddr()).IsValid()
	c.link.mu.Lock()
	c.link.spared = spared
	c.link.mu.Unlock()
}

// stricter returns the limit under stress; 0 is none.
func stricter[T int | time.Duration](limit, stress T) T {
	if stress > 0 && (limit <= 0 || stress < limit) {
		return stress
	}
	return limit
}

// A wait is what a connection waits for its client to do.
type wait uint8

const (
	noWait        wait = iota
	waitSilence        // before the greeting, that nothing comes
	waitCommand        // a command line, or a line of an exchange
	waitContent        // the next octets of a message
	waitWrite          // to accept replies
	waitHandshake      // its part of a handshake
)

// begin says that a wait begins, or goes on since then. Call it with mu locked.
func (l *link) begin(w wait, since time.Time) { l.wait, l.since, l.cut = w, since, false }

// cutWait ends the wait in hand if it is too long for st. It reports whether that ends the connection. Any goroutine
// may call it.
func (l *link) cutWait(now time.Time, st *Stress) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := [...]time.Duration{0, st.Command, st.Command, st.Content, st.Write, st.Handshake}[l.wait]
	if l.spared || l.cut || most <= 0 || now.Sub(l.since) < most {
		return false
	}
	l.cut = true
	switch l.wait {
	case waitHandshake:
		l.raw.Close()
	case waitWrite:
		_ = l.nc.SetWriteDeadline(past)
	default:
		_ = l.nc.SetReadDeadline(past)
	}
	return l.wait != waitSilence
}

// cutError returns the error of a handshake that stress has cut, and err for another.
func (l *link) cutError(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut && err != nil {
		return errCut
	}
	return err
}

// errCut is the error of a handshake that was given up under stress.
var errCut = &stressError{}

type stressError struct{}

func (*stressError) Error() string { return "the client took too long for a server under stress" }
func (*stressError) Unwrap() error { return os.ErrDeadlineExceeded }
func (*stressError) Timeout() bool { return true }
