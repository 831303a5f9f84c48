package queue_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// send is the Sender of the queue: all receivers.
func (s *sim) send(ctx context.Context, m *client.Message) (*client.Result, error) {
	began := s.now()
	domain := m.To[0].Address.Domain.ASCII()
	r := s.receivers[domain]
	s.enter(r.site, domain, len(m.To), began)
	defer s.leave(r.site)
	res := &client.Result{Recipients: make([]proto.Outcome, len(m.To))}
	wait := time.Duration(s.chance(1000, "wait", m.To[0].Address, began)) * time.Millisecond
	if r.slow > 0 {
		wait = time.Duration(s.chance(uint64(r.slow), "wait", m.To[0].Address, began))
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		for i, to := range m.To {
			res.Recipients[i] = proto.Outcome{Recipient: to, Err: ctx.Err()}
		}
		return res, &client.SendError{Result: res, Err: ctx.Err()}
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		s.t.Error(err)
	}
	var failed error
	for i, to := range m.To {
		o := proto.Outcome{Recipient: to, Err: s.answer(r, to.Address, began, string(body)), Host: "mx." + domain}
		if o.Err == nil {
			o.Reply = proto.Reply{Code: 250}
		} else {
			failed = &client.SendError{Result: res, Err: o.Err}
		}
		res.Recipients[i] = o
	}
	return res, failed
}

// enter notes that an attempt begins, and checks that it may.
func (s *sim) enter(site, domain string, recipients int, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[site]++
	s.tries[site]++
	s.active++
	switch {
	case s.active > simActive:
		s.t.Errorf("%v: %d attempts at once", now, s.active)
	case s.busy[site] > simWindow && site != "shared":
		s.t.Errorf("%v: %d attempts at once at %s", now, s.busy[site], site)
	case recipients > simPerJob:
		s.t.Errorf("%v: an attempt with %d recipients", now, recipients)
	}
	if list := s.suspended[site]; len(list) > 0 && site != "shared" {
		if last := list[len(list)-1]; last.at >= s.restarted && now > last.at+simLag && now < last.until &&
			!slices.ContainsFunc(s.resumed[site], func(at time.Duration) bool { return at >= last.at }) {
			s.t.Errorf("%v: an attempt at %s, which is suspended from %v until %v", now, domain, last.at, last.until)
		}
	}
}

func (s *sim) leave(site string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[site]--
	s.active--
}

// answer is what a receiver says of one recipient.
func (s *sim) answer(r *receiver, to proto.Address, began time.Duration, body string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.records[to.String()]
	if rec == nil {
		return s.notified(r, to, body)
	}
	rec.attempts = append(rec.attempts, span{began, s.now()})
	n := len(rec.attempts)
	later := proto.Refuse(451, proto.Status{4, 7, 1}, "later")
	if r.isDown(s.now()) {
		return &client.LostError{Doing: "connecting", Err: errors.New("connection refused")}
	}
	switch r.kind {
	case "grey":
		if rec.attempts[0].end+10*time.Minute > s.now() {
			return later
		}
	case "storm":
		if s.chance(10, to, n) < 7 {
			return later
		}
	case "later":
		return later
	case "mixed":
		switch s.chance(4, to, n) {
		case 0:
			rec.refused = true
		case 1, 2:
			return later
		}
	case "refuse":
		rec.refused = true
	case "doubt":
		if s.chance(3, to, n) > 0 {
			rec.doubts++
			return &client.LostError{Doing: "waiting for the reply", Err: io.ErrUnexpectedEOF, InDoubt: true}
		}
	}
	if rec.refused {
		return proto.Refuse(550, proto.Status{5, 1, 1}, "no such mailbox")
	}
	rec.accepted++
	return nil
}

// notified is answer for a report.
func (s *sim) notified(r *receiver, to proto.Address, body string) error {
	if r.isDown(s.now()) {
		return &client.LostError{Doing: "connecting", Err: errors.New("connection refused")}
	}
	if s.chance(3, to, s.now()) == 0 {
		return proto.Refuse(451, proto.Status{4, 7, 1}, "later")
	}
	got, err := report.Parse(strings.NewReader(body))
	if err != nil {
		s.t.Errorf("%v got something that is no report: %v", to, err)
		return nil
	}
	for _, p := range got.Recipients {
		rec := s.records[p.Final.Address]
		if rec == nil || rec.sender != to.String() {
			s.t.Errorf("%v got a report on %v", to, p.Final)
			continue
		}
		rec.reportsGot[p.Action]++
	}
	return nil
}

// The trace.

func (s *sim) done(_ *queue.Message, r queue.Recipient, f *queue.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.records[r.Address.String()]
	switch {
	case rec == nil: // of a report
	case f == nil:
		rec.delivered = append(rec.delivered, s.now())
	default:
		rec.failed = append(rec.failed, s.now())
	}
}

func (s *sim) reported(m *queue.Message, r *report.Report, _ queue.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range r.Recipients {
		rec := s.records[p.Final.Address]
		if rec == nil {
			s.t.Errorf("a report on a report: %v", p.Final)
			continue
		}
		rec.reports[p.Action] = append(rec.reports[p.Action], s.now())
	}
}

func (s *sim) storeFailed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.killed {
		s.t.Errorf("the store has failed: %v", err)
	}
}

func (s *sim) isSuspended(why queue.Suspension) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended[why.Site] = append(s.suspended[why.Site], suspension{s.now(), why.Until.Sub(s.begin)})
}

func (s *sim) isResumed(site string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumed[site] = append(s.resumed[site], s.now())
}
