package journal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// ErrFull is the error of Append if there are Options.Segments full ones whose records are not settled.
var ErrFull = errors.New("journal: full until more of it is settled")

// errClosed is the error of Append after Close.
var errClosed = errors.New("journal: closed")

// Options are the settings of a journal.
type Options struct {
	// SegmentSize is how many octets a segment has at most, and Segments how many there are before Append says ErrFull.
	SegmentSize int64
	Segments    int
	// Grow is by how many octets a segment grows at least. It doubles.
	Grow int64
	// Sync makes durable what the user has done for all records that are settled when it is called. Only one call is
	// under way at a time.
	Sync func() error
}

// A Journal is open. Its methods may be called concurrently.
type Journal struct {
	fs   vfs.FS
	opt  Options
	sync Group

	mu     sync.Mutex
	life   uint64     // counts the calls of Open for as long as there are segments
	next   uint64     // the number of the next record in this life
	active *segment   // where it goes; nil before the first
	full   []*segment // those before, in order
	free   []*segment // those that may be used again, in the order in which they were filled
	dirty  []*segment // those that have to be synced before the active one
	serial int        // of the last segment
	closed bool
}

// A Mark is where a record is.
type Mark struct {
	segment *segment
	sum     uint32 // of its key
	noted   uint64
	number  uint64
	at      int64
	length  int
}

// Open reads the journal in a directory, if there is one. It calls replay with each record and its mark. The record is
// valid until replay returns. An error of replay ends it.
func Open(dir vfs.FS, opt Options, replay func(record []byte, m Mark) error) (*Journal, error) {
	j := &Journal{fs: dir, opt: opt}
	j.sync.Sync = j.syncSegments
	if err := j.open(replay); err != nil {
		_ = j.Close(true) // nothing was written
		return nil, err
	}
	return j, nil
}

func (j *Journal) open(replay func(record []byte, m Mark) error) error {
	if err := j.find(); err != nil {
		return err
	}
	// What a loss of power has left behind a gap was never synced.
	next := uint64(0)
	for i, s := range j.full {
		switch {
		case i == 0, s.life > j.life && s.first == 0:
			j.life = s.life
		case s.life != j.life || s.first != next:
			continue
		}
		var err error
		if next, err = j.replay(s, replay); err != nil {
			return err
		}
	}
	if len(j.full) > 0 {
		j.life = j.full[len(j.full)-1].life + 1
	}
	return nil
}

// find finds the segments, sorts them, and removes what is none.
func (j *Journal) find() error {
	names, err := j.fs.List(".")
	if err != nil {
		return err
	}
	for _, name := range names {
		serial, ok := serialOf(name)
		if !ok {
			continue
		}
		j.serial = max(j.serial, serial)
		s := &segment{name: name, serial: serial}
		if err := j.inspect(s); err != nil {
			return err
		}
	}
	slices.SortFunc(j.full, compareSegments)
	return nil
}

func compareSegments(a, b *segment) int {
	return cmp.Or(cmp.Compare(a.life, b.life), cmp.Compare(a.first, b.first))
}

