package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Store that keeps everything in memory. It is for tests, and for programs that may lose mail when they
// end: nothing outlives the process. Make one with NewMemory. It is for one process. It has no bounds of its own: see
// Limits.
//
// Leases end with Release and with Close only. After Close all methods fail, but a content that is open can be read.
type Memory struct {
	mu          sync.Mutex
	index       *index
	messages    map[ID]*memoryMessage
	suspensions map[string]Suspension
	closed      bool
}

var _ Store = (*Memory)(nil)

// A memoryMessage is a message with its content, which does not change, and the jobs that are left.
type memoryMessage struct {
	message *Message
	content []byte
	jobs    map[int]*Job
}

// errStoreClosed is the error of a store after Close.
var errStoreClosed = errors.New("smtp: the store of the queue is closed")

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{
		index:       newIndex(),
		messages:    map[ID]*memoryMessage{},
		suspensions: map[string]Suspension{},
	}
}

// enter locks m for a method, unless ctx has ended or m is closed. The caller unlocks it in any case.
func (m *Memory) enter(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		return errStoreClosed
	}
	return ctx.Err()
}

// Add implements Store. The error is that of Content, or of ctx, or says what is wrong with e.
func (m *Memory) Add(ctx context.Context, e *Entry) error {
	added, err := readEntry(ctx, e)
	if err != nil {
		return err
	}
	err = m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	m.add(added)
	return nil
}

// readEntry reads the content of e, sets the Size of its message, and returns a copy.
func readEntry(ctx context.Context, e *Entry) (*memoryMessage, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var content []byte
	var err error
	if r, ok := e.Content.(*bytes.Reader); ok {
		content = make([]byte, r.Len())
		_, err = io.ReadFull(r, content)
	} else {
		content, err = io.ReadAll(e.Content)
	}
	if err != nil {
		return nil, err
	}
	e.Message.Size = int64(len(content))
	added := &memoryMessage{copyMessage(e.Message), slices.Clip(content), make(map[int]*Job, len(e.Jobs))}
	for _, j := range e.Jobs {
		added.jobs[j.ID.N] = copyJob(j)
	}
	return added, nil
}

// add adds a message, unless there is one of this ID.
func (m *Memory) add(added *memoryMessage) {
	id := added.message.ID
	if _, ok := m.messages[id]; ok {
		return
	}
	m.messages[id] = added
	im := m.index.addMessage(id, added.message.Arrived, added.message.Size, added.message.Tag)
	for _, j := range added.jobs {
		m.index.addJob(im, factsOf(j))
		j.Epoch = 0
	}
}

// Message implements Store.
func (m *Memory) Message(ctx context.Context, id ID) (*Message, error) {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	mm := m.messages[id]
	if mm == nil {
		return nil, ErrNotFound
	}
	return copyMessage(mm.message), nil
}

// Open implements Store.
func (m *Memory) Open(ctx context.Context, id ID) (Content, error) {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	mm := m.messages[id]
	if mm == nil {
		return nil, ErrNotFound
	}
	return memoryContent{bytes.NewReader(mm.content)}, nil
}

// memoryContent is a content in memory, which stays there while it is used.
type memoryContent struct{ r *bytes.Reader }

func (c memoryContent) ReadAt(p []byte, off int64) (int, error) { return c.r.ReadAt(p, off) }
func (c memoryContent) Size() int64                             { return c.r.Size() }
func (c memoryContent) Close() error                            { return nil }

// Claim implements Store.
func (m *Memory) Claim(ctx context.Context, now time.Time, max int) ([]Lease, time.Time, error) {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return nil, time.Time{}, err
	}
	leases, next := m.index.claim(now, max)
	return leases, next, nil
}

// ClaimOne implements Store.
func (m *Memory) ClaimOne(ctx context.Context, destination string) (Lease, bool, error) {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return Lease{}, false, err
	}
	l, ok := m.index.claimOne(destination)
	return l, ok, nil
}

// Take implements Store.
func (m *Memory) Take(ctx context.Context, l Lease, q Query) ([]*Job, error) {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	taken, err := m.index.take(l, q)
	if err != nil {
		return nil, err
	}
	jobs := make([]*Job, len(taken))
	for i, j := range taken {
		jobs[i] = copyJob(m.job(j))
		jobs[i].Epoch = l.Epoch
	}
	return jobs, nil
}

// job returns the stored job of one in the index.
func (m *Memory) job(j *indexJob) *Job {
	id := j.ID()
	return m.messages[id.Message].jobs[id.N]
}

