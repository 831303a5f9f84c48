package queue_test

import (
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
)

// How late the queue may be: it has to find out the site, a destination that is always busy is looked at every 15
// seconds, and receivers take a second.
const (
	simLag  = 25 * time.Second
	simLate = 20 * time.Minute // where attempts take minutes
)

// check compares what has happened with what is documented.
func (s *sim) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left.Messages != 0 {
		s.t.Errorf("%d messages are left", s.left.Messages)
	}
	kinds := make(map[string]int) // what happened, so that a simulation in which nothing happens fails
	for to, r := range s.records {
		if r.cut > 0 {
			s.checkCut(to, r)
			kinds["cut"]++
			continue
		}
		s.checkOutcome(to, r)
		s.checkReports(to, r)
		s.checkSchedule(to, r)
		kinds["delivered"] += len(r.delivered)
		kinds["failed"] += len(r.failed)
		kinds["doubts"] += r.doubts
		for action, times := range r.reports {
			kinds[string(action)] += len(times)
		}
	}
	s.checkSuspensions()
	for _, kind := range []string{"delivered", "failed", "doubts", "delayed"} {
		if kinds[kind] < 10 {
			s.t.Errorf("there was too little of %q: %v", kind, kinds)
		}
	}
	s.t.Logf("%d recipients: %v; attempts %v; %d restarts", len(s.records), kinds, s.tries, len(s.downtimes))
}

// latest returns until when something has to have happened that is to happen at a time.
func (s *sim) latest(at time.Duration, r *recipientRecord) time.Duration {
	lag := simLag
	if s.receivers[r.domain].slow > 0 {
		lag = simLate
	}
	for _, d := range s.downtimes {
		if at+lag >= d.from && at <= d.until {
			at = d.until
		}
	}
	return at + lag
}

// checkOutcome checks that there is one outcome, and that it is the right one.
func (s *sim) checkOutcome(to string, r *recipientRecord) {
	switch {
	case len(r.delivered)+len(r.failed) != 1:
		s.t.Errorf("%s was delivered %v and has failed %v, want one of both", to, r.delivered, r.failed)
	case r.accepted != len(r.delivered):
		s.t.Errorf("%s has %d messages, and the queue says %d", to, r.accepted, len(r.delivered))
	// BY has seconds, 0 of which are too late.
	case len(r.failed) > 0 && !r.refused && (r.failed[0] <= r.expires-time.Second ||
		r.failed[0] > s.latest(r.expires, r)):
		s.t.Errorf("%s has failed after %v, want %v: %+v", to, r.failed[0], r.expires, r)
	case r.refused && len(r.attempts) > 0 && s.latest(r.attempts[len(r.attempts)-1].end, r) < r.failed[0]:
		s.t.Errorf("%s was refused, and failed only later: %+v", to, r)
	}
}

// checkCut checks a recipient for whom something was done when the process was killed. That may be done once more, and
// nobody may have been told that it was done the first time. Nothing is forgotten.
func (s *sim) checkCut(to string, r *recipientRecord) {
	told := r.reportsGot[ehlo.Failed] > 0 || !r.notify.Wants(ehlo.Failed) || !strings.HasSuffix(r.sender, "home.example")
	switch {
	case r.accepted > 1+r.cut, len(r.delivered)+len(r.failed) > 1:
		s.t.Errorf("%s has %d messages after %d kills: %+v", to, r.accepted, r.cut, r)
	case r.accepted == 0 && !told:
		s.t.Errorf("%s has no message, and nobody knows: %+v", to, r)
	case len(r.failed) > 0 && !r.refused && r.failed[0] < r.expires:
		s.t.Errorf("%s was given up before %v: %+v", to, r.expires, r)
	case r.reportsGot[ehlo.Failed] > 1+r.cut, r.reportsGot[ehlo.Delayed] > 1+r.cut:
		s.t.Errorf("%s: the sender was told too often after %d kills: %+v", to, r.cut, r)
	}
}

