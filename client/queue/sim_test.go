package queue_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

var (
	simSeeds = flag.Int("queue.seeds", 4, "how many seeds TestSimulation has")
	simSeed  = flag.Uint64("queue.seed", 0, "the only seed that TestSimulation has, if it is not 0")
)

// TestSimulation has fifteen days of a queue, with receivers that do all that receivers do, restarts, and messages of
// all kinds. In the end each recipient has the message, or its sender has been told, and all happened when Policy says.
func TestSimulation(t *testing.T) {
	seeds := make([]uint64, *simSeeds)
	for i := range seeds {
		seeds[i] = uint64(i + 1)
	}
	if *simSeed != 0 {
		seeds = []uint64{*simSeed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("queue.seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, seed)
				if seed%3 == 0 {
					s.disk = crashfs.New()
				}
				s.run()
				s.check()
			})
		})
	}
}

// The schedule that the simulation expects.
var (
	simRetry = []time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
		4 * time.Hour}
	simExpire = 5 * 24 * time.Hour
	simDelay  = 4 * time.Hour
	simWindow = 8
	simActive = 60
	simPerJob = 10
)

// A receiver is the mail server of a domain in the simulation.
type receiver struct {
	kind   string
	site   string
	prompt bool          // it answers at once, and to all
	slow   time.Duration // how long a message takes at most
	down   []period      // when nothing can be connected
}

type period struct{ from, until time.Duration }

func (r *receiver) isDown(at time.Duration) bool {
	return slices.ContainsFunc(r.down, func(p period) bool { return at >= p.from && at < p.until })
}

// A recipientRecord is what happened to a recipient.
type recipientRecord struct {
	domain     string
	notify     ehlo.Notify
	sender     string // "": the null reverse-path
	due        time.Duration
	expires    time.Duration
	last       time.Duration // when there is an attempt since expires is near, or 0
	delay      time.Duration // when the sender is to be told, or 0
	attempts   []span        // those that were not cancelled
	accepted   int           // how often 250 was said
	doubts     int           // how often the connection was lost at the reply
	refused    bool          // with 5yz
	cut        int           // how often the process was killed while something was done for him
	delivered  []time.Duration
	failed     []time.Duration // as Trace.Done says, as the one before
	reports    map[ehlo.Action][]time.Duration
	reportsGot map[ehlo.Action]int // by the sender
}

type span struct{ begin, end time.Duration }

// A sim is a simulation.
type sim struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand // of the goroutine of the test
	begin time.Time
	disk  *crashfs.FS // of a Dir; nil for a Memory
	store queue.Store
	q     *queue.Queue

	left      queue.Usage // in the end
	receivers map[string]*receiver
	names     []string

	mu        sync.Mutex
	records   map[string]*recipientRecord // by address
	busy      map[string]int              // attempts under way, by site
	tries     map[string]int              // attempts, by site
	active    int
	suspended map[string][]suspension // by site
	resumed   map[string][]time.Duration
	downtimes []period      // when there is no queue
	restarted time.Duration // when the last one ended
	killed    bool          // nothing is written until the next one
}

type suspension struct{ at, until time.Duration }

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), begin: time.Now(),
		receivers: make(map[string]*receiver), records: make(map[string]*recipientRecord),
		busy: make(map[string]int), tries: make(map[string]int),
		suspended: make(map[string][]suspension), resumed: make(map[string][]time.Duration),
	}
	hours := func(n int) time.Duration { return time.Duration(s.rng.IntN(n*60)) * time.Minute }
	for _, kind := range []string{"home", "good", "grey", "storm", "later", "refuse", "mixed", "doubt"} {
		s.receivers[kind+".example"] = &receiver{kind: kind, prompt: kind != "doubt"}
	}
	s.receivers["slow.example"] = &receiver{kind: "good", slow: 5 * time.Minute}
	s.receivers["dead.example"] = &receiver{kind: "good", down: []period{{0, 1000 * time.Hour}}}
	s.receivers["deaf.example"] = &receiver{kind: "good", slow: 30 * time.Second, down: []period{{0, 1000 * time.Hour}}}
	a := hours(48)
	s.receivers["ill.example"] = &receiver{kind: "good", down: []period{{a, a + hours(72)}}}
	flaps := &receiver{kind: "storm"}
	for at := hours(4); at < 240*time.Hour; at += hours(12) + time.Minute {
		up := at + hours(3)
		flaps.down = append(flaps.down, period{at, up})
		at = up
	}
	s.receivers["flaps.example"] = flaps
	b := hours(96)
	for i := range 8 { // domains with the same servers
		s.receivers[fmt.Sprintf("d%d.example", i)] = &receiver{
			kind: "grey", site: "shared", down: []period{{b, b + hours(24)}, {b + 48*time.Hour, b + 60*time.Hour}},
		}
	}
	for name, r := range s.receivers {
		if r.site == "" {
			r.site = name
		}
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	return s
}