// inspect reads the first block of a segment. One in which it is zero or missing was being made when the power was
// lost, and has no records.
func (j *Journal) inspect(s *segment) error {
	// What replay is about to be told of may be on no disk yet, if a process was killed.
	f, err := j.fs.Append(s.name)
	if err != nil {
		return err
	}
	if err := errors.Join(f.SyncData(), f.Close()); err != nil {
		return err
	}
	if f, err = j.fs.Open(s.name); err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written
	b := make([]byte, blockSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if s.parseBlock(b[:n]) {
		s.sum = s.keySum()
		j.full = append(j.full, s)
		return nil
	}
	if len(bytes.Trim(b[:n], "\x00")) > 0 {
		return fmt.Errorf("journal: the first block of %s is damaged: move the file away to open without it", s.name)
	}
	return j.fs.Remove(s.name)
}

// replay reads the records of a segment. It returns the number of the one that would come next.
func (j *Journal) replay(s *segment, replay func([]byte, Mark) error) (next uint64, err error) {
	if s.reading, err = j.fs.Open(s.name); err != nil {
		return 0, err
	}
	b, err := readAll(s.reading)
	if err != nil {
		return 0, err
	}
	s.size, s.end = int64(len(b)), min(blockSize, int64(len(b)))
	b = b[s.end:]
	next = s.first
	for {
		record, ok := open(b, next, s.sum)
		if !ok {
			return next, nil
		}
		s.unsettled++
		if err := replay(record, Mark{s, s.sum, 0, next, s.end, len(record)}); err != nil {
			return 0, err
		}
		b = b[len(record):]
		s.end += int64(len(record))
		next++
	}
}

// Append writes a record, whose first HeaderSize octets are for the journal. It survives a crash of the process when
// Append returns. If the error is ErrFull, the caller has to settle something first, unless the record is urgent: then
// the journal becomes longer than it should. After an error nothing is written. It is final if it is one of a sync.
func (j *Journal) Append(record []byte, urgent bool) (Mark, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.sync.Failed(); err != nil {
		return Mark{}, err
	}
	if j.closed {
		return Mark{}, errClosed
	}
	if err := j.makeRoom(int64(len(record)), urgent); err != nil {
		return Mark{}, err
	}
	s := j.active
	seal(record, j.next, s.sum)
	if _, err := s.file.WriteAt(record, s.end); err != nil {
		return Mark{}, err // the next one is written over it
	}
	m := Mark{s, s.sum, j.sync.Note(), j.next, s.end, len(record)}
	j.next++
	s.end += int64(len(record))
	s.unsettled++
	return m, nil
}

// Read reads a record that is not settled, with its header.
func (j *Journal) Read(m Mark) ([]byte, error) {
	b := make([]byte, m.length)
	if n, err := m.segment.reading.ReadAt(b, m.at); n < len(b) {
		return nil, err
	}
	if record, ok := open(b, m.number, m.sum); !ok || len(record) < len(b) {
		return nil, fmt.Errorf("journal: record %d of %s is damaged", m.number, m.segment.name)
	}
	return b, nil
}

// makeRoom sees to it that the active segment has room for n octets.
func (j *Journal) makeRoom(n int64, urgent bool) error {
	if s := j.active; s == nil || s.end+n > max(j.opt.SegmentSize, blockSize+n) {
		if err := j.turn(urgent); err != nil {
			return err
		}
	}
	s := j.active
	if s.end+n <= s.size {
		return nil
	}
	grown := max(s.end+n, min(max(2*s.size, j.opt.Grow), j.opt.SegmentSize))
	for s.size < grown {
		b := zeros[:min(int64(len(zeros)), grown-s.size)]
		if _, err := s.file.WriteAt(b, s.size); err != nil {
			return err
		}
		s.size += int64(len(b))
	}
	return nil
}

var zeros [256 << 10]byte

// turn makes another segment the active one.
func (j *Journal) turn(urgent bool) error {
	var s *segment
	switch {
	case len(j.free) > 0:
		s = j.free[0]
	case len(j.full)+2 > j.opt.Segments && !urgent && j.active != nil:
		return ErrFull
	default:
		var err error
		if s, err = j.make(); err != nil {
			return err
		}
	}
	err := s.begin(j.life, j.next)
	if errors.Is(err, errSync) {
		j.sync.Fail(err)
	}
	if made := len(j.free) == 0; made && err != nil {
		j.free = append(j.free, s)
	} else if !made && err == nil {
		j.free = slices.Delete(j.free, 0, 1)
	}
	if err != nil {
		return err
	}
	if j.active != nil {
		j.full = append(j.full, j.active)
		j.dirty = append(j.dirty, j.active)
	}
	j.active = s
	return nil
}

// make makes a file for a segment, and its name durable.
func (j *Journal) make() (*segment, error) {
	s := &segment{serial: j.serial + 1, name: segmentName(j.serial + 1)}
	f, err := j.fs.Create(s.name)
	if err != nil {
		return nil, err
	}
	j.serial++
	s.file, s.reading = f, f
	if err := j.fs.SyncDir("."); err != nil {
		j.sync.Fail(err)
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// Sync makes durable all records up to one.
func (j *Journal) Sync(m Mark) error { return j.sync.Wait(m.noted) }

// SyncAll makes all records durable.
func (j *Journal) SyncAll() error { return j.sync.WaitAll() }

// Synced reports whether all records are durable.
func (j *Journal) Synced() bool { return j.sync.Clean() }

// Failed returns the error of a sync that has failed, or of Reclaim. After that Append and Sync fail.
func (j *Journal) Failed() error { return j.sync.Failed() }

// syncSegments syncs those that have been written to, in order.
func (j *Journal) syncSegments() error {
	j.mu.Lock()
	dirty := j.dirty
	j.dirty = nil
	if j.active != nil {
		dirty = append(dirty, j.active)
	}
	j.mu.Unlock()
	for _, s := range dirty {
		if err := s.file.SyncData(); err != nil {
			return err
		}
	}
	return nil
}

// Settle says that a record is not needed any more, once Options.Sync has been called.
func (j *Journal) Settle(m Mark) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m.segment.unsettled--
}

// Presses reports whether the record should be settled now, so that there is room when the journal needs it: half of
// the segments are full, and it is in one of them.
func (j *Journal) Presses(m Mark) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return m.segment != j.active && j.pressed()
}

// Pressed reports whether there is reason for Reclaim.
func (j *Journal) Pressed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pressed() && j.full[0].unsettled == 0
}

