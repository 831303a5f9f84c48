package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/client/queue/internal/journal"
	"smtpkit.example/smtp/client/queue/internal/vfs"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
	"smtpkit.example/smtp/proto"
)

// A crashTest is a load on a Dir, and what was promised during it. The disk has a log of what was done to it; moments
// are places there.
type crashTest struct {
	t    *testing.T
	mode crashMode
	// disk is that of the first process. Those after it have the same log.
	disk *crashfs.FS
	// wrap is put around the disk while there is a load.
	wrap func(vfs.FS) vfs.FS

	mu       sync.Mutex
	messages []*crashMessage
}

// A crashMode is how a Dir is used. The limits are low, so that messages get into files, and segments of the journal
// are used again, while others are added.
type crashMode int

const (
	syncAllAtOnce crashMode = iota // by SyncAll
	syncOneByOne                   // as where there is none
	syncLate                       // messages are done before they get into files
	crashModes
)

func (m crashMode) limits() *dirLimits {
	l := &dirLimits{journal: journal.Options{SegmentSize: 6 << 10, Segments: 3, Grow: 1 << 10},
		delay: 8 * time.Millisecond, held: 16 << 10}
	if m == syncLate {
		l.journal.SegmentSize, l.delay = 16<<10, 200*time.Millisecond
	}
	return l
}

// A noSyncAll is a file system that cannot sync all at once.
type noSyncAll struct{ vfs.FS }

func (f noSyncAll) SyncAll() error { return errors.ErrUnsupported }

func (f noSyncAll) SyncsAll() bool { return false }

// A crashMessage is a message that somebody began to add at a moment. From another on it is accepted, or never.
type crashMessage struct {
	message  Message
	content  []byte
	begun    int
	accepted int
	jobs     [][]crashVersion // by N
}

// A crashVersion is how a job stands, as JSON, or "" if it is done. It may be found from the moment begun on. From the
// moment durable on, none before it may be.
type crashVersion struct {
	begun, durable int
	job            string
}

// A pendingVersion is the at-th version of a job.
type pendingVersion struct {
	versions *[]crashVersion
	at       int
}

// notYet is after all moments.
const notYet = math.MaxInt

// A crashWorker adds messages, and handles their jobs. Only it does, so it knows how they stand.
type crashWorker struct {
	*crashTest
	d        *Dir
	n        int
	rng      *rand.Rand
	messages []*crashMessage
	// pending are versions that Update has written and that may be lost.
	pending []pendingVersion
}

var crashStart = time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)

func (c *crashTest) open(disk *crashfs.FS, log slog.Handler) (*Dir, error) {
	var fs vfs.FS = disk
	if c.wrap != nil {
		fs = c.wrap(fs)
	}
	if c.mode == syncOneByOne {
		fs = noSyncAll{fs}
	}
	return OpenDir("", &DirOptions{Logger: slog.New(log), fs: fs, limits: c.mode.limits()})
}

