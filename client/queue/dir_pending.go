package queue

import (
	"cmp"
	"slices"
	"time"

	"smtpkit.example/smtp/client/queue/internal/journal"
)

// A pending is what the journal says of a message and its files do not say yet. It is changed with its message busy and
// backlog.mu locked.
type pending struct {
	id    ID
	since time.Time // of the first record
	marks []journal.Mark
	usual [2]journal.Mark // room for those of most messages
	// Clear: the files on disk, if there are any, are not those of the message, and are removed first.
	clear  bool
	file   *unwritten  // what becomes ID.msg; nil if it is there, or the message is gone
	lines  []stateLine // what is appended to ID.state: a line for each job, sorted by n
	octets int64       // of these in memory

	tried      uint64   // the pass that could not get it into files
	prev, next *pending // in the list
}

// An unwritten is what a record says that is not in a file yet.
type unwritten struct {
	mark  journal.Mark // of the record
	start int          // where in the record it begins
	bytes []byte       // nil if the journal alone has it
}

// A stateLine is the line of a job.
type stateLine struct {
	n int
	unwritten
}

func (l stateLine) compare(n int) int { return cmp.Compare(l.n, n) }

// set replaces the line of a job.
func (p *pending) set(n int, u unwritten) {
	i, found := slices.BinarySearchFunc(p.lines, n, stateLine.compare)
	if !found {
		p.lines = slices.Insert(p.lines, i, stateLine{n: n})
	}
	p.octets += int64(len(u.bytes) - len(p.lines[i].bytes))
	p.lines[i].unwritten = u
}

// forget has nothing be written any more.
func (p *pending) forget(clear bool) {
	p.clear, p.file, p.lines, p.octets = clear, nil, nil, 0
}

// setFile has a file be made.
func (p *pending) setFile(u unwritten) {
	p.fileIsMade()
	p.file, p.octets = &u, p.octets+int64(len(u.bytes))
}

// fileIsMade forgets the file.
func (p *pending) fileIsMade() {
	if p.file != nil {
		p.octets -= int64(len(p.file.bytes))
	}
	p.file = nil
}

// A pendingList has all that is pending, in the order in which it came. It has no lock: that of the backlog is around
// it.
type pendingList struct {
	byID           map[ID]*pending
	oldest, newest *pending
	octets         int64 // in memory
	held           int64 // how many there may be
}

// keep returns what a record says from start on. It is kept in memory if there is not much.
func (l *pendingList) keep(m journal.Mark, record []byte, start int) unwritten {
	u := unwritten{mark: m, start: start}
	if l.octets+int64(len(record)) <= l.held {
		u.bytes = record[start:]
	}
	return u
}

// note notes a record of the journal.
func (l *pendingList) note(id ID, m journal.Mark, now time.Time, change func(*pending, journal.Mark)) {
	p := l.byID[id]
	if p == nil {
		p = &pending{id: id, since: now}
		p.marks = p.usual[:0]
		l.byID[id] = p
		l.link(p)
	}
	p.marks = append(p.marks, m)
	before := p.octets
	change(p, m) // by what is in memory, that of p with it
	l.octets += p.octets - before
}

// change changes p.
func (l *pendingList) change(p *pending, change func()) {
	before := p.octets
	change()
	l.octets += p.octets - before
}

// drop forgets p.
func (l *pendingList) drop(p *pending) {
	l.octets -= p.octets
	delete(l.byID, p.id)
	l.unlink(p)
}

// link makes p the newest.
func (l *pendingList) link(p *pending) {
	if p.prev = l.newest; p.prev == nil {
		l.oldest = p
	} else {
		p.prev.next = p
	}
	l.newest = p
}

// unlink takes p out of the list.
func (l *pendingList) unlink(p *pending) {
	if p.prev == nil {
		l.oldest = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		l.newest = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.prev, p.next = nil, nil
}
