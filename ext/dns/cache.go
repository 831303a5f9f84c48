package dns

import (
	"container/list"
	"time"
)

const (
	// maxNegative is the longest time for which an answer without records is kept. RFC 2308 section 5 wants a limit of
	// one to three hours.
	maxNegative = time.Hour
	// A failure is kept for failedFor, and twice as long each time it comes again, up to failedMost. RFC 9520 section
	// 3.2 wants one second to five minutes.
	failedFor  = 5 * time.Second
	failedMost = time.Minute
	// failuresSize is the size of a cache that has nothing else, in octets.
	failuresSize = 64 << 10
)

// A cache has answers and failures, until they are too old or too many: those used longest ago go first.
type cache struct {
	size    int // octets, about; negative: failures only
	used    int
	entries map[question]*list.Element
	order   list.List // of *entry, the one used last in front
}

type entry struct {
	q       question
	size    int
	until   time.Time
	answer  *Answer
	failure *Error
	backoff time.Duration // for how long failure is kept
}

// get returns what is known of q.
func (c *cache) get(q question, now time.Time) (*Answer, *Error) {
	element := c.entries[q]
	if element == nil {
		return nil, nil
	}
	e := element.Value.(*entry)
	left := e.until.Sub(now)
	if left <= 0 {
		return nil, nil // it stays for its backoff, as long as there is room
	}
	c.order.MoveToFront(element)
	if e.failure != nil {
		return nil, e.failure
	}
	answer := *e.answer // others have it too
	answer.TTL = left
	return &answer, nil
}

// put keeps the outcome of a look-up.
func (c *cache) put(q question, now time.Time, answer *Answer, failure *Error) {
	e := &entry{q: q, answer: answer, failure: failure, size: 400 + 2*len(q.name)}
	old := c.entries[q]
	switch {
	case failure != nil:
		e.backoff = failedFor
		if old != nil {
			if before := old.Value.(*entry).backoff; before > 0 {
				e.backoff = min(2*before, failedMost)
			}
		}
		e.until = now.Add(e.backoff)
		e.size += len(failure.Err.Error())
	case answer.Empty():
		e.until = now.Add(min(answer.TTL, maxNegative))
	default:
		e.until = now.Add(answer.TTL)
		e.size += answer.size()
	}
	if old != nil {
		c.remove(old)
	}
	size := c.size
	if size < 0 {
		size = failuresSize
	}
	// One answer does not drive out all the others.
	if !e.until.After(now) || e.size > size/8 || c.size < 0 && failure == nil {
		return
	}
	c.entries[q] = c.order.PushFront(e)
	for c.used += e.size; c.used > size; {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(element *list.Element) {
	e := c.order.Remove(element).(*entry)
	delete(c.entries, e.q)
	c.used -= e.size
}

// size returns about how many octets of memory the records take.
func (a *Answer) size() int {
	n := 32*len(a.Addrs) + 32*len(a.MX) + 32*len(a.TXT) + 40*len(a.TLSA) + 32*len(a.Names)
	for _, mx := range a.MX {
		n += len(mx.Host)
	}
	for _, text := range a.TXT {
		n += len(text)
	}
	for _, r := range a.TLSA {
		n += len(r.Data)
	}
	for _, name := range a.Names {
		n += len(name)
	}
	return n
}
