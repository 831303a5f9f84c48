package queue

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// An ID names a message in a queue, and in the log. It has 20 letters and digits. The first ten are the time of arrival
// in milliseconds, so IDs are sorted by arrival; the rest is random. IDs are unique among all queues.
type ID string

var idText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// NewID returns a new ID of a message that arrives now.
func NewID(now time.Time) ID {
	var b [12]byte
	_, _ = rand.Read(b[6:]) // it never fails
	ms := uint64(now.UnixMilli()) << 14
	b[6] &= 0x3f // the first 50 bits are the time, which are ten digits
	binary.BigEndian.PutUint64(b[:8], ms|uint64(b[6])<<8|uint64(b[7]))
	return ID(idText.EncodeToString(b[:]))
}

// Valid reports whether id has the form of an ID. A [Store] makes names of files of valid IDs only.
func (id ID) Valid() bool {
	return len(id) == 20 && strings.IndexFunc(string(id), func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'v')
	}) < 0
}

// A Message is what a queue has accepted: an envelope and what is known of the content. It does not change.
type Message struct {
	ID      ID
	Arrived time.Time
	// From is the reverse-path. Reports go there; the zero value gets none.
	From proto.Address
	// Params are the parameters of MAIL, as they came.
	Params proto.Params
	// Needs is what the content needs, as the client said with BODY and SMTPUTF8.
	Needs ext.Feature
	// ReceivedFrom is the client that sent the message, for reports. It may be zero.
	ReceivedFrom report.MTA
	// Tag names who has to share the queue with others: a user, a tenant, or a network. It may be "".
	Tag string
	// Size is the number of octets of the content. Store.Add sets it.
	Size int64
}

// A JobID names a job: the message, and which of its jobs it is.
type JobID struct {
	Message ID
	N       int
}

// String returns the ID in the form 04g6f3qv9i0000000000.0.
func (id JobID) String() string { return fmt.Sprintf("%s.%d", id.Message, id.N) }

// A State says whether a job is to be attempted.
type State uint8

// The states of a job.
const (
	Queued State = iota // an attempt is made when the job is due
	Held                // nothing happens to the job until an operator says so
)

// String returns "queued" or "held".
func (s State) String() string {
	if s == Held {
		return "held"
	}
	return "queued"
}

// A Lane is one of the lines in which jobs of one destination wait. Each has a guaranteed share of the attempts: see
// the package comment. A lower number has a larger share.
type Lane uint8

// Lanes is the number of lanes: four classes of priority (RFC 6710), each with a lane for single messages at their
// first attempt, and one for all others.
const Lanes = 8

// A Job is what is left to do of a message at one destination: the recipients there that have no final outcome. A
// message has one job for each destination, or several if it has many recipients there.
type Job struct {
	ID JobID
	// Destination is where the recipients are: a domain in lower case and in ASCII, an address literal, or "=" and the
	// name of a route. See Options.Route.
	Destination string
	// To are the recipients that are left. An attempt takes those out that are done.
	To []Recipient
	// State is Held if an operator has said so, for the reason Why. Queued with a reason means that an operator has given
	// the job up: see GivenUp.
	State State
	Why   string
	Lane  Lane
	took  int32 // milliseconds of the attempt that has just been made, for LogTrace
	// Due is when the next attempt is to be made.
	Due time.Time
	// Alarm is when something else is to be done, whether or not an attempt can be made: the sender is told of the
	// delay, or the job has expired. It is never zero.
	Alarm time.Time
	// Expires is when the queue gives up. The sender gets a report.
	Expires time.Time
	// Attempts counts the attempts, and LastAttempt is when the last one ended. It is zero if there was none.
	Attempts    int
	LastAttempt time.Time
	// Told says that the sender has been told of the delay.
	Told bool
	// Edits counts the calls of Store.Edit that have changed the job. See Store.Update.
	Edits int
	// Epoch is that of the lease under which the job was handed out. See Store.Take and Store.Add.
	Epoch int64
}

