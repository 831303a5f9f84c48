package queuetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// A mail is an entry with content that can be read again.
type mail struct {
	message *queue.Message
	jobs    []*queue.Job
	content []byte
}

// mail makes a message with one job for each destination. The last job is due now, and each other one a millisecond
// before the next. They have an alarm in four hours.
func (s *suite) mail(destinations ...string) *mail {
	s.arrived = s.arrived.Add(time.Millisecond)
	m := &mail{
		message: &queue.Message{ID: queue.NewID(s.arrived), Arrived: s.arrived, From: s.address("sender@example.org")},
		content: []byte("Subject: " + strings.Join(destinations, " ") + "\r\n\r\nText\r\n"),
	}
	for i, d := range destinations {
		m.jobs = append(m.jobs, &queue.Job{
			ID:          queue.JobID{Message: m.message.ID, N: i},
			Destination: d,
			To:          []queue.Recipient{s.recipient("user@example.com")},
			Due:         s.now.Add(time.Duration(i+1-len(destinations)) * time.Millisecond),
			Alarm:       s.now.Add(4 * time.Hour),
			Expires:     s.now.Add(5 * 24 * time.Hour),
		})
	}
	return m
}

// entry returns an entry that shares nothing with m.
func (m *mail) entry() *queue.Entry {
	message := *m.message
	return &queue.Entry{Message: &message, Jobs: copies(m.jobs), Content: bytes.NewReader(m.content)}
}

// add adds mail, and returns the last one.
func (s *suite) add(mails ...*mail) *mail {
	s.Helper()
	for _, m := range mails {
		e := m.entry()
		if err := s.store.Add(s.ctx, e); err != nil {
			s.Fatalf("Add: %v", err)
		}
		if e.Message.Size != int64(len(m.content)) {
			s.Errorf("Add has set Size to %d, want %d", e.Message.Size, len(m.content))
		}
		m.message.Size = e.Message.Size
	}
	return mails[len(mails)-1]
}

// addAt adds a message with one job, which is due at a time before or after now.
func (s *suite) addAt(destination string, due time.Duration) *queue.Job {
	s.Helper()
	m := s.mail(destination)
	m.jobs[0].Due = s.now.Add(due)
	return s.add(m).jobs[0]
}

func (s *suite) address(text string) proto.Address {
	s.Helper()
	a, err := proto.ParseAddress(text)
	s.must(err)
	return a
}

func (s *suite) recipient(text string) queue.Recipient {
	s.Helper()
	return queue.Recipient{Recipient: proto.Recipient{Address: s.address(text)}}
}

// stored returns the jobs that match a filter, as List has them.
func (s *suite) stored(f queue.Filter) []*queue.Job {
	s.Helper()
	listed, next, err := s.store.List(s.ctx, f, queue.JobID{}, 1_000_000)
	s.must(err)
	if next != (queue.JobID{}) {
		s.Errorf("List of all has a next %s", next)
	}
	var jobs []*queue.Job
	for _, l := range listed {
		jobs = append(jobs, l.Job)
	}
	return jobs
}

// job returns a job as List has it, or nil.
func (s *suite) job(id queue.JobID) *queue.Job {
	s.Helper()
	jobs := s.stored(queue.Filter{Job: &id})
	if len(jobs) == 0 {
		return nil
	}
	return jobs[0]
}

// wantJob fails the test if the stored job is not want, apart from the Epoch. Nil means that there is none.
func (s *suite) wantJob(what string, id queue.JobID, want *queue.Job) {
	s.Helper()
	if got, want := dumpJob(s.job(id)), dumpJob(want); got != want {
		s.Errorf("%s: the job is\n%s\nwant\n%s", what, got, want)
	}
}

// wantGone fails the test if anything is left of a message.
func (s *suite) wantGone(what string, id queue.ID) {
	s.Helper()
	if _, err := s.store.Message(s.ctx, id); !errors.Is(err, queue.ErrNotFound) {
		s.Errorf("%s: Message: %v, want ErrNotFound", what, err)
	}
	if c, err := s.store.Open(s.ctx, id); !errors.Is(err, queue.ErrNotFound) {
		s.Errorf("%s: Open: %v, want ErrNotFound", what, err)
		if err == nil {
			c.Close()
		}
	}
	if jobs := s.stored(queue.Filter{IDs: []queue.ID{id}}); len(jobs) > 0 {
		s.Errorf("%s: %d jobs are left", what, len(jobs))
	}
}

