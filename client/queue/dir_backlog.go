package queue

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue/internal/journal"
	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// The kinds of records in the journal of a Dir. Behind the kind stands the ID of a message.
const (
	addRecord    = 'A' // then the file of the message
	stateRecord  = 'S' // then the number of a job in four octets, and its line in the state file
	removeRecord = 'R' // the message is done
	fileRecord   = 'F' // there is a file of the message, and it is durable; what stands before is of another one
)

// recordStart is how many octets stand before the file or the line in a record.
const recordStart = journal.HeaderSize + 1 + len(messageKey{})

// dirLimits are the limits of files.
type dirLimits struct {
	journal journal.Options
	delay   time.Duration // how long what was written waits until it gets into files
	held    int64         // how many octets of them are kept in memory
}

var usualLimits = dirLimits{
	journal: journal.Options{SegmentSize: 32 << 20, Segments: 6, Grow: 256 << 10},
	delay:   time.Second,
	held:    16 << 20,
}

// journaledSize is how large the file of a message may be that goes through the journal. It is written twice, if it is
// not done before; a larger one is written and synced alone.
const journaledSize = 128 << 10

// A backlog has what is written to a Dir: first in the journal alone, until a goroutine gets it into files, see settle.
// Until then it is in list, and read from there.
type backlog struct {
	files  *files
	logger *slog.Logger
	limits dirLimits

	journal *journal.Journal
	work    sync.WaitGroup
	wakeUp  chan struct{} // tells the goroutine to look around

	busyLocks // taken before mu

	mu         sync.Mutex // for what follows
	list       pendingList
	room       chan struct{} // closed when the journal has more room, or will have none
	armed      bool          // the goroutine will look around by itself
	syncing    bool          // the timer of syncLater runs
	timer      *time.Timer
	closing    bool
	reclaiming bool
	pass       uint64
	stuck      error // why what has waited its time cannot get into files
	failed     error // a sync has failed
}

// BusyLocks have a lock for the files of each message.
type busyLocks [64]sync.Mutex

// busyWith locks the files of a message. It returns what unlocks them.
func (l *busyLocks) busyWith(id ID) *sync.Mutex {
	// The last digits are random.
	m := &l[(int(id[19])*7+int(id[18]))%len(l)]
	m.Lock()
	return m
}

func newBacklog(fs vfs.FS, logger *slog.Logger, limits dirLimits) *backlog {
	bl := &backlog{files: &files{fs: fs}, logger: logger, limits: limits,
		list:   pendingList{byID: map[ID]*pending{}, held: limits.held},
		wakeUp: make(chan struct{}, 1), room: make(chan struct{})}
	bl.files.failed = bl.fail
	bl.files.names.Sync = func() error { return fs.SyncDir(".") }
	bl.files.each.Store(!fs.SyncsAll())
	return bl
}

// failure returns the error of a sync that has failed.
func (bl *backlog) failure() error {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	return bl.failed
}

// fail ends the work of the Dir: what the system could not write it may have forgotten, so no later sync tells.
func (bl *backlog) fail(err error) error {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	if bl.failed == nil {
		bl.failed = &dirError{what: "be used any more, since a sync has failed; see to the disk, and open it again", err: err}
		bl.logger.Error("smtp: the queue takes no more mail, because the disk could not be written", "err", err)
		bl.moved()
	}
	return bl.failed
}

// moved tells those who wait for room. bl.mu is locked.
func (bl *backlog) moved() {
	close(bl.room)
	bl.room = make(chan struct{})
}

// beginRecord appends the beginning of a record, with room for the header of the journal.
func beginRecord(b []byte, kind byte, id ID) []byte {
	b = append(b, make([]byte, journal.HeaderSize)...)
	return append(append(b, kind), id...)
}

// put has the journal take the file of a message: what record has from recordStart on, which may be kept. It waits
// while the journal is full. It is durable when bl.sync has returned.
func (bl *backlog) put(ctx context.Context, id ID, record []byte) (journal.Mark, error) {
	for {
		room := bl.roomLater()
		m, err := bl.putNow(id, record)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, journal.ErrFull) {
			return m, bl.writeError(err)
		}
		if err := bl.mayWait(); err != nil {
			return m, err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return m, ctx.Err()
		}
	}
}

func (bl *backlog) putNow(id ID, record []byte) (journal.Mark, error) {
	defer bl.busyWith(id).Unlock() // one of the same ID that was removed may be pending
	return bl.append(id, record, false, func(p *pending, m journal.Mark) { p.setFile(bl.list.keep(m, record, recordStart)) })
}

// putFile gives the file of a large message its name, durably. Records of an earlier message of the same ID may still
// be in the journal, and say that it is done: it takes one that says otherwise. That is durable when bl.syncAll has
// returned.
func (bl *backlog) putFile(id ID) error {
	defer bl.busyWith(id).Unlock()
	// That the earlier one is done must not come after the name.
	if err := bl.settleBusy(id); err != nil {
		return err
	}
	if err := bl.files.fs.Rename(tempFile(id), messageFile(id)); err != nil {
		return diskError("rename "+tempFile(id), err)
	}
	if err := bl.files.syncNames(); err != nil {
		return err
	}
	record := beginRecord(make([]byte, 0, recordStart), fileRecord, id)
	if _, err := bl.append(id, record, true, func(*pending, journal.Mark) {}); err != nil {
		return errors.Join(bl.writeError(err), bl.files.remove(messageFile(id)))
	}
	bl.mu.Lock()
	p := bl.list.byID[id]
	bl.mu.Unlock()
	bl.settled(p)
	return nil
}

