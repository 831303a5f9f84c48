package queue

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
)

// A Store keeps messages and jobs where they outlive the process. [Dir] keeps files in a directory, package sqlstore a
// database, and [Memory] nothing that outlives it. Package queuetest has the tests for a Store of your own.
//
// All methods may be called concurrently. The methods are made so that several processes could use one Store: each of
// them would lease destinations, see Claim. None of those named permits it yet. A time in the past is never an error.
// Times are kept with millisecond precision or better. What the methods return belongs to the caller, and what they are
// given may be changed when they have returned.
//
// An error that may be gone at the next call has a method Temporary that returns true, or wraps an error of a full
// disk. After any other error of Add, Take or Update the Queue takes no more mail, and makes no more attempts, until it
// has succeeded in writing again.
type Store interface {
	// Add makes a message with its jobs durable: it returns nil when both survive a crash of the process and a loss of
	// power. It is all or nothing. It sets Size of the message. If the store has a message of this ID already, or has had
	// one that it remembers, Add may do nothing and return nil. Adds of many goroutines share the cost of writing to disk.
	//
	// A job whose Epoch is not 0 is handed out already to the lease of its destination with that epoch, as if Take had
	// returned it. If there is no such lease any more, the job waits like any other.
	Add(ctx context.Context, e *Entry) error

	// Message returns a message, and Open its content. The error is ErrNotFound if there is none. A content that is open
	// can be read to its end, also if the message is removed meanwhile.
	Message(ctx context.Context, id ID) (*Message, error)
	Open(ctx context.Context, id ID) (Content, error)

	// Claim leases at most max destinations that have to be woken by now: those of which a job that is not held has
	// come to its Due or Alarm, and which nobody has leased. The ones that have waited longest come first. Next is when
	// the next destination has to be woken that is neither leased nor among the leases: it may be now or earlier, if
	// there were more than max, and is zero if there is none. Claim does not look at each job.
	Claim(ctx context.Context, now time.Time, max int) (leases []Lease, next time.Time, err error)

	// ClaimOne leases one destination whether or not it has to be woken, and also if it has no jobs. It reports false if
	// somebody has leased it.
	ClaimOne(ctx context.Context, destination string) (lease Lease, ok bool, err error)

	// Take hands out jobs of a destination, those with the lowest Due first. It hands out no job twice under a lease,
	// unless Update has been called for it in between. Held jobs are never handed out, and neither are jobs that are
	// handed out under the lease of another destination, from which an operator has rerouted them. The error is
	// ErrLease if the lease has ended. Take does not look at all jobs of the destination.
	Take(ctx context.Context, l Lease, q Query) ([]*Job, error)

	// Update writes outcomes, and makes the jobs wait again or removes them. A message is removed with its last job. It
	// returns when what it has written survives a crash of the process; a loss of power may undo the changes of the last
	// moments. The reports are durable before the change is. It writes what Change.Merge returns. A job that is gone
	// remains so, but its reports are added. The error is ErrLease, and nothing is written, if the lease has ended.
	// Updates of many goroutines share the cost of writing to disk.
	Update(ctx context.Context, l Lease, changes []Change) error

	// Release ends a lease. What was handed out under it and not updated waits again. Until notBefore the destination is
	// woken only for alarms. The time is forgotten when one of its jobs is edited, or one is rerouted to it, when it is
	// leased again, and may be when the Store is opened again. Adding a job does not change it, and neither does Update.
	// The error is ErrLease if the lease has ended.
	Release(ctx context.Context, l Lease, notBefore time.Time) error

	// Renew prolongs leases that have a time at which they end. It returns those that have ended. The Queue does not call
	// it yet: a Store for one process gives leases that do not end by themselves.
	Renew(ctx context.Context, leases []Lease) (lost []Lease, err error)

	// Edit applies e to all jobs that match f, and returns their number. It is durable like Add.
	Edit(ctx context.Context, f Filter, e Edit) (n int, err error)

	// List returns at most max jobs that match f, sorted by JobID, from the one after the cursor, which is JobID{} for
	// the first. Next is the cursor for the following ones, and JobID{} if there are none.
	List(ctx context.Context, f Filter, after JobID, max int) (jobs []Listed, next JobID, err error)

	// Shape returns a row for each destination that has jobs, sorted by name.
	Shape(ctx context.Context, now time.Time) ([]Shape, error)

	// Usage returns what is queued of all messages with this tag, or of all messages if all is true. It is called for each
	// message that is added: it does not count.
	Usage(ctx context.Context, tag string, all bool) (Usage, error)

	// Suspend keeps a note that outlives the process: no attempts are made at name until then. A zero time removes it.
	// Suspended returns all notes whose time has not come. The Store does not act on them.
	Suspend(ctx context.Context, s Suspension) error
	Suspended(ctx context.Context, now time.Time) ([]Suspension, error)

	// Close ends all leases, writes what is not written yet, and lets go of the files.
	Close() error
}

