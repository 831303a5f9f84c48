package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"smtpkit.example/smtp/client/queue/internal/journal"
)

// retryDelay is how long it takes until what could not get into files is tried again.
const retryDelay = time.Second

// settleInTurn gets into files what has waited its time in the journal, until close. It is a goroutine.
func (bl *backlog) settleInTurn() {
	defer bl.work.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		failed := bl.settleAll()
		next, ended := bl.rest(failed)
		if ended {
			return
		}
		timer.Reset(next)
		var due <-chan time.Time
		if next >= 0 {
			due = timer.C
		}
		select {
		case <-due:
		case <-bl.wakeUp:
		}
	}
}

// rest returns when to look around next, or a negative time if only a wake-up tells. Ended is true when bl is closing.
func (bl *backlog) rest(failed error) (next time.Duration, ended bool) {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	if failed != nil && bl.stuck == nil && bl.failed == nil {
		bl.logger.Warn("smtp: the queue cannot make files; what it has taken is safe in its journal", "err", failed)
	}
	if bl.stuck = failed; failed != nil {
		bl.moved()
	}
	bl.armed = true
	switch {
	case bl.closing:
		// All is in files, or was tried.
		return 0, bl.list.oldest == nil || bl.list.oldest.tried == bl.pass || bl.failed != nil
	case bl.failed != nil || bl.list.oldest == nil:
		bl.armed = false
		return -1, false
	case failed != nil:
		return retryDelay, false
	}
	return max(0, time.Until(bl.list.oldest.since.Add(bl.limits.delay))), false
}

// settleAll gets into files what has waited its time. It returns the error of one that could not.
func (bl *backlog) settleAll() (failed error) {
	bl.mu.Lock()
	bl.pass++
	bl.mu.Unlock()
	began := time.Now()
	for {
		bl.reclaim()
		p, pressing := bl.due(time.Now())
		if p == nil {
			return failed
		}
		if err := bl.settle(p.id); err != nil {
			failed = err
			bl.mu.Lock()
			if bl.list.byID[p.id] == p {
				bl.list.unlink(p)
				bl.list.link(p)
				p.tried = bl.pass
			}
			bl.mu.Unlock()
		}
		if worked := time.Since(began); worked >= workTime && !pressing {
			select {
			case <-time.After(restFactor * worked):
			case <-bl.wakeUp:
			}
			began = time.Now()
		}
	}
}

// The goroutine leaves the processors and the disk to others: after workTime it rests restFactor as long, unless the
// journal needs the room.
const (
	workTime   = 2 * time.Millisecond
	restFactor = 2
)

// due returns what has to get into files now, or nil, and whether that presses.
func (bl *backlog) due(now time.Time) (p *pending, pressing bool) {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	p = bl.list.oldest
	if p == nil || p.tried == bl.pass || bl.failed != nil {
		return nil, false
	}
	if bl.closing || bl.journal.Presses(p.marks[0]) {
		return p, true
	}
	if now.Sub(p.since) >= bl.limits.delay {
		return p, false
	}
	return nil, false
}

// reclaim has the journal find room, if it should and does not already.
func (bl *backlog) reclaim() {
	if !bl.journal.Pressed() {
		return
	}
	bl.mu.Lock()
	defer bl.mu.Unlock()
	if bl.reclaiming || bl.closing || bl.failed != nil {
		return
	}
	bl.reclaiming = true
	bl.work.Go(func() {
		err := bl.journal.Reclaim()
		if err != nil {
			_ = bl.fail(err)
		}
		bl.mu.Lock()
		defer bl.mu.Unlock()
		bl.reclaiming = false
		bl.moved()
		bl.look() // more may have been settled meanwhile
	})
}