// load has workers use a Dir. In the middle the process is killed, and another one goes on.
func (c *crashTest) load(workers, steps int, seed uint64) {
	c.disk = crashfs.New()
	alive := c.disk
	ws := make([]*crashWorker, workers)
	for i := range ws {
		ws[i] = &crashWorker{crashTest: c, n: i, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
	}
	for life := range 2 {
		d, err := c.open(alive, slog.DiscardHandler)
		if err != nil {
			c.t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, w := range ws {
			w.d, w.pending = d, nil // what was not synced before the kill is not promised to be
			if life > 0 {
				w.lookAround()
			}
			wg.Go(func() { w.run(steps) })
		}
		if life == 0 {
			time.Sleep(time.Duration(steps) * 2 * time.Millisecond) // of the bubble
			alive = alive.Kill()
		}
		wg.Wait()
		if err := d.Close(); err != nil && life > 0 {
			c.t.Fatal(err)
		}
	}
}

func (w *crashWorker) run(steps int) {
	for range steps {
		var err error
		switch w.rng.IntN(10) {
		case 0, 1, 2, 3:
			err = w.add()
		case 4, 5, 6:
			err = w.update()
		case 7:
			err = w.edit()
		case 8:
			pause := time.Duration(w.rng.IntN(80)) * time.Millisecond
			time.Sleep(pause) // of the bubble
			if pause > updateDelay && !w.killed() {
				w.durable()
			}
		case 9:
			if err = w.d.backlog.syncAll(); err == nil {
				w.durable()
			}
		}
		if errors.Is(err, crashfs.ErrKilled) {
			return
		}
		if err != nil {
			w.t.Errorf("worker %d: %v", w.n, err)
			return
		}
	}
}

// pauseAfterUpdates has nothing happen after some calls of Update, which are synced nevertheless.
func (w *crashWorker) pauseAfterUpdates(times int) {
	for range times {
		if err := w.add(); err != nil {
			return
		}
		for len(w.pending) == 0 {
			if err := w.update(); err != nil {
				return
			}
		}
		time.Sleep(2 * updateDelay) // of the bubble
		if w.killed() {
			return
		}
		w.durable()
	}
}

// killed reports whether the process was killed, and nothing is written any more.
func (w *crashWorker) killed() bool {
	_, err := w.d.fs.List(".")
	return err != nil
}

func (w *crashWorker) destination(i int) string { return fmt.Sprintf("d%d-%d.example", w.n, i) }

// newMessage makes a message with content of a length about which a file has its sectors.
func (w *crashWorker) newMessage() (*crashMessage, *Entry) {
	w.mu.Lock()
	serial := len(w.crashTest.messages)
	cm := &crashMessage{accepted: notYet, begun: w.disk.Moment()}
	w.crashTest.messages = append(w.crashTest.messages, cm)
	w.mu.Unlock()
	cm.message = Message{
		ID: testID(serial + 1), Arrived: crashStart.Add(time.Duration(serial) * time.Second),
		From: proto.Address{Local: fmt.Sprint("from", serial)}, Tag: fmt.Sprint("worker", w.n),
	}
	cm.content = make([]byte, w.rng.IntN(3)*w.rng.IntN(1200))
	if w.rng.IntN(20) == 0 {
		cm.content = make([]byte, journaledSize+1000) // goes to its file at once
	}
	for i := range cm.content {
		cm.content[i] = byte(w.rng.Uint32())
	}
	e := &Entry{Message: &Message{}, Content: bytes.NewReader(cm.content)}
	*e.Message = cm.message
	cm.message.Size = int64(len(cm.content))
	for n := range 1 + w.rng.IntN(3) {
		j := &Job{ID: JobID{cm.message.ID, n}, Destination: w.destination(n % 2), Due: crashStart,
			Alarm: crashStart.Add(time.Hour), Expires: crashStart.Add(2 * time.Hour)}
		for r := range 1 + w.rng.IntN(3) {
			j.To = append(j.To, Recipient{Recipient: proto.Recipient{Address: proto.Address{Local: fmt.Sprint("to", r)}}})
		}
		e.Jobs = append(e.Jobs, j)
		cm.jobs = append(cm.jobs, []crashVersion{{begun: cm.begun, durable: notYet, job: jobText(j)}})
	}
	w.messages = append(w.messages, cm)
	return cm, e
}

func jobText(j *Job) string {
	c := *j
	c.Epoch = 0
	b, err := c.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (w *crashWorker) add() error {
	cm, e := w.newMessage()
	err := w.d.Add(context.Background(), e)
	if err == nil {
		w.accepted(cm)
	}
	return err
}

func (w *crashWorker) accepted(cm *crashMessage) {
	cm.accepted = w.disk.Moment()
	for n := range cm.jobs {
		cm.jobs[n][0].durable = cm.accepted
	}
	w.durable()
}

// durable notes that all is durable that was written before.
func (w *crashWorker) durable() {
	for _, p := range w.pending {
		(*p.versions)[p.at].durable = w.disk.Moment()
	}
	w.pending = nil
}

// began notes that how a job stands is about to change.
func (w *crashWorker) began(id JobID, j *Job) pendingVersion {
	i := slices.IndexFunc(w.messages, func(cm *crashMessage) bool { return cm.message.ID == id.Message })
	versions := &w.messages[i].jobs[id.N]
	v := crashVersion{begun: w.disk.Moment(), durable: notYet}
	if j != nil && len(j.To) > 0 {
		v.job = jobText(j)
	}
	*versions = append(*versions, v)
	return pendingVersion{versions, len(*versions) - 1}
}

// update takes some jobs, and has outcomes for them.
func (w *crashWorker) update() error {
	name := w.destination(w.rng.IntN(2))
	l, ok, err := w.d.ClaimOne(context.Background(), name)
	if err != nil || !ok {
		return err
	}
	jobs, err := w.d.Take(context.Background(), l, Query{Now: crashStart.Add(time.Hour), Max: 1 + w.rng.IntN(3)})
	if err != nil {
		return err
	}
	var changes []Change
	var written []pendingVersion
	var report *crashMessage
	for _, j := range jobs {
		j.Attempts++
		switch w.rng.IntN(3) {
		case 0:
			j.To = nil
		case 1:
			j.To = j.To[:len(j.To)-1]
		default:
			j.To[0].Last = &Failure{Text: strings.Repeat("greylisted ", w.rng.IntN(150))}
		}
		c := Change{Job: j}
		if report == nil && w.rng.IntN(4) == 0 {
			var e *Entry
			report, e = w.newMessage()
			c.Reports = []*Entry{e}
		}
		changes = append(changes, c)
		written = append(written, w.began(j.ID, j))
	}
	if err := w.d.Update(context.Background(), l, changes); err != nil {
		return err
	}
	if report != nil {
		w.accepted(report)
	}
	w.pending = append(w.pending, written...)
	return w.d.Release(context.Background(), l, time.Time{})
}

// edit holds, releases or drops a job.
func (w *crashWorker) edit() error {
	if len(w.messages) == 0 {
		return nil
	}
	cm := w.messages[w.rng.IntN(len(w.messages))]
	id := JobID{cm.message.ID, w.rng.IntN(len(cm.jobs))}
	listed, _, err := w.d.List(context.Background(), Filter{Job: &id}, JobID{}, 1)
	if err != nil || len(listed) == 0 {
		return err
	}
	e := Edit{Op: []Op{Hold, Release, Drop}[w.rng.IntN(3)], Why: "a test", At: crashStart}
	j := listed[0].Job
	if !e.Apply(j) {
		j = nil
	}
	written := w.began(id, j)
	n, err := w.d.Edit(context.Background(), Filter{Job: &id}, e)
	if err == nil && n != 1 {
		err = fmt.Errorf("edited %d jobs, want 1", n)
	}
	if err != nil {
		return err
	}
	w.pending = append(w.pending, written)
	w.durable()
	return nil
}

// lookAround checks that the process before, which was killed, has left what it had written.
func (w *crashWorker) lookAround() {
	for _, cm := range w.messages {
		for n, versions := range cm.jobs {
			id := JobID{cm.message.ID, n}
			listed, _, err := w.d.List(context.Background(), Filter{Job: &id}, JobID{}, 1)
			if err != nil {
				w.t.Fatal(err)
			}
			have := ""
			if len(listed) > 0 {
				have = jobText(listed[0].Job)
			}
			last := len(versions) - 1
			// What was under way has happened or not.
			if cm.accepted != notYet && have != versions[last].job && (last == 0 || have != versions[last-1].job) {
				w.t.Errorf("after the process was killed job %s is %s, want %s", id, have, versions[last].job)
			}
		}
	}
}