// Content is the content of a message. Its methods may be called concurrently.
type Content interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Errors of a Store.
var (
	ErrNotFound = errors.New("smtp: no such message in the queue")
	ErrLease    = errors.New("smtp: the lease of the destination has ended")
	ErrInUse    = errors.New("smtp: another process has opened the queue")
)

// A Lease is the right to deliver to a destination. At most one process has it at a time. What it writes carries the
// Epoch, which is larger for each lease of a destination, and never 0: so nothing of an earlier lease is written.
type Lease struct {
	Destination string
	Epoch       int64
	// Until is when the lease ends unless it is renewed; zero means not before the Store is closed.
	Until time.Time
}

// A Query says which jobs Take hands out.
type Query struct {
	Now time.Time
	// Lane is the lane to take from. It is ignored with AlarmsOnly.
	Lane Lane
	// All hands out jobs that are not due too.
	All bool
	// AlarmsOnly hands out jobs whose Alarm has come by Now, of any lane, those with the lowest Alarm first. Without it
	// those are handed out whose Due has. All does not change it.
	AlarmsOnly bool
	// Max is how many to hand out at most.
	Max int
}

// A Filter chooses jobs. A job matches if it matches all fields that are set; the zero value matches all. A job is
// chosen with all its recipients, whichever of them is To.
type Filter struct {
	IDs         []ID   // of messages
	Job         *JobID // one job
	Destination string // as in Job.Destination
	From        string // the reverse-path is this address, or one of this "@domain"; "<>" is the null reverse-path
	To          string // one of the recipients that are left is this address, or one of this "@domain"
	Tag         string
	State       *State
	Before      time.Time // arrived before
	After       time.Time // arrived at this time or later
}

// IsZero reports whether f matches all jobs.
func (f *Filter) IsZero() bool {
	return f.IDs == nil && f.Job == nil && f.State == nil && f.Before.IsZero() && f.After.IsZero() &&
		f.Destination == "" && f.From == "" && f.To == "" && f.Tag == ""
}

// Match reports whether a job of m matches f. Addresses are compared without regard to case.
func (f *Filter) Match(m *Message, j *Job) bool {
	return (f.IDs == nil || slices.Contains(f.IDs, m.ID)) &&
		(f.Job == nil || *f.Job == j.ID) &&
		(f.Destination == "" || f.Destination == j.Destination) &&
		(f.Tag == "" || f.Tag == m.Tag) &&
		(f.State == nil || *f.State == j.State) &&
		(f.Before.IsZero() || m.Arrived.Before(f.Before)) &&
		(f.After.IsZero() || !m.Arrived.Before(f.After)) &&
		(f.From == "" || matchAddress(f.From, m.From.String())) &&
		(f.To == "" || slices.ContainsFunc(j.To, func(r Recipient) bool { return matchAddress(f.To, r.Address.String()) }))
}

// matchAddress reports whether an address, or "" for the null reverse-path, is the one that is wanted.
func matchAddress(want, have string) bool {
	if want == "<>" {
		return have == ""
	}
	if strings.HasPrefix(want, "@") {
		i := strings.LastIndexByte(have, '@')
		return i >= 0 && strings.EqualFold(want, have[i:])
	}
	return strings.EqualFold(want, have)
}

// A Listed is a job with its message.
type Listed struct {
	Message *Message
	Job     *Job
}

// A Shape says how much waits for a destination, and for how long.
type Shape struct {
	Destination string
	// Jobs, Held and Recipients count what is queued.
	Jobs, Held, Recipients int
	// Ages counts the jobs by the age of their message: below ShapeAges[i] and not below the one before, and older ones in
	// the last.
	Ages [len(ShapeAges) + 1]int
	// Oldest is the arrival of the oldest message.
	Oldest time.Time
}

// ShapeAges are the limits of the columns of a Shape.
var ShapeAges = [...]time.Duration{
	5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute, 160 * time.Minute,
	320 * time.Minute, 640 * time.Minute, 1280 * time.Minute,
}

// Count adds a job to s.
func (s *Shape) Count(m *Message, j *Job, now time.Time) { s.count(m.Arrived, len(j.To), j.State, now) }

func (s *Shape) count(arrived time.Time, recipients int, state State, now time.Time) {
	s.Jobs++
	s.Recipients += recipients
	if state == Held {
		s.Held++
	}
	i := 0
	for i < len(ShapeAges) && now.Sub(arrived) >= ShapeAges[i] {
		i++
	}
	s.Ages[i]++
	if s.Oldest.IsZero() || arrived.Before(s.Oldest) {
		s.Oldest = arrived
	}
}

// A Usage is what messages take in a store.
type Usage struct {
	Messages int64
	Octets   int64 // of content
}

// A Suspension says that no attempts are made at a site until a time, and why.
type Suspension struct {
	Site  string
	Until time.Time
	Why   string
}