// Update implements Store. A change of a job that is handed out to another lease is not written.
func (m *Memory) Update(ctx context.Context, l Lease, changes []Change) error {
	var reports []*memoryMessage
	for i := range changes {
		for _, e := range changes[i].Reports {
			added, err := readEntry(ctx, e)
			if err != nil {
				return err
			}
			reports = append(reports, added)
		}
	}
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	lessee, err := m.index.lessee(l)
	if err != nil {
		return err
	}
	for _, added := range reports {
		m.add(added)
	}
	for i := range changes {
		j := m.index.find(changes[i].Job.ID)
		if j == nil || j.lessee != nil && j.lessee != lessee {
			continue
		}
		changed := copyJob(changes[i].Merge(m.job(j)))
		if len(changed.To) == 0 {
			m.remove(j, false)
			continue
		}
		m.messages[changed.ID.Message].jobs[changed.ID.N] = changed
		m.index.update(j, factsOf(changed))
	}
	return nil
}

// remove removes a job, and the message with its last one.
func (m *Memory) remove(j *indexJob, edited bool) {
	id := j.ID()
	delete(m.messages[id.Message].jobs, id.N)
	if m.index.remove(j, edited) {
		delete(m.messages, id.Message)
	}
}

// Release implements Store.
func (m *Memory) Release(ctx context.Context, l Lease, notBefore time.Time) error {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	return m.index.release(l, notBefore)
}

// Renew implements Store. Leases have no time at which they end.
func (m *Memory) Renew(ctx context.Context, leases []Lease) (lost []Lease, err error) {
	err = m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return m.index.renew(leases), nil
}

// Edit implements Store.
func (m *Memory) Edit(ctx context.Context, f Filter, e Edit) (n int, err error) {
	err = m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return 0, err
	}
	for _, j := range slices.Collect(m.index.list(&f, JobID{})) {
		stored := m.job(j)
		if !f.Match(m.messages[stored.ID.Message].message, stored) {
			continue
		}
		n++
		if !e.Apply(stored) {
			m.remove(j, true)
			continue
		}
		m.index.edit(j, factsOf(stored))
	}
	return n, nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, f Filter, after JobID, max int) (jobs []Listed, next JobID, err error) {
	err = m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return nil, JobID{}, err
	}
	for j := range m.index.list(&f, after) {
		stored := m.job(j)
		message := m.messages[stored.ID.Message].message
		if !f.Match(message, stored) {
			continue
		}
		if len(jobs) >= max {
			if len(jobs) > 0 {
				next = jobs[len(jobs)-1].Job.ID
			}
			break
		}
		listed := copyJob(stored)
		listed.Epoch = j.epoch()
		jobs = append(jobs, Listed{copyMessage(message), listed})
	}
	return jobs, next, nil
}

// Shape implements Store.
func (m *Memory) Shape(ctx context.Context, now time.Time) ([]Shape, error) {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return m.index.shape(now), nil
}

// Usage implements Store.
func (m *Memory) Usage(ctx context.Context, tag string, all bool) (Usage, error) {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return Usage{}, err
	}
	return m.index.usage(tag, all), nil
}

// Suspend implements Store.
func (m *Memory) Suspend(ctx context.Context, s Suspension) error {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	if s.Until.IsZero() {
		delete(m.suspensions, s.Site)
	} else {
		m.suspensions[s.Site] = s
	}
	return nil
}

// Suspended implements Store. The notes are sorted by Site.
func (m *Memory) Suspended(ctx context.Context, now time.Time) ([]Suspension, error) {
	err := m.enter(ctx)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var notes []Suspension
	for site, s := range m.suspensions {
		if s.Until.After(now) {
			notes = append(notes, s)
		} else {
			delete(m.suspensions, site)
		}
	}
	slices.SortFunc(notes, func(a, b Suspension) int { return strings.Compare(a.Site, b.Site) })
	return notes, nil
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index.endLeases()
	m.closed = true
	return nil
}

// copyMessage returns a copy of m that shares nothing that can be changed.
func copyMessage(m *Message) *Message {
	c := *m
	c.Params = slices.Clone(m.Params)
	return &c
}

// copyJob returns a copy of j that shares nothing that can be changed.
func copyJob(j *Job) *Job {
	c := j.clone()
	for i := range c.To {
		r := &c.To[i]
		r.Params = slices.Clone(r.Params)
		if r.Last != nil {
			last := *r.Last
			r.Last = &last
		}
	}
	return c
}