// holdBack waits before something urgent is written while the journal is longer than it should be, unless it cannot
// become shorter.
func (bl *backlog) holdBack(ctx context.Context) {
	for {
		room := bl.roomLater()
		if !bl.journal.Overfull() || bl.mayWait() != nil {
			return
		}
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}

// settle gets into files what the journal says of a message, if it is not there.
func (bl *backlog) settle(id ID) error {
	defer bl.busyWith(id).Unlock()
	return bl.settleBusy(id)
}

// settleBusy is settle for a message that is busy.
func (bl *backlog) settleBusy(id ID) error {
	bl.mu.Lock()
	p := bl.list.byID[id]
	bl.mu.Unlock()
	if p == nil {
		return nil
	}
	// Files never say more than what is durable in the journal.
	if err := bl.sync(p.marks[len(p.marks)-1]); err != nil {
		return err
	}
	if p.clear {
		if err := errors.Join(bl.files.remove(messageFile(id)), bl.files.remove(stateFile(id))); err != nil {
			return err
		}
		bl.files.touched(true)
	}
	if p.file != nil {
		b, err := bl.read(p.file)
		if err == nil {
			err = bl.files.make(messageFile(id), b)
		}
		if err != nil {
			bl.change(p, func() { p.clear = true }) // some of it may be there
			return err
		}
		bl.change(p, func() {
			p.clear = false
			p.fileIsMade()
		})
	}
	if len(p.lines) > 0 {
		b, err := bl.readLines(p.lines)
		if err == nil {
			err = bl.files.appendLines(id, b)
		}
		if err != nil {
			return err
		}
	}
	bl.settled(p)
	return nil
}

// change changes p.
func (bl *backlog) change(p *pending, change func()) {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	bl.list.change(p, change)
}

// fewFiles is how many files are synced one by one when a Dir is closed.
const fewFiles = 16

// close gets everything into files, and removes the journal. If it cannot, the journal stays, and the next Dir does it.
func (bl *backlog) close() error {
	err := bl.syncAll()
	bl.mu.Lock()
	bl.closing = true
	if bl.syncing && bl.timer.Stop() {
		bl.work.Done()
	}
	if len(bl.list.byID) <= fewFiles {
		bl.files.oneByOne()
	}
	bl.look()
	bl.mu.Unlock()
	bl.work.Wait()
	bl.mu.Lock()
	stuck := bl.stuck
	bl.mu.Unlock()
	if stuck != nil && err == nil {
		err = stuck
	}
	return errors.Join(err, bl.journal.Close(bl.failure() != nil))
}

// open reads the journal. What it says is pending from then on.
func (bl *backlog) open() error {
	opt := bl.limits.journal
	opt.Sync = bl.files.sync
	var err error
	bl.journal, err = journal.Open(bl.files.fs, opt, bl.replay)
	return err
}

// replay notes a record that is in the journal. It has waited its time.
func (bl *backlog) replay(record []byte, m journal.Mark) error {
	if len(record) < recordStart {
		return fmt.Errorf("smtp: the journal has a record of %d octets, which another version may know", len(record))
	}
	kind, id, rest := record[journal.HeaderSize], ID(record[journal.HeaderSize+1:recordStart]), record[recordStart:]
	// What is kept is not left in the record.
	keep := func(m journal.Mark, start int) unwritten {
		u := bl.list.keep(m, record, start)
		u.bytes = slices.Clone(u.bytes)
		return u
	}
	var note func(*pending, journal.Mark)
	switch {
	case !id.Valid():
	case kind == addRecord:
		note = func(p *pending, m journal.Mark) {
			p.forget(true)
			p.setFile(keep(m, recordStart))
		}
	case kind == removeRecord:
		note = func(p *pending, _ journal.Mark) { p.forget(true) }
	case kind == fileRecord:
		note = func(p *pending, _ journal.Mark) { p.forget(false) }
	case kind == stateRecord && len(rest) > 4:
		note = func(p *pending, m journal.Mark) { p.set(int(binary.BigEndian.Uint32(rest)), keep(m, recordStart+4)) }
	}
	if note == nil {
		return fmt.Errorf("smtp: the journal has a record %q of message %q, which another version may know", kind, id)
	}
	bl.mu.Lock()
	defer bl.mu.Unlock()
	bl.list.note(id, m, time.Time{}, note)
	return nil
}

// begin has bl get what is pending into files.
func (bl *backlog) begin() {
	bl.work.Add(1)
	go bl.settleInTurn()
}

// pendingIDs returns the IDs of messages of which something is pending, sorted.
func (bl *backlog) pendingIDs() []ID {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	ids := make([]ID, 0, len(bl.list.byID))
	for id := range bl.list.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// pendingOf returns what is pending of a message, or nil. It is for OpenDir, before begin.
func (bl *backlog) pendingOf(id ID) *pending {
	bl.mu.Lock()
	defer bl.mu.Unlock()
	return bl.list.byID[id]
}

// discard has the files of a message removed, if there are any.
func (bl *backlog) discard(p *pending) {
	bl.change(p, func() { p.forget(true) })
}

// setAside is putAside with all that the journal has of the message.
func (bl *backlog) setAside(id ID, why error) {
	if err := bl.settleBusy(id); err != nil {
		bl.logger.Error("smtp: what happened last to a damaged message of the queue cannot be written",
			"file", messageFile(id), "damage", why, "err", err)
	}
	bl.files.putAside(id, why, bl.logger)
}