// roomLater returns a channel that is closed when there is more room in the journal, or will be none.
func (bl *backlog) roomLater() <-chan struct{} {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	return bl.room
}

// mayWait returns the error because of which it is no use to wait for room in the journal.
func (bl *backlog) mayWait() error {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	if bl.stuck == nil {
		bl.look() // otherwise it does by itself, when it makes sense
	}
	return cmp.Or(bl.failed, bl.stuck)
}

// look has the goroutine look around now. bl.mu is locked.
func (bl *backlog) look() {
	select {
	case bl.wakeUp <- struct{}{}:
	default:
	}
}

// append appends a record of a message to the journal, and notes that it is not in files yet. The message is busy,
// unless it is being added.
func (bl *backlog) append(id ID, record []byte, urgent bool, note func(*pending, journal.Mark)) (journal.Mark, error) {
	m, err := bl.journal.Append(record, urgent)
	if err != nil {
		return m, err
	}
	bl.mu.Lock()
	defer bl.mu.Unlock()
	bl.list.note(id, m, time.Now(), note)
	if !bl.armed {
		bl.armed = true
		bl.look()
	}
	return m, nil
}

// settled forgets p, whose records are in files or mean nothing any more.
func (bl *backlog) settled(p *pending) {
	bl.mu.Lock()
	bl.list.drop(p)
	bl.mu.Unlock()
	for _, m := range p.marks {
		bl.journal.Settle(m)
	}
}

// beginLine appends what stands before the line of a job in its record.
func beginLine(b []byte, id JobID) []byte {
	return binary.BigEndian.AppendUint32(beginRecord(b, stateRecord, id.Message), uint32(id.N))
}

// putLine has the journal take the line of a job, in a record, which may be kept. The message is busy.
func (bl *backlog) putLine(id JobID, record []byte) error {
	if err := bl.failure(); err != nil {
		return err
	}
	_, err := bl.append(id.Message, record, true, func(p *pending, m journal.Mark) {
		p.set(id.N, bl.list.keep(m, record, recordStart+4))
	})
	if err != nil {
		return bl.writeError(err)
	}
	bl.syncLater()
	return nil
}

// remove has the journal take that a message is done. The message is busy.
func (bl *backlog) remove(id ID) error {
	if err := bl.failure(); err != nil {
		return err
	}
	onlyThere := false
	record := beginRecord(make([]byte, 0, recordStart), removeRecord, id)
	_, err := bl.append(id, record, true, func(p *pending, _ journal.Mark) {
		// It was there for a moment, and never in a file.
		onlyThere = p.file != nil && !p.clear
		p.forget(true)
	})
	if err != nil {
		return bl.writeError(err)
	}
	if onlyThere {
		bl.mu.Lock()
		p := bl.list.byID[id]
		bl.mu.Unlock()
		bl.settled(p)
		bl.reclaim() // the goroutine may not know
	}
	bl.syncLater()
	return nil
}

// writeError returns the error to return for one of the journal.
func (bl *backlog) writeError(err error) error {
	if bl.journal.Failed() != nil {
		return bl.fail(err)
	}
	return diskError("write the journal", err)
}

// sync makes durable what was written up to a record.
func (bl *backlog) sync(m journal.Mark) error {
	if err := bl.journal.Sync(m); err != nil {
		return bl.fail(err)
	}
	return nil
}

// syncAll makes durable all that was written.
func (bl *backlog) syncAll() error {
	if err := bl.journal.SyncAll(); err != nil {
		return bl.fail(err)
	}
	return bl.failure()
}

// updateDelay is how long it takes until what Update has written is synced.
const updateDelay = 20 * time.Millisecond

// syncLater makes all durable after updateDelay.
func (bl *backlog) syncLater() {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	if bl.syncing || bl.closing || bl.failed != nil {
		return
	}
	bl.syncing = true
	bl.work.Add(1)
	bl.timer = time.AfterFunc(updateDelay, func() {
		defer bl.work.Done()
		bl.mu.Lock()
		bl.syncing = false
		bl.mu.Unlock()
		_ = bl.syncAll() // logged, and said by each later call
	})
}

// unmade returns the file of a message that is not made yet, or nil.
func (bl *backlog) unmade(id ID) *unwritten {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	if p := bl.list.byID[id]; p != nil {
		return p.file
	}
	return nil
}

// read returns what is to be written.
func (bl *backlog) read(u *unwritten) ([]byte, error) {
	if u.bytes != nil {
		return u.bytes, nil
	}
	b, err := bl.journal.Read(u.mark)
	if err != nil {
		return nil, diskError("read the journal", err)
	}
	return b[u.start:], nil
}

// readLines returns lines that are to be written, one behind the other.
func (bl *backlog) readLines(lines []stateLine) (all []byte, err error) {
	for i := range lines {
		b, err := bl.read(&lines[i].unwritten)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// held returns the file of a message that is not made yet, or nil.
func (bl *backlog) held(id ID) ([]byte, error) {
	for {
		u := bl.unmade(id)
		if u == nil {
			return nil, nil
		}
		b, err := bl.read(u)
		if err == nil || bl.unmade(id) == u {
			return b, err
		}
		// It has got into a file meanwhile, and the journal has let go of it.
	}
}

// heldLine returns the line of a job that is not written yet, or nil. The message is busy.
func (bl *backlog) heldLine(id JobID) ([]byte, error) {
	bl.mu.Lock()
	var u *unwritten
	if p := bl.list.byID[id.Message]; p != nil {
		if i, found := slices.BinarySearchFunc(p.lines, id.N, stateLine.compare); found {
			u = &p.lines[i].unwritten
		}
	}
	bl.mu.Unlock()
	if u == nil {
		return nil, nil
	}
	return bl.read(u)
}
