package queue

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// An index knows of each job in a store what Claim, Take, Release, Usage and Shape have to know: when it is due, and
// whether it is handed out. Stores that keep the rest elsewhere, such as Dir, stand on it. It does no I/O, and is not
// safe for concurrent use: the store has a lock around it.
//
// What a store does with it:
//
//   - When it opens: add for each message. The epoch may be set first, to one that was not used before.
//   - Add: Entry.check, then add when the message is durable.
//   - Claim, ClaimOne, Renew, Release, Usage, Shape: the methods of the same names.
//   - Take: take; the jobs returned are handed out. If one cannot be read, putBack undoes that.
//   - Update: lessee for each change, find, Change.Merge, write; then update or remove. The job waits again.
//   - Edit: list, Edit.Apply, write; then edit or remove. A job that is handed out stays so.
//   - List: list, and Filter.Match for what an index does not know.
//
// Each costs a time that grows with the logarithm of what is queued, for each job that it returns or changes. Shape,
// and list unless it is asked for certain messages, look at all jobs.
//
// Times are kept in nanoseconds.
//
// Memory: 64 octets for a job, 88 for a message, 24 to 40 for the places in the heaps and the table of messages,
// together about 180 for a message with one job. A destination takes about 240, with its name. BenchmarkIndexMemory
// measures it.
type index struct {
	// epoch is that of the last lease.
	epoch int64

	messages     messageTable
	destinations map[string]*destination
	tags         map[string]*tagUsage
	total        Usage
	jobs         int

	// wakes has the destinations that have to be woken at some time, and resting those without jobs whose notBefore has
	// not come yet. A destination that is leased is in neither.
	wakes, resting wakeHeap
	// astray has the jobs that were rerouted while they were handed out: each waits to get to its destination.
	astray map[*indexJob]struct{}

	// looked counts the jobs and destinations that were looked at. Tests see by it that nothing is scanned.
	looked int64
}

type wakeHeap = heap[*destination, byWake]

// messageKey is an ID.
type messageKey [20]byte

// An indexMessage is a message in an index. Only the index changes it.
type indexMessage struct {
	id      messageKey
	files   fileFlags // what Dir knows of the files
	arrived int64     // as of nanos
	size    int64
	tag     *tagUsage
	jobs    []*indexJob // sorted by n
}

// An indexJob is a job in an index. Only the index changes it.
type indexJob struct {
	message *indexMessage
	dest    *destination
	lessee  *destination // to whose lease the job is handed out, or nil

	due, alarm              int64 // as of nanos
	n, attempts, recipients int32
	at                      int32 // the place in the lane, or in destination.held or destination.out
	alarmAt                 int32 // the place in destination.alarms
	lane                    Lane
	state                   State
	edits                   uint16 // the low bits of Job.Edits
}

// A destination is what an index knows of one: its jobs, and who has it. A job that is handed out is in out of the
// destination that is leased. Others are in held, or in a lane and in alarms.
type destination struct {
	name   string
	jobs   int // those that are to go there, wherever they are
	lanes  []lane
	alarms heap[*indexJob, byAlarm]
	held   jobBag
	out    jobBag

	epoch     int64 // of the lease, or 0
	notBefore int64 // see Store.Release
	wake      int64 // the key in the heap
	in        *wakeHeap
	at        int32
}

// A lane has the jobs of one Lane that wait. Lanes without jobs do not exist.
type lane struct {
	lane Lane
	jobs heap[*indexJob, byDue]
}

type tagUsage struct {
	name string
	Usage
}

// never is a notBefore that has been forgotten.
const never = math.MinInt64

// jobFacts are what an index knows of a job.
type jobFacts struct {
	N                    int
	Destination          string
	Lane                 Lane
	State                State
	Due, Alarm           time.Time
	Attempts, Recipients int
	Edits                int
	Epoch                int64 // to which lease it is handed out already: see Store.Add
}

// factsOf returns what an index knows of j.
func factsOf(j *Job) jobFacts {
	return jobFacts{j.ID.N, j.Destination, j.Lane, j.State, j.Due, j.Alarm, j.Attempts, len(j.To), j.Edits, j.Epoch}
}

// check says what is wrong with an entry that no Store can keep.
func (e *Entry) check() error {
	if !e.Message.ID.Valid() {
		return fmt.Errorf("smtp: %q is not an ID of a message: make one with queue.NewID", e.Message.ID)
	}
	if len(e.Jobs) == 0 {
		return fmt.Errorf("smtp: message %s has no jobs", e.Message.ID)
	}
	seen := make(map[int]bool, len(e.Jobs))
	for _, j := range e.Jobs {
		switch {
		case j.ID.Message != e.Message.ID, j.ID.N < 0, j.ID.N > math.MaxInt32, seen[j.ID.N]:
			return fmt.Errorf("smtp: message %s cannot have a job %s", e.Message.ID, j.ID)
		case j.Destination == "", len(j.To) == 0, j.Alarm.IsZero():
			return fmt.Errorf("smtp: job %s needs a destination, recipients and an alarm", j.ID)
		}
		seen[j.ID.N] = true
	}
	return nil
}

