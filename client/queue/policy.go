package queue

import (
	"math/rand/v2"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
)

// defaultRetry are the pauses of the zero Policy.
var defaultRetry = []time.Duration{
	5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour,
}

// withDefaults returns p with all defaults.
func (p Policy) withDefaults() Policy {
	if len(p.Retry) == 0 {
		p.Retry = defaultRetry
	}
	if p.Expire <= 0 {
		p.Expire = 5 * 24 * time.Hour
	}
	if p.DelayReport == 0 {
		p.DelayReport = 4 * time.Hour
	}
	if p.MaxWindow <= 0 {
		p.MaxWindow = 20
	}
	if p.Window <= 0 {
		p.Window = 5
	}
	p.Window = min(p.Window, p.MaxWindow)
	return p
}

// pause returns the pause after so many attempts, or so many suspensions, with jitter.
func (p *Policy) pause(n int) time.Duration {
	return jitter(p.Retry[min(max(n-1, 0), len(p.Retry)-1)])
}

// jitter makes d up to a tenth longer or shorter, so that what has failed together does not come back together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d))
}

// A schedule says when what is to be done for the jobs of a message at one site.
type schedule struct {
	due     time.Time // the first attempt
	expires time.Time
	delay   time.Time // the report on a delay, or zero
	last    time.Time // an attempt shortly before the time of BY is over, or zero
}

// newSchedule makes the schedule of m by p and by what its sender has asked for.
func newSchedule(m *Message, p *Policy) schedule {
	s := schedule{due: m.Arrived}
	if hold, ok := ehlo.ReadHold(m.Params); ok {
		if at := hold.Release(m.Arrived); at.After(s.due) {
			s.due = at
		}
	}
	s.expires = s.due.Add(p.Expire)
	if p.DelayReport > 0 {
		s.delay = s.due.Add(p.DelayReport)
	}
	if by, ok := ehlo.ReadBy(m.Params); ok {
		deadline := m.Arrived.Add(by.In)
		if by.Return {
			s.expires = earlier(s.expires, deadline)
			s.last = deadline.Add(-min(time.Minute, by.In/10))
		} else if by.In > 0 { // by-mode N: the sender is told when the time is over (RFC 2852 section 4.1.5)
			s.delay = deadline
		}
	}
	return s
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// next returns when an attempt is made after one that has failed now. It is not when the time of BY is over: then the
// message must not be sent any more.
func (s *schedule) next(now time.Time, pause time.Duration) time.Time {
	due := now.Add(pause)
	if now.Before(s.last) {
		return earlier(due, s.last)
	}
	return due
}

// alarm returns when something is to be done for j besides attempts.
func (s *schedule) alarm(j *Job) time.Time {
	if j.Told || s.delay.IsZero() {
		return j.Expires
	}
	return earlier(j.Expires, s.delay)
}

// laneOf returns the lane of a job of m. Bulk are those which should let others pass: jobs of a message with many
// recipients, and jobs that have been attempted.
func laneOf(m *Message, bulk bool) Lane {
	l := Lane(4)
	if n, ok := ehlo.ReadPriority(m.Params); ok {
		switch {
		case n >= 4:
			l = 0
		case n >= 1:
			l = 2
		case n < 0:
			l = 6
		}
	}
	if bulk {
		l++
	}
	return l
}

// shares are the parts that the lanes have of the attempts at a site while all of them have jobs.
var shares = [Lanes]float64{16, 8, 8, 4, 4, 2, 2, 1}

// maxCost is the highest cost of an attempt. A site gets 1 in each round.
const maxCost = 16

// cost returns what an attempt at a message costs: 1, and 1 more for each 64 KiB.
func cost(m *Message) int {
	if m == nil {
		return 1
	}
	return int(min(1+m.Size>>16, maxCost))
}