// checkReports checks that the sender was told what he has to know, once, in time, and nothing else.
func (s *sim) checkReports(to string, r *recipientRecord) {
	if len(r.delivered)+len(r.failed) != 1 {
		return
	}
	over := slices.Concat(r.delivered, r.failed)[0]
	wants := func(a ehlo.Action) bool { return r.sender != "" && r.notify.Wants(a) }
	want := 0
	if len(r.failed) > 0 && wants(ehlo.Failed) {
		want = 1
	}
	if got := r.reports[ehlo.Failed]; len(got) != want || want == 1 && got[0] != over {
		s.t.Errorf("%s: reports of failure at %v, want %d at %v", to, got, want, over)
	}
	got := r.reports[ehlo.Delayed]
	due := wants(ehlo.Delayed) && r.delay < r.expires
	switch last := s.latest(r.delay, r); {
	case len(got) > 1, len(got) == 1 && (!due || got[0] < r.delay || got[0] > last || got[0] > over):
		s.t.Errorf("%s: reports of delay at %v, want one at %v if %v: %+v", to, got, r.delay, due, r)
	case due && over > last && len(got) == 0:
		s.t.Errorf("%s: no report of delay, want one at %v: %+v", to, r.delay, r)
	}
	for action, n := range r.reports {
		if action != ehlo.Failed && action != ehlo.Delayed {
			s.t.Errorf("%s: a report that he is %s", to, action)
		}
		arrived := len(n)
		if r.sender[len(r.sender)-len("home.example"):] != "home.example" {
			arrived = 0
		}
		if r.reportsGot[action] != arrived {
			s.t.Errorf("%s: the sender got %d reports that he is %s, want %d", to, r.reportsGot[action], action, arrived)
		}
	}
}

// checkSchedule checks when the attempts were.
func (s *sim) checkSchedule(to string, r *recipientRecord) {
	prompt := s.receivers[r.domain].prompt
	if len(r.delivered)+len(r.failed) != 1 {
		return
	}
	over := slices.Concat(r.delivered, r.failed)[0]
	for i, a := range r.attempts {
		switch {
		case a.begin < r.due:
			s.t.Errorf("%s: an attempt at %v, before %v", to, a.begin, r.due)
		case a.begin > over:
			s.t.Errorf("%s: an attempt at %v, after all was over at %v", to, a.begin, over)
		case a.begin > s.latest(r.expires, r):
			s.t.Errorf("%s: an attempt at %v, and it expires at %v", to, a.begin, r.expires)
		case i == 0 && prompt && a.begin > s.latest(r.due, r):
			s.t.Errorf("%s: the first attempt is at %v, want %v", to, a.begin, r.due)
		}
		if i == 0 {
			continue
		}
		before := r.attempts[i-1]
		restarts := 0 // each may have ended an attempt before the queue had its outcome
		for _, d := range s.downtimes {
			if d.until >= before.begin && d.from <= before.end {
				restarts = len(r.attempts)
			} else if d.until <= a.begin {
				restarts++
			}
		}
		least := simRetry[min(max(i-1-restarts, 0), len(simRetry)-1)] * 9 / 10
		if restarts >= len(r.attempts) {
			least = 0
		}
		near := r.last > 0 && a.begin >= r.last && before.end < r.last
		if gap := a.begin - before.end; gap < least && a.begin < r.expires && !near {
			s.t.Errorf("%s: pause %d is %v, want %v: %+v", to, i, gap, least, r)
		}
		most := simRetry[min(i-1, len(simRetry)-1)] * 11 / 10
		want := min(before.end+most, r.expires)
		if before.end < r.last {
			want = min(want, r.last)
		}
		if last := s.latest(want, r); prompt && a.begin > last {
			s.t.Errorf("%s: attempt %d is at %v, want it before %v: %+v", to, i+1, a.begin, last, r)
		}
	}
	if prompt && len(r.attempts) == 0 && s.latest(r.due, r) < r.expires {
		s.t.Errorf("%s: there was no attempt: %+v", to, r)
	}
}

// checkSuspensions checks for how long the sites that do not answer were left alone.
func (s *sim) checkSuspensions() {
	for site, list := range s.suspended {
		if s.receivers[site] == nil || s.receivers[site].site != site {
			continue // a domain that stood for itself because its site could not be found out
		}
		deaths := 0
		for i, p := range list {
			if i > 0 {
				since := list[i-1].at
				between := func(at time.Duration) bool { return at >= since && at <= p.at }
				if slices.ContainsFunc(s.resumed[site], between) ||
					slices.ContainsFunc(s.downtimes, func(d period) bool { return between(d.until) }) {
					deaths = 0
				} else if p.at < list[i-1].until {
					s.t.Errorf("%s is suspended at %v, although it was until %v", site, p.at, list[i-1].until)
				}
			}
			want := min(simRetry[min(deaths, len(simRetry)-1)], 30*time.Minute)
			if got := p.until - p.at; got < want*9/10 || got > want*11/10 {
				s.t.Errorf("%s is suspended for %v the %dth time, want %v", site, got, deaths+1, want)
			}
			deaths++
		}
	}
	for _, site := range []string{"dead.example", "deaf.example"} {
		// Three failures are a window, and as many attempts may have begun meanwhile. Then there is one for each suspension.
		if most := len(s.suspended[site]) + 6*(len(s.downtimes)+1); s.tries[site] > most || s.tries[site] < 10 {
			s.t.Errorf("%d attempts at %s, want at most %d", s.tries[site], site, most)
		}
	}
}