func newIndex() *index {
	return &index{
		destinations: map[string]*destination{},
		tags:         map[string]*tagUsage{},
		astray:       map[*indexJob]struct{}{},
	}
}

// add adds a message with its jobs. The message must not be there, and its ID must be valid.
func (x *index) add(m *Message, jobs []*Job) {
	im := x.addMessage(m.ID, m.Arrived, m.Size, m.Tag)
	for _, j := range jobs {
		x.addJob(im, factsOf(j))
	}
}

// addMessage adds a message to which addJob adds jobs: at least one.
func (x *index) addMessage(id ID, arrived time.Time, size int64, tag string) *indexMessage {
	t := x.tags[tag]
	if t == nil {
		t = &tagUsage{name: strings.Clone(tag)}
		x.tags[t.name] = t
	}
	m := &indexMessage{id: keyOf(id), arrived: nanos(arrived), size: size, tag: t}
	x.messages.insert(m)
	for _, u := range []*Usage{&t.Usage, &x.total} {
		u.Messages++
		u.Octets += size
	}
	return m
}

// addJob adds a job to a message. If it says so, and there is the lease, it is handed out already.
func (x *index) addJob(m *indexMessage, f jobFacts) *indexJob {
	j := &indexJob{message: m, n: int32(f.N)}
	x.set(j, f)
	if n := len(m.jobs); n == 0 {
		m.jobs = []*indexJob{j}
	} else {
		at, _ := slices.BinarySearchFunc(m.jobs, j, (*indexJob).compare)
		m.jobs = slices.Insert(m.jobs, at, j)
	}
	x.jobs++
	if f.Epoch != 0 && f.Epoch == j.dest.epoch {
		x.handOut(j, j.dest)
		return j
	}
	x.link(j)
	x.settle(j.dest)
	return j
}

// message returns a message, or nil.
func (x *index) message(id ID) *indexMessage {
	if len(id) != len(messageKey{}) {
		return nil
	}
	return x.messages.find(keyOf(id))
}

// find returns a job, or nil.
func (x *index) find(id JobID) *indexJob {
	m := x.message(id.Message)
	if m == nil {
		return nil
	}
	at, ok := slices.BinarySearchFunc(m.jobs, id.N, func(j *indexJob, n int) int { return int(j.n) - n })
	if !ok {
		return nil
	}
	return m.jobs[at]
}

// update gives j what Change.Merge has made, and has it wait.
func (x *index) update(j *indexJob, f jobFacts) {
	old := j.dest
	x.unlink(j)
	x.set(j, f)
	x.link(j)
	x.settle(old)
	x.settle(j.dest)
}

// edit gives j what Edit.Apply has made. If it is handed out it stays so. The times before which its destinations, the
// one before and the new one, are not to be woken are forgotten.
func (x *index) edit(j *indexJob, f jobFacts) {
	old := j.dest
	if j.lessee == nil {
		x.unlink(j)
		x.set(j, f)
		x.link(j)
	} else {
		x.set(j, f)
		delete(x.astray, j)
		if j.lessee != j.dest {
			x.astray[j] = struct{}{}
		}
	}
	for _, d := range []*destination{old, j.dest} {
		d.notBefore = never
		x.settle(d)
	}
}

// remove removes j, whether or not it is handed out. It reports true if the message has gone with it. An operator may
// have removed it, so the time before which its destination is not to be woken is forgotten if edited is true.
func (x *index) remove(j *indexJob, edited bool) (last bool) {
	x.unlink(j)
	d, m := j.dest, j.message
	at, _ := slices.BinarySearchFunc(m.jobs, j, (*indexJob).compare)
	m.jobs = slices.Delete(m.jobs, at, at+1)
	x.jobs--
	d.jobs--
	if edited {
		d.notBefore = never
	}
	x.settle(d)
	if len(m.jobs) > 0 {
		return false
	}
	x.messages.remove(m)
	for _, u := range []*Usage{&m.tag.Usage, &x.total} {
		u.Messages--
		u.Octets -= m.size
	}
	if m.tag.Messages == 0 {
		delete(x.tags, m.tag.name)
	}
	return true
}

// putBack has a job that was handed out, and has not been used, wait again.
func (x *index) putBack(j *indexJob) {
	x.unlink(j)
	x.link(j)
	x.settle(j.dest)
}

