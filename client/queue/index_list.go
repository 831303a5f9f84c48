package queue

import (
	"bytes"
	"iter"
	"slices"
	"strings"
	"time"
)

// tableChunk is how many messages a chunk of a messageTable has at most.
const tableChunk = 512

// A messageTable has messages sorted by ID, in chunks. Messages come in about this order, so chunks are full. Finding
// one takes logarithmic time. Adding and removing one moves what stands behind it in the chunk; when a chunk comes or
// goes, which is rare, the list of chunks moves too.
type messageTable struct {
	chunks [][]*indexMessage
}

func compareKey(m *indexMessage, k messageKey) int { return bytes.Compare(m.id[:], k[:]) }

// search returns the chunk where a message is, or where it belongs, and its place there.
func (t *messageTable) search(k messageKey) (chunk, at int, found bool) {
	chunk, found = slices.BinarySearchFunc(t.chunks, k, func(c []*indexMessage, k messageKey) int {
		return compareKey(c[0], k)
	})
	if found || len(t.chunks) == 0 {
		return chunk, 0, found
	}
	chunk = max(chunk-1, 0)
	at, found = slices.BinarySearchFunc(t.chunks[chunk], k, compareKey)
	return chunk, at, found
}

func (t *messageTable) find(k messageKey) *indexMessage {
	c, at, ok := t.search(k)
	if !ok {
		return nil
	}
	return t.chunks[c][at]
}

func (t *messageTable) insert(m *indexMessage) {
	c, at, _ := t.search(m.id)
	switch {
	case len(t.chunks) == 0:
		t.chunks = [][]*indexMessage{{m}}
		return
	case len(t.chunks[c]) < tableChunk:
	case at == tableChunk:
		// The message comes behind a chunk that is full: it begins the next one.
		t.chunks = slices.Insert(t.chunks, c+1, append(make([]*indexMessage, 0, tableChunk), m))
		return
	default:
		half := slices.Clone(t.chunks[c][tableChunk/2:])
		clear(t.chunks[c][tableChunk/2:])
		t.chunks[c] = t.chunks[c][:tableChunk/2]
		t.chunks = slices.Insert(t.chunks, c+1, half)
		if at > tableChunk/2 {
			c, at = c+1, at-tableChunk/2
		}
	}
	t.chunks[c] = slices.Insert(t.chunks[c], at, m)
}

func (t *messageTable) remove(m *indexMessage) {
	c, at, ok := t.search(m.id)
	if !ok {
		return
	}
	t.chunks[c] = shrink(slices.Delete(t.chunks[c], at, at+1))
	// Chunks that have become small are joined.
	if c > 0 && len(t.chunks[c-1])+len(t.chunks[c]) <= tableChunk/4 {
		c--
	}
	if c+1 < len(t.chunks) && len(t.chunks[c])+len(t.chunks[c+1]) <= tableChunk/4 {
		t.chunks[c] = append(t.chunks[c], t.chunks[c+1]...)
		t.chunks = slices.Delete(t.chunks, c+1, c+2)
	}
	if len(t.chunks[c]) == 0 {
		t.chunks = slices.Delete(t.chunks, c, c+1)
	}
}

// from returns the messages from an ID on.
func (t *messageTable) from(k messageKey) iter.Seq[*indexMessage] {
	return func(yield func(*indexMessage) bool) {
		c, at, _ := t.search(k)
		for ; c < len(t.chunks); c, at = c+1, 0 {
			for _, m := range t.chunks[c][at:] {
				if !yield(m) {
					return
				}
			}
		}
	}
}

// fewJobs is up to how many jobs of a destination are sorted rather than found among all.
const fewJobs = 1000