// now returns the time since the beginning.
func (s *sim) now() time.Duration { return time.Since(s.begin) }

// chance returns a number below n that depends on the seed and on what it is for, but not on which goroutine asks.
func (s *sim) chance(n uint64, what ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, s.seed, what)
	return rand.New(rand.NewPCG(h.Sum64(), s.seed)).Uint64N(n)
}

// run is five days in which messages come, and the queue is closed and opened again, five in which these expire, and
// five in which the last reports do.
func (s *sim) run() {
	s.open()
	restarts := make([]time.Duration, 1+s.rng.IntN(8))
	if s.disk != nil {
		restarts = make([]time.Duration, 30) // half of them are kills
	}
	for i := range restarts {
		restarts[i] = time.Duration(s.rng.IntN(5*24*3600)) * time.Second
	}
	slices.Sort(restarts)
	for n := 0; s.now() < 108*time.Hour; n++ {
		pause := time.Duration(s.rng.IntN(1500)) * time.Second
		if s.rng.IntN(20) > 0 {
			time.Sleep(pause)
		}
		s.message(n)
		if len(restarts) > 0 && s.now() > restarts[0] {
			restarts = restarts[1:]
			time.Sleep(time.Duration(s.rng.IntN(4000)) * time.Millisecond) // something is under way
			s.restart()
		}
	}
	time.Sleep(15*24*time.Hour + 12*time.Hour - s.now())
	if err := s.q.Close(context.Background()); err != nil {
		s.t.Error(err)
	}
	s.left, _ = s.store.Usage(s.t.Context(), "", true)
	s.closeStore()
}

// kill ends the process, as far as the store can tell: nothing that the queue does from now on is written.
func (s *sim) kill() {
	if s.disk == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk, s.killed = s.disk.Kill(), true
	now := s.now()
	recent := func(at time.Duration) bool { return at > now-10*time.Second && at < now+10*time.Second }
	for _, r := range s.records {
		last := len(r.attempts) - 1
		if len(r.delivered)+len(r.failed) == 0 &&
			(s.busy[s.receivers[r.domain].site] > 0 || last >= 0 && recent(r.attempts[last].end) || recent(r.delay) ||
				recent(r.expires)) {
			r.cut++
		}
	}
}

// closeStore closes a store that can be opened again.
func (s *sim) closeStore() {
	if s.disk == nil {
		return
	}
	if err := s.store.Close(); err != nil && !s.killed {
		s.t.Error(err)
	}
}