// A Recipient is one of the recipients of a job.
type Recipient struct {
	proto.Recipient
	// Last is what happened at the last attempt, or nil before the first one.
	Last *Failure
}

// A Failure says why a recipient does not have the message yet.
type Failure struct {
	Status proto.Status
	// Reply is what the server Host said. Its code is 0 if there was no reply.
	Reply proto.Reply
	Host  string
	// Text says what was wrong, for operators. It may have names and addresses that are private.
	Text string
}

// Edit is a change of jobs that an operator makes.
type Edit struct {
	Op Op
	// At is the time of the change.
	At time.Time
	// Why is the reason for Hold and Expire. List shows it.
	Why string
	// Destination is the new one for Reroute.
	Destination string
}

// An Op is what an Edit does.
type Op uint8

// The operations of operators.
const (
	Hold    Op = iota + 1 // nothing happens to the job until Release
	Release               // undo Hold; the job is due at once
	Retry                 // the job is due at once, unless it is held
	Reroute               // the job goes to another destination, and is due at once, unless it is held
	Expire                // give up now, also if the job is held; the sender gets a report as if the time had come
	Drop                  // forget the job; nobody is told
)

// Apply changes j, and counts the change. It reports false if j is to be removed. A Store calls it in Edit.
func (e Edit) Apply(j *Job) (keep bool) {
	j.Edits++
	switch e.Op {
	case Hold:
		j.State, j.Why = Held, e.Why
	case Release:
		j.State, j.Why, j.Due = Queued, "", e.At
	case Retry:
		j.Due = e.At
	case Reroute:
		j.Destination, j.Due = e.Destination, e.At
	case Expire:
		j.State, j.Alarm, j.Expires = Queued, e.At, e.At
		if j.Why = e.Why; j.Why == "" {
			j.Why = "given up"
		}
	}
	return e.Op != Drop
}

// A Change is the outcome of an attempt, or of an alarm: how Update changes a job.
type Change struct {
	// Job is the job as it was handed out, with the recipients that are left, and with the new Due, Alarm, Lane, Attempts,
	// LastAttempt and Told. If it has no recipients, the job is done and is removed.
	Job *Job
	// Reports are messages to add together with the change: reports to the sender.
	Reports []*Entry
}

// Merge makes what Update writes for a job that is now in the state of stored: what operators have changed since the
// job was handed out stays as it is now, and the rest is as in c. The result is a new Job. A Store calls it in Update.
func (c *Change) Merge(stored *Job) *Job {
	j := *c.Job
	if stored.Edits != j.Edits {
		j.Destination, j.State, j.Why, j.Due, j.Edits = stored.Destination, stored.State, stored.Why, stored.Due, stored.Edits
		if stored.Expires.Before(j.Expires) {
			j.Expires, j.Alarm = stored.Expires, stored.Alarm
		}
	}
	j.Epoch = 0
	return &j
}

// An Entry is a message to be added to a Store.
type Entry struct {
	Message *Message
	Jobs    []*Job
	// Content is read to its end. It is a *bytes.Reader if the content is small and in memory already.
	Content io.Reader

	small []byte // the content, if it is in memory
	edits int    // of the scheduler, when jobs were handed out to leases
}

// Wake returns when something is to be done for j: the earlier of Due and Alarm. It reports false if j is held.
func (j *Job) Wake() (at time.Time, ok bool) {
	if j.Alarm.Before(j.Due) {
		return j.Alarm, j.State != Held
	}
	return j.Due, j.State != Held
}

// clone returns a copy of j whose recipients can be changed.
func (j *Job) clone() *Job {
	c := *j
	c.To = slices.Clone(j.To)
	return &c
}

// GivenUp reports whether an operator has given up j, by Expire. Then no attempt is made any more.
func (j *Job) GivenUp() bool { return j.State == Queued && j.Why != "" }