// list returns the jobs that match f, sorted by JobID, from the one after a cursor. It does not know From and To of f:
// if they are set, the caller asks Filter.Match too. It looks at all jobs unless f has IDs, Job, or a Destination with
// few jobs. The index must not change meanwhile.
func (x *index) list(f *Filter, after JobID) iter.Seq[*indexJob] {
	return func(yield func(*indexJob) bool) {
		for j := range x.candidates(f, after) {
			x.looked++
			if j.isAfter(after) && j.matches(f) && !yield(j) {
				return
			}
		}
	}
}

// candidates returns jobs sorted by JobID, among them all that match f and come after a cursor.
func (x *index) candidates(f *Filter, after JobID) iter.Seq[*indexJob] {
	switch d := x.destinations[f.Destination]; {
	case f.Job != nil:
		if j := x.find(*f.Job); j != nil {
			return slices.Values([]*indexJob{j})
		}
	case f.IDs != nil:
		ids := slices.Clone(f.IDs)
		slices.Sort(ids)
		return func(yield func(*indexJob) bool) {
			for _, id := range slices.Compact(ids) {
				if m := x.message(id); m != nil && !m.each(yield) {
					return
				}
			}
		}
	case f.Destination == "", d != nil && d.jobs > fewJobs:
		return func(yield func(*indexJob) bool) {
			for m := range x.messages.from(keyOf(after.Message)) {
				if !m.each(yield) {
					return
				}
			}
		}
	case d != nil:
		return slices.Values(x.jobsOf(d))
	}
	return func(func(*indexJob) bool) {}
}

// each calls yield for each job until it returns false, which it then returns.
func (m *indexMessage) each(yield func(*indexJob) bool) bool {
	for _, j := range m.jobs {
		if !yield(j) {
			return false
		}
	}
	return true
}

// jobsOf returns the jobs that are to go to d, sorted by JobID.
func (x *index) jobsOf(d *destination) []*indexJob {
	jobs := slices.Concat(d.alarms, heap[*indexJob, byAlarm](d.held))
	for _, j := range d.out {
		if j.dest == d {
			jobs = append(jobs, j)
		}
	}
	for j := range x.astray {
		if j.dest == d {
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(jobs, (*indexJob).compare)
	return jobs
}

func (j *indexJob) isAfter(id JobID) bool {
	c := strings.Compare(string(j.message.id[:]), string(id.Message))
	return c > 0 || c == 0 && int(j.n) > id.N
}

// matches reports whether j matches f as far as an index knows.
func (j *indexJob) matches(f *Filter) bool {
	return (f.Destination == "" || f.Destination == j.dest.name) &&
		(f.Tag == "" || f.Tag == j.message.tag.name) &&
		(f.State == nil || *f.State == j.state) &&
		(f.IDs == nil || f.Job == nil || slices.Contains(f.IDs, j.message.ID())) &&
		(f.Job == nil || *f.Job == j.ID()) &&
		(f.Before.IsZero() || j.message.arrived < nanos(f.Before)) &&
		(f.After.IsZero() || j.message.arrived >= nanos(f.After))
}

// usage returns what is queued of a tag, or of all. See Store.Usage.
func (x *index) usage(tag string, all bool) Usage {
	if all {
		return x.total
	}
	if t := x.tags[tag]; t != nil {
		return t.Usage
	}
	return Usage{}
}

// shape returns the rows of Store.Shape.
func (x *index) shape(now time.Time) []Shape {
	rows := make(map[*destination]*Shape, len(x.destinations))
	for m := range x.messages.from(messageKey{}) {
		arrived := nanoTime(m.arrived)
		for _, j := range m.jobs {
			s := rows[j.dest]
			if s == nil {
				s = &Shape{Destination: j.dest.name}
				rows[j.dest] = s
			}
			s.count(arrived, int(j.recipients), j.state, now)
		}
	}
	shapes := make([]Shape, 0, len(rows))
	for _, s := range rows {
		shapes = append(shapes, *s)
	}
	slices.SortFunc(shapes, func(a, b Shape) int { return strings.Compare(a.Destination, b.Destination) })
	return shapes
}
