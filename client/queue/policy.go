package queue

import (
	"math/rand/v2"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
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

// needs returns what the parameters of MAIL say of the content.
func needs(p proto.Params) (f ext.Feature) {
	switch body, _ := p.Get("BODY"); body {
	case "8BITMIME":
		f |= ext.EightBit
	case "BINARYMIME":
		f |= ext.Binary
	}
	if p.Has("SMTPUTF8") {
		f |= ext.UTF8
	}
	return f
}

// A passing is the parameters of a message as they are sent on: without those that are for this host alone, with the
// time of BY that is left, and without those of extensions that the next server has been found not to offer.
type passing struct {
	mail    proto.Params
	dropped map[string]bool // keywords of extensions
}

// own are the parameters that the client sets by itself, or that concern this host alone.
var own = map[string]bool{
	"BODY": true, "SIZE": true, "SMTPUTF8": true, "AUTH": true, "HOLDFOR": true, "HOLDUNTIL": true, "SUBMITTER": true,
	"PRDR": true,
}

// optional are the extensions that a relay may do without, with their parameters (RFC 3461 section 5.2.2, RFC 6710
// section 4.3, RFC 3885 section 4.2, RFC 7293 section 5.2, RFC 3865 section 4.2).
var optional = map[string][]string{
	"DSN": {"RET", "ENVID", "NOTIFY", "ORCPT"}, "MT-PRIORITY": {"MT-PRIORITY"}, "MTRK": {"MTRK"}, "RRVS": {"RRVS"},
	"NO-SOLICITING": {"SOLICIT"}, "DELIVERBY": {"BY"},
}

// newPassing prepares the parameters for an attempt now. It reports false if the message is too late to be sent on (RFC
// 2852 section 4.1.4).
func newPassing(m *Message, now time.Time) (p *passing, ok bool) {
	p = &passing{}
	for _, param := range m.Params {
		if !own[param.Key] {
			p.mail = append(p.mail, param)
		}
	}
	if by, has := ehlo.ReadBy(m.Params); has {
		left, ok := by.After(now.Sub(m.Arrived))
		if !ok {
			return nil, false
		}
		p.mail = left.AddTo(p.mail)
	}
	return p, true
}

// drop leaves out the parameters of an extension that the next server does not offer.
func (p *passing) drop(keyword string) {
	if p.dropped == nil {
		p.dropped = make(map[string]bool)
	}
	p.dropped[keyword] = true
	p.mail = p.without(p.mail)
}

// without returns params without those of dropped extensions.
func (p *passing) without(params proto.Params) proto.Params {
	if len(p.dropped) == 0 {
		return params
	}
	var left proto.Params
	for _, param := range params {
		keep := true
		for keyword := range p.dropped {
			for _, key := range optional[keyword] {
				keep = keep && param.Key != key
			}
		}
		if keep {
			left = append(left, param)
		}
	}
	return left
}

// may reports whether drop would change anything.
func (p *passing) may(keyword string) bool {
	if _, ok := optional[keyword]; !ok || p.dropped[keyword] {
		return false
	}
	by, ok := ehlo.ReadBy(p.mail)
	return keyword != "DELIVERBY" || ok && !by.Return // RFC 2852 section 4.1.4.1
}

// rcpt returns the parameters of a RCPT command. If BY could not be passed on, the next server is asked to report
// delays (RFC 2852 section 4.1.4.2).
func (p *passing) rcpt(params proto.Params) proto.Params {
	params = p.without(params)
	if p.dropped["DELIVERBY"] && !p.dropped["DSN"] {
		d, _ := ehlo.ReadDSNRcpt(params)
		if d.Notify != ehlo.NotifyNever {
			if d.Notify == 0 {
				d.Notify = ehlo.NotifyFailure
			}
			d.Notify |= ehlo.NotifyDelay
			return ehlo.DSNRcpt{Notify: d.Notify}.AddTo(params)
		}
	}
	return params
}
