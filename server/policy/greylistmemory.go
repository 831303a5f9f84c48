package policy

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// ErrGreylistFull is the error of a GreylistStore that has no room for another attempt. The mail passes then.
var ErrGreylistFull = errors.New("smtp: the store of the greylist is full of attempts of the last hour; " +
	"make it larger, or limit how many attempts a client may make")

// defaultGreylistSize is how many entries a store has by default, and minGreylistAge is for how long an attempt is kept
// in any case.
const (
	defaultGreylistSize = 100_000
	minGreylistAge      = time.Hour
)

// NewGreylistMemory returns a [GreylistStore] in memory, for one process. It has room for max entries, of about 300
// octets each. Zero is 100,000, which is some 30 MB. Its methods may be called by several goroutines at once.
//
// When it is full it forgets what is oldest. Attempts that are waited for stay for an hour in any case, and have a
// quarter of the room for themselves. A new one is ErrGreylistFull if there is no room. So somebody who makes up
// attempts in masses switches greylisting off for an hour, but he does not keep anybody else's mail out.
func NewGreylistMemory(max int) GreylistStore {
	return &greylistMemory{table: newGreylistTable(max)}
}

type greylistMemory struct {
	mu    sync.Mutex
	table *greylistTable
}

func (m *greylistMemory) Get(_ context.Context, key string) (GreylistEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.get(key), nil
}

func (m *greylistMemory) Put(_ context.Context, key string, e GreylistEntry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.put(key, e, time.Now())
}

// A greylistTable has the entries of a store. It is for one goroutine at a time.
type greylistTable struct {
	max     int
	entries map[string]*list.Element
	waiting *list.List // attempts that are waited for, the one that was put first in front
	passed  *list.List // what has passed, in the same order
}

type greylistItem struct {
	key     string
	entry   GreylistEntry
	waiting bool
}

func newGreylistTable(max int) *greylistTable {
	if max <= 0 {
		max = defaultGreylistSize
	}
	return &greylistTable{max: max, entries: make(map[string]*list.Element), waiting: list.New(), passed: list.New()}
}

func (t *greylistTable) lists() []*list.List { return []*list.List{t.waiting, t.passed} }

func (t *greylistTable) get(key string) GreylistEntry {
	if e := t.entries[key]; e != nil {
		return e.Value.(*greylistItem).entry
	}
	return GreylistEntry{}
}

// put puts an entry, and forgets others if there are too many. It fails if there is no room.
func (t *greylistTable) put(key string, entry GreylistEntry, now time.Time) error {
	t.remove(t.entries[key])
	for _, l := range t.lists() {
		// Two each time are enough: no more than one comes in between.
		for range 2 {
			if e := l.Front(); e != nil && !now.Before(e.Value.(*greylistItem).entry.Expires) {
				t.remove(e)
			}
		}
	}
	item := &greylistItem{key, entry, entry.Passes == 0}
	if len(t.entries) >= t.max && !t.makeRoom(item.waiting, now) {
		return ErrGreylistFull
	}
	l := t.passed
	if item.waiting {
		l = t.waiting
	}
	t.entries[key] = l.PushBack(item)
	return nil
}

// makeRoom forgets one entry, and reports whether there was one to forget.
func (t *greylistTable) makeRoom(forWaiting bool, now time.Time) bool {
	if t.waiting.Len() >= max(t.max/4, 1) {
		oldest := t.waiting.Front()
		if now.Sub(oldest.Value.(*greylistItem).entry.First) >= minGreylistAge {
			t.remove(oldest)
			return true
		}
		if forWaiting {
			return false
		}
	}
	oldest := t.passed.Front()
	t.remove(oldest)
	return oldest != nil
}

func (t *greylistTable) remove(e *list.Element) {
	if e == nil {
		return
	}
	item := e.Value.(*greylistItem)
	delete(t.entries, item.key)
	if item.waiting {
		t.waiting.Remove(e)
	} else {
		t.passed.Remove(e)
	}
}
