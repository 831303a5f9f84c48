package mtasts

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"
)

// A Store keeps policies. [MemoryStore] and [DirStore] are two; a program can have its own, in a database for instance,
// which several processes share. Its methods may be called by several goroutines at once.
//
// A Store has to be bounded. It should give up first what nobody has asked for or saved for the longest time, since a
// policy that was forgotten does not protect.
type Store interface {
	// Load returns the entry of a domain, or nil if there is none. The caller does not change it. The domain is in
	// A-labels and lower case, and is otherwise whatever a stranger has written: it is not safe as the name of a file.
	Load(ctx context.Context, domain string) (*Entry, error)
	// Save puts e in place of the entry of e.Domain. E is not changed afterwards.
	Save(ctx context.Context, e *Entry) error
	// Domains returns the domains that have entries, for a Cache that goes on where another one ended.
	Domains(ctx context.Context) ([]string, error)
}

// An Entry is a policy in a [Store].
type Entry struct {
	Domain  string    // in A-labels and lower case
	ID      string    // of the TXT record that announced the policy
	Policy  *Policy   // as fetched, with Mode None too
	Fetched time.Time // when it was fetched
	Used    time.Time // when it was last asked for, as far as the Cache knew when it saved the entry
}

// valid reports whether the policy still applies (RFC 8461 section 5.1). What comes from the future, since the clock
// was set, does.
func (e *Entry) valid(now time.Time) bool {
	return e != nil && now.Sub(e.Fetched) <= min(e.Policy.MaxAge, MaxMaxAge)
}

// size is what counts for the bound of a MemoryStore, in entries of ordinary size.
func (e *Entry) size() int {
	octets := 512
	for _, pattern := range e.Policy.MX {
		octets += 16 + len(pattern)
	}
	return (octets + 1023) / 1024
}

// defaultEntries is how many entries a store has at most.
const defaultEntries = 10000

// MemoryStore returns a Store that keeps policies in memory, and gives up those that were not asked for or saved for
// the longest time. Entries is how many there are at most; 0 means 10000, and so does a negative number. A policy of
// more than 1024 octets counts as several.
func MemoryStore(entries int) Store {
	if entries <= 0 {
		entries = defaultEntries
	}
	return &memory{room: entries, entries: make(map[string]*list.Element)}
}

type memory struct {
	mu      sync.Mutex
	room    int // what is left
	entries map[string]*list.Element
	order   list.List // of *Entry, with the one used last in front
}

func (m *memory) Load(_ context.Context, domain string) (*Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	el := m.entries[domain]
	if el == nil {
		return nil, nil
	}
	m.order.MoveToFront(el)
	return el.Value.(*Entry), nil
}

func (m *memory) Save(_ context.Context, e *Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if el := m.entries[e.Domain]; el != nil {
		m.remove(el)
	}
	m.entries[e.Domain] = m.order.PushFront(e)
	m.room -= e.size()
	for m.room < 0 {
		m.remove(m.order.Back())
	}
	return nil
}

func (m *memory) remove(el *list.Element) {
	e := m.order.Remove(el).(*Entry)
	delete(m.entries, e.Domain)
	m.room += e.size()
}

func (m *memory) Domains(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	domains := make([]string, 0, len(m.entries))
	for el := m.order.Front(); el != nil; el = el.Next() {
		domains = append(domains, el.Value.(*Entry).Domain)
	}
	slices.Sort(domains)
	return domains, nil
}
