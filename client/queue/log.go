package queue

import (
	"log/slog"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// LogTrace returns a Trace that logs the life of each message to l: what was added, each attempt for each recipient,
// what is delivered or has failed, reports, and suspended sites. What is given up, and suspensions, have the level
// Warn, all else Info. It logs addresses, and no content.
func LogTrace(l *slog.Logger) *Trace {
	return &Trace{
		Added: func(m *Message, jobs []*Job) {
			n := 0
			for _, j := range jobs {
				n += len(j.To)
			}
			l.Info("smtp: queued", "id", m.ID, "from", path(m.From), "recipients", n, "size", m.Size, "tag", m.Tag)
		},
		Attempted: func(m *Message, j *Job, result *client.Result, took time.Duration) {
			for i, o := range result.Recipients {
				if o.Err == nil {
					continue
				}
				l.Info("smtp: not delivered by this attempt", "id", m.ID, "to", path(j.To[i].Address), "host", o.Host,
					"attempt", j.Attempts+1, "took", took, "err", o.Err)
			}
		},
		Done: func(m *Message, r Recipient, f *Failure) {
			if f == nil {
				l.Info("smtp: delivered", "id", m.ID, "to", path(r.Address), "after", time.Since(m.Arrived))
				return
			}
			l.Warn("smtp: given up", "id", m.ID, "to", path(r.Address), "status", f.Status.String(), "host", f.Host,
				"err", f.Text)
		},
		Reported: func(m *Message, r *report.Report, id ID) {
			l.Info("smtp: reported", "id", m.ID, "to", path(m.From), "action", string(r.Recipients[0].Action), "report", id)
		},
		Suspended: func(s Suspension) {
			l.Warn("smtp: a site is suspended", "site", s.Site, "until", s.Until, "why", s.Why)
		},
		Resumed: func(site string) { l.Info("smtp: a site is resumed", "site", site) },
	}
}

// path returns an address as in a command.
func path(a proto.Address) string { return "<" + a.String() + ">" }