// Overfull reports whether there are more segments in use than there should be, because of urgent records.
func (j *Journal) Overfull() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.full) >= j.opt.Segments
}

func (j *Journal) pressed() bool { return len(j.full) >= max(1, j.opt.Segments/2) }

// Reclaim calls Options.Sync, and makes room of the first full segments, as far as all their records are settled. It
// must not be called concurrently. An error is final, like that of a sync.
func (j *Journal) Reclaim() error {
	j.mu.Lock()
	settled := 0
	for settled < len(j.full) && j.full[settled].unsettled == 0 {
		settled++
	}
	j.mu.Unlock()
	if settled == 0 {
		return nil
	}
	if err := j.opt.Sync(); err != nil {
		j.sync.Fail(err)
		return err
	}
	j.mu.Lock()
	j.free = append(j.free, j.full[:settled]...)
	j.full = slices.Delete(j.full, 0, settled)
	// Those of an earlier life are not open, and those made beyond the number are too many. The first ones go, so that
	// those on disk remain the end of the log.
	var surplus []*segment
	for len(j.free) > 0 && (j.free[0].file == nil || len(j.full)+len(j.free)+1 > j.opt.Segments) {
		surplus = append(surplus, j.free[0])
		j.free = slices.Delete(j.free, 0, 1)
	}
	kept := j.free
	j.free = nil // until the earlier ones are gone
	j.dirty = slices.DeleteFunc(j.dirty, func(s *segment) bool { return slices.Contains(surplus, s) })
	j.mu.Unlock()
	var err error
	if len(surplus) > 0 {
		err = j.SyncAll() // one that is under way may have come to them
	}
	if err == nil {
		err = j.remove(surplus)
	}
	if err != nil {
		j.sync.Fail(err) // what is used again must not leave an earlier one behind
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.free = append(kept, j.free...)
	return err
}

// remove removes segments, each durably before the next.
func (j *Journal) remove(segments []*segment) error {
	for _, s := range segments {
		if s.reading != nil {
			_ = s.reading.Close() // it is not needed again
		}
	}
	for _, s := range segments {
		if err := j.fs.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := j.fs.SyncDir("."); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the files. If all records are settled it calls Options.Sync and removes them, unless they are to be
// kept.
func (j *Journal) Close(keep bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := slices.Concat(j.free, j.full)
	if j.active != nil {
		all = append(all, j.active)
	}
	j.active, j.full, j.free, j.closed = nil, nil, nil, true
	keep = keep || slices.ContainsFunc(all, func(s *segment) bool { return s.unsettled > 0 })
	err := j.sync.Failed()
	if !keep && err == nil && len(all) > 0 {
		err = j.opt.Sync()
	}
	if !keep && err == nil {
		return j.remove(all)
	}
	for _, s := range all {
		if s.reading != nil {
			err = errors.Join(err, s.reading.Close())
		}
	}
	return err
}