func (s *sim) open() {
	var err error
	switch {
	case s.disk != nil:
		opt := queue.DirOptionsOn(s.disk, queue.DirOptions{Logger: slog.New(slog.DiscardHandler)})
		if s.store, err = queue.OpenDir("sim", opt); err != nil {
			s.t.Fatal(err)
		}
	case s.store == nil:
		s.store = queue.NewMemory()
	}
	s.q, err = queue.New(slowStore{s.store}, client.SenderFunc(s.send), &queue.Options{
		Hostname: "relay.example", Site: s.site, MaxRecipients: simPerJob, MaxActive: simActive,
		Policy: queue.Policy{Window: 3, MaxWindow: simWindow},
		Logger: slog.New(slog.DiscardHandler),
		Trace: &queue.Trace{
			Done: s.done, Reported: s.reported, Suspended: s.isSuspended, Resumed: s.isResumed,
			Failed: s.storeFailed,
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// restart closes the queue, with or without patience, and opens another one over the same store after a while.
func (s *sim) restart() {
	at := s.now()
	ctx, cancel := context.WithCancel(context.Background())
	hard := s.rng.IntN(2) == 0
	if hard {
		cancel()
		s.kill()
	}
	_ = s.q.Close(ctx)
	cancel()
	s.closeStore()
	s.mu.Lock()
	if s.active != 0 {
		s.t.Errorf("%d attempts are under way at a queue that is closed", s.active)
	}
	s.mu.Unlock()
	time.Sleep(time.Duration(1+s.rng.IntN(2)*s.rng.IntN(3600)) * time.Second)
	s.mu.Lock()
	s.downtimes = append(s.downtimes, period{at, s.now()})
	s.restarted, s.killed = s.now(), false
	s.mu.Unlock()
	s.open()
}

// site is Options.Site. It is slow now and then, and fails for domains that share a site, as a DNS does.
func (s *sim) site(ctx context.Context, d proto.Domain) (string, error) {
	r := s.receivers[d.ASCII()]
	select {
	case <-time.After(time.Duration(s.chance(3000, "site", d, s.now())) * time.Millisecond):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if r.site == "shared" && s.chance(10, "fails", d, s.now()) == 0 {
		return "", errors.New("no answer from the DNS")
	}
	return r.site, nil
}

// message adds a message of some kind.
func (s *sim) message(n int) {
	e := &queue.Envelope{}
	base := recipientRecord{due: s.now()}
	if s.rng.IntN(8) > 0 {
		base.sender = fmt.Sprintf("s%d@home.example", n)
		if s.rng.IntN(20) == 0 {
			base.sender = fmt.Sprintf("s%d@dead.example", n)
		}
		e.From = address(s.t, base.sender)
	}
	var mail []string
	if s.rng.IntN(6) == 0 {
		hold := time.Duration(1+s.rng.IntN(12*3600)) * time.Second
		mail = append(mail, fmt.Sprintf("HOLDFOR=%d", int(hold.Seconds())))
		base.due += hold
	}
	base.expires, base.delay = base.due+simExpire, base.due+simDelay
	if s.rng.IntN(3) == 0 {
		mail = append(mail, fmt.Sprintf("MT-PRIORITY=%d", s.rng.IntN(19)-9))
	}
	if by := time.Duration(1+s.rng.IntN(4*3600)) * time.Second; s.rng.IntN(6) == 0 && len(mail) == 0 {
		mode := "N"
		base.delay = s.now() + by
		if s.rng.IntN(2) == 0 {
			mode, base.delay, base.expires = "R", s.now()+simDelay, s.now()+by
			base.last = base.expires - min(time.Minute, by/10)
		}
		mail = append(mail, fmt.Sprintf("BY=%d;%s", int(by.Seconds()), mode))
	}
	e.Params = params(mail...)
	count := 1 + s.rng.IntN(3)*s.rng.IntN(2)
	if s.rng.IntN(40) == 0 {
		count = 5 * simPerJob
	}
	s.mu.Lock()
	for i := range count {
		r := base
		r.domain = s.names[s.rng.IntN(len(s.names))]
		if r.domain == "home.example" {
			r.domain = "good.example"
		}
		notify := []string{"", "NOTIFY=NEVER", "NOTIFY=SUCCESS", "NOTIFY=FAILURE", "NOTIFY=DELAY", "NOTIFY=FAILURE,DELAY",
			"NOTIFY=SUCCESS,FAILURE,DELAY", ""}[s.rng.IntN(8)]
		to := proto.Recipient{Address: address(s.t, fmt.Sprintf("r%d-%d@%s", n, i, r.domain)),
			Params: params(strings.Fields(notify)...)}
		d, _ := ehlo.ReadDSNRcpt(to.Params)
		r.notify = d.Notify
		r.reports, r.reportsGot = make(map[ehlo.Action][]time.Duration), make(map[ehlo.Action]int)
		s.records[to.Address.String()] = &r
		e.To = append(e.To, to)
	}
	s.mu.Unlock()
	if _, err := s.q.Add(s.t.Context(), e, strings.NewReader(text)); err != nil {
		s.t.Fatalf("message %d was not added: %v", n, err)
	}
}
