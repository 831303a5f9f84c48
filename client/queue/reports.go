package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// finish has the store know the outcome, with the reports that are due, and tells the trace. It tries until the store
// has written it or the queue is closed: what is not written is attempted again.
func (a *attempt) finish(l Lease) error {
	now := time.Now()
	j := *a.job
	cancelled := a.q.running.Err() != nil // the queue is closed, and the attempt was not made to its end
	if a.result != nil && !cancelled {
		j.Attempts++
		j.LastAttempt = now
	}
	if !now.Before(j.Expires) && !cancelled {
		a.giveUp(now)
	}
	j.To = a.left
	deferred := len(j.To) > 0 && a.result != nil && !cancelled
	told := j.Told
	if len(j.To) > 0 {
		policy := a.q.sched.policyOf(j.Destination)
		schedule := newSchedule(a.message, &policy)
		j.Told = j.Told || !schedule.delay.IsZero() && !now.Before(schedule.delay)
		if deferred {
			j.Due = earlier(schedule.next(now, policy.pause(j.Attempts)), j.Expires)
			j.Lane = laneOf(a.message, true)
		}
		j.Alarm = schedule.alarm(&j)
	}
	change := Change{Job: &j}
	due, entries := a.reports(&j, j.Told && !told)
	change.Reports = entries
	if err := a.update(l, change); err != nil {
		return err
	}
	for i, e := range change.Reports {
		if t := a.q.opt.Trace.Reported; t != nil {
			t(a.message, due[i], e.Message.ID)
		}
		a.q.sched.arrived(e)
	}
	a.trace()
	if t := a.q.opt.Trace.Deferred; t != nil && deferred {
		j.took = int32(now.Sub(a.began).Milliseconds())
		t(a.message, &j)
	}
	return nil
}

// update has the store write a change. The contents of reports are read anew at each try.
func (a *attempt) update(l Lease, c Change) error {
	return a.q.outage.write(func(ctx context.Context) error {
		for _, e := range c.Reports {
			e.Content = bytes.NewReader(e.small)
		}
		return a.q.store.Update(ctx, l, []Change{c})
	})
}

// unread has a job wait whose message cannot be read, as if an attempt had failed. It is in the log, and delays no
// other job. It does not expire, since without the message its sender cannot be told. If ctx has ended, which is why
// the message was not read, the job stays as it is, and err is returned.
func (a *attempt) unread(ctx context.Context, l Lease, err error) error {
	if ctx.Err() != nil {
		return err
	}
	j := *a.job
	policy := a.q.sched.policyOf(j.Destination)
	j.Attempts++
	j.Due = time.Now().Add(policy.pause(j.Attempts))
	if j.Alarm.Before(j.Due) {
		j.Alarm = j.Due
	}
	return a.update(l, Change{Job: &j})
}

// giveUp makes final what is left of a job that has expired. If it was too late for BY, reports say so (RFC 2852
// section 4.1.3).
func (a *attempt) giveUp(now time.Time) {
	late := tooLate(a.message, now)
	for i := range a.outcomes {
		if o := &a.outcomes[i]; o.Action == ehlo.Delayed {
			o.Action = ehlo.Failed
			switch {
			case late:
				o.Status = proto.Status{5, 4, 7}
			case o.Status.IsZero():
				o.Status = proto.Status{4, 4, 7}
			}
		}
	}
	a.left = nil
	clear(a.waits)
}

// reports returns the reports that the sender has to get: of a delay only if delayed is true.
func (a *attempt) reports(j *Job, delayed bool) (made []*report.Report, entries []*Entry) {
	if a.message.From.IsNull() || len(a.outcomes) == 0 {
		return nil, nil
	}
	var due []report.Outcome
	var relayed []report.Outcome
	by, late := ehlo.ReadBy(a.message.Params)
	late = late && !by.Return
	for _, o := range a.outcomes {
		switch {
		case o.Action == ehlo.Delayed && !delayed:
		case o.Action == ehlo.Relayed && a.passed.ReportsBy(o.To.Params):
			relayed = append(relayed, o)
		default:
			o.WillRetryUntil = j.Expires
			if late && o.Action == ehlo.Delayed {
				o.Status = proto.Status{4, 4, 7} // RFC 2852 section 4.1.3
			}
			due = append(due, o)
		}
	}
	m := &report.Message{
		From: a.message.From, Mail: a.message.Params, Content: a.content,
		ReceivedFrom: a.message.ReceivedFrom, Arrival: a.message.Arrived,
	}
	list := m.Due(due)
	if len(relayed) > 0 {
		list = append(list, relayReport(m, relayed))
	}
	for _, r := range list {
		r.Fields = requested(a.message)
		e, err := a.compose(m, r)
		if err != nil { // perhaps the content cannot be read
			without := *m
			without.Content = nil
			e, err = a.compose(&without, r)
		}
		if err != nil {
			a.q.opt.Logger.Error("smtp: a report on a message cannot be made, and its sender is not told",
				"id", a.message.ID, "sender", a.message.From.String(), "err", err)
			continue
		}
		made, entries = append(made, r), append(entries, e)
	}
	return made, entries
}