// wantWhole fails the test if a message is not in the store as it was added.
func (s *suite) wantWhole(what string, m *mail) {
	s.Helper()
	got, err := s.store.Message(s.ctx, m.message.ID)
	if err != nil {
		s.Errorf("%s: Message: %v", what, err)
		return
	}
	if got, want := dumpMessage(got), dumpMessage(m.message); got != want {
		s.Errorf("%s: the message is\n%s\nwant\n%s", what, got, want)
	}
	s.wantContent(what, m.message.ID, m.content)
	jobs := s.stored(queue.Filter{IDs: []queue.ID{m.message.ID}})
	if got, want := dumpJobs(jobs), dumpJobs(m.jobs); got != want {
		s.Errorf("%s: the jobs are\n%s\nwant\n%s", what, got, want)
	}
}

func (s *suite) wantContent(what string, id queue.ID, want []byte) {
	s.Helper()
	c, err := s.store.Open(s.ctx, id)
	if err != nil {
		s.Errorf("%s: Open: %v", what, err)
		return
	}
	defer c.Close()
	got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil || !bytes.Equal(got, want) {
		s.Errorf("%s: the content has %d octets, want %d octets; %v", what, len(got), len(want), err)
	}
}

// copies returns copies of jobs that share nothing with them.
func copies(jobs []*queue.Job) []*queue.Job {
	out := make([]*queue.Job, len(jobs))
	for i, j := range jobs {
		out[i] = copyOf(j)
	}
	return out
}

func copyOf(j *queue.Job) *queue.Job {
	c := *j
	c.To = slices.Clone(j.To)
	for i := range c.To {
		c.To[i].Params = slices.Clone(c.To[i].Params)
		if last := c.To[i].Last; last != nil {
			f := *last
			c.To[i].Last = &f
		}
	}
	return &c
}

// ids returns the IDs of jobs, in their order.
func ids(jobs []*queue.Job) []queue.JobID {
	out := make([]queue.JobID, len(jobs))
	for i, j := range jobs {
		out[i] = j.ID
	}
	return out
}

func dumpJobs(jobs []*queue.Job) string {
	var b strings.Builder
	for _, j := range jobs {
		b.WriteString(dumpJob(j) + "\n")
	}
	return b.String()
}

// dumpJob writes everything in j but the Epoch, with milliseconds.
func dumpJob(j *queue.Job) string {
	if j == nil {
		return "none"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %q %s %q lane %d due %s alarm %s expires %s attempts %d last %s told %v edits %d",
		j.ID, j.Destination, j.State, j.Why, j.Lane, dumpTime(j.Due), dumpTime(j.Alarm), dumpTime(j.Expires), j.Attempts,
		dumpTime(j.LastAttempt), j.Told, j.Edits)
	for _, r := range j.To {
		fmt.Fprintf(&b, "\n  %s%s", dumpAddress(r.Address), dumpParams(r.Params))
		if f := r.Last; f != nil {
			fmt.Fprintf(&b, " failed %v, %d %v %q of %q: %q", f.Status, f.Reply.Code, f.Reply.Status, f.Reply.Text, f.Host,
				f.Text)
		}
	}
	return b.String()
}

func dumpMessage(m *queue.Message) string {
	return fmt.Sprintf("%s arrived %s from %s%s needs %b by %q tag %q size %d",
		m.ID, dumpTime(m.Arrived), dumpAddress(m.From), dumpParams(m.Params), m.Needs, m.ReceivedFrom, m.Tag, m.Size)
}

func dumpTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Truncate(time.Millisecond).Format("2006-01-02T15:04:05.000")
}

func dumpAddress(a proto.Address) string {
	return fmt.Sprintf("%q@%q(%v)", a.Local, a.Domain, a.Domain.Addr())
}

func dumpParams(params proto.Params) string {
	var b strings.Builder
	for _, p := range params {
		fmt.Fprintf(&b, " %q", p.Key)
		if p.HasValue {
			fmt.Fprintf(&b, "=%q", p.Value)
		}
	}
	return b.String()
}