// set gives j new facts. It must not be linked, unless it is handed out.
func (x *index) set(j *indexJob, f jobFacts) {
	if j.dest == nil || j.dest.name != f.Destination {
		if j.dest != nil {
			j.dest.jobs--
		}
		j.dest = x.destination(f.Destination)
		j.dest.jobs++
	}
	j.due, j.alarm = nanos(f.Due), nanos(f.Alarm)
	j.lane, j.state, j.edits = f.Lane, f.State, uint16(f.Edits)
	j.attempts, j.recipients = int32(f.Attempts), int32(f.Recipients)
}

// destination returns the destination of a name. The caller gives it a job or a lease, or calls settle.
func (x *index) destination(name string) *destination {
	d := x.destinations[name]
	if d == nil {
		d = &destination{name: strings.Clone(name), notBefore: never}
		x.destinations[d.name] = d
	}
	return d
}

// link has j wait where it belongs. Then its destination has to be settled.
func (x *index) link(j *indexJob) {
	x.looked++
	d := j.dest
	if j.state == Held {
		d.held.add(j)
		return
	}
	d.alarms.push(j)
	for i := range d.lanes {
		if d.lanes[i].lane == j.lane {
			d.lanes[i].jobs.push(j)
			return
		}
	}
	d.lanes = append(d.lanes, lane{lane: j.lane, jobs: heap[*indexJob, byDue]{j}})
	j.at = 0
}

// unlink takes j from where it is, and from a lease.
func (x *index) unlink(j *indexJob) {
	x.looked++
	d := j.dest
	switch {
	case j.lessee != nil:
		j.lessee.out.remove(j)
		j.lessee = nil
		delete(x.astray, j)
	case j.state == Held:
		d.held.remove(j)
	default:
		d.alarms.remove(int(j.alarmAt))
		i := slices.IndexFunc(d.lanes, func(l lane) bool { return l.lane == j.lane })
		d.lanes[i].jobs.remove(int(j.at))
		if len(d.lanes[i].jobs) == 0 {
			d.lanes = slices.Delete(d.lanes, i, i+1)
		}
	}
}

// handOut notes that j, which is not linked, is handed out to the lease of d.
func (x *index) handOut(j *indexJob, d *destination) {
	j.lessee = d
	d.out.add(j)
}

// settle puts d into the heap where it belongs, or forgets it. It is called after each change of d or its jobs.
func (x *index) settle(d *destination) {
	x.looked++
	var to *wakeHeap
	wake, wakes := d.nextWake()
	switch {
	case d.epoch != 0:
	case wakes:
		to = &x.wakes
	case d.jobs == 0 && d.notBefore != never:
		to, wake = &x.resting, d.notBefore
	case d.jobs == 0:
		delete(x.destinations, d.name)
	}
	d.wake = wake
	if d.in == to {
		if to != nil {
			to.fix(int(d.at))
		}
		return
	}
	if d.in != nil {
		d.in.remove(int(d.at))
	}
	if d.in = to; to != nil {
		to.push(d)
	}
}

// nextWake returns when d has to be woken for the jobs that wait. It reports false if none does.
func (d *destination) nextWake() (at int64, ok bool) {
	if len(d.alarms) == 0 {
		return 0, false
	}
	due := int64(math.MaxInt64)
	for _, l := range d.lanes {
		due = min(due, l.jobs[0].due)
	}
	return min(max(due, d.notBefore), d.alarms[0].alarm), true
}

// ID returns the ID of the message.
func (m *indexMessage) ID() ID { return ID(m.id[:]) }

// ID returns the ID of the job.
func (j *indexJob) ID() JobID { return JobID{j.message.ID(), int(j.n)} }

// epoch returns that of the lease to which j is handed out, or 0.
func (j *indexJob) epoch() int64 {
	if j.lessee == nil {
		return 0
	}
	return j.lessee.epoch
}

// compare orders jobs by JobID.
func (j *indexJob) compare(other *indexJob) int {
	if j.message != other.message {
		return bytes.Compare(j.message.id[:], other.message.id[:])
	}
	return int(j.n) - int(other.n)
}

// keyOf returns the key of an ID, and one that is sorted alike of a shorter one.
func keyOf(id ID) (k messageKey) {
	copy(k[:], id)
	return k
}

// nanos returns the nanoseconds of t since 1970. Times before 1678 and after 2261 are moved to the end of that range.
func nanos(t time.Time) int64 {
	const limit = math.MaxInt64 / int64(time.Second)
	switch s := t.Unix(); {
	case s <= -limit:
		return never + 1
	case s >= limit:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// nanoTime is the inverse of nanos for times since 1970, and returns 1970 for earlier ones. It is never the zero time,
// which means none.
func nanoTime(ns int64) time.Time { return time.Unix(0, max(ns, 0)).UTC() }