// requested are the fields that say in a report what the sender has asked for: when the message was to be delivered
// (RFC 2852 section 5), and released (RFC 4865 section 5.1.2).
func requested(m *Message) (fields []report.Field) {
	if by, ok := ehlo.ReadBy(m.Params); ok {
		at := m.Arrived.Add(by.In).Format(time.RFC1123Z)
		fields = append(fields, report.Field{Name: "Deliver-By-Date", Value: at})
	}
	if h, ok := ehlo.ReadHold(m.Params); ok {
		value := fmt.Sprintf("for;%d", h.For/time.Second)
		if h.For == 0 {
			value = "until;" + h.Until.UTC().Format(time.RFC3339)
		}
		fields = append(fields, report.Field{Name: "Future-Release-Request", Value: value})
	}
	return fields
}

// relayReport makes a report of relaying whatever NOTIFY says.
func relayReport(m *report.Message, outcomes []report.Outcome) *report.Report {
	asked := make([]report.Outcome, len(outcomes))
	copy(asked, outcomes)
	for i := range asked {
		d, _ := ehlo.ReadDSNRcpt(asked[i].To.Params)
		d.Notify |= ehlo.NotifySuccess
		asked[i].To.Params = ehlo.DSNRcpt{Notify: d.Notify}.AddTo(asked[i].To.Params)
	}
	return m.Due(asked)[0]
}

// compose makes a message of a report. It is queued like any other mail.
func (a *attempt) compose(m *report.Message, r *report.Report) (*Entry, error) {
	opt := a.q.opt.Report
	opt.Hostname, opt.Date = a.q.opt.Hostname, time.Now()
	n, err := report.Compose(m, r, &opt)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(n.Body) // of Options.Report.MaxReturn at most, and a few KiB
	if err != nil {
		return nil, err
	}
	envelope := &Envelope{Params: n.Mail, To: n.To, Needs: n.Needs}
	e, err := a.q.entry(envelope, bytes.NewReader(content), a.q.ways.ofReport)
	if err != nil {
		return nil, fmt.Errorf("the report to %v: %w", a.message.From, err)
	}
	e.small = content
	return e, nil
}

// trace tells the trace what has become of the recipients.
func (a *attempt) trace() {
	t := a.q.opt.Trace
	if t.Attempted != nil && a.result != nil {
		t.Attempted(a.message, a.job, a.result, time.Since(a.began))
	}
	if t.Done == nil {
		return
	}
	for i, r := range a.job.To {
		if !a.waits[i] {
			t.Done(a.message, r, a.failures[i])
		}
	}
}

// tooLate reports whether m must not be sent on any more (RFC 2852 section 4.1.4.1).
func tooLate(m *Message, now time.Time) bool {
	_, ok := ehlo.NewRelaying(m.Params, max(now.Sub(m.Arrived), 0))
	return !ok
}

// alarm tells the sender of a delay, or gives up.
func (a *attempt) alarm(l Lease, now time.Time) error {
	a.began = now
	switch {
	case tooLate(a.message, now):
		a.expire(proto.Status{5, 4, 7}, overdue)
	case a.job.GivenUp():
		a.expire(proto.Status{5, 4, 7}, givenUp)
	case !now.Before(a.job.Expires):
		a.expire(proto.Status{4, 4, 7}, "The message could not be delivered in time.")
	default:
		a.begin()
		a.left = a.job.To
		for i, r := range a.job.To {
			a.waits[i] = true
			a.outcomes = append(a.outcomes, lastOutcome(r, a.job))
		}
	}
	return a.finish(l)
}
