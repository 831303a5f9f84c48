package queue

import (
	"context"
	"log/slog"
	"time"

	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// LogTrace returns a Trace that logs the life of each message to l: what was added, each recipient who is delivered,
// has failed, or waits for another attempt, when that is and how long this one took, reports, and suspended sites.
// What is given up, and suspensions, have the level Warn, all else Info. It logs addresses, and no content.
func LogTrace(l *slog.Logger) *Trace {
	ctx, info, warn := context.Background(), slog.LevelInfo, slog.LevelWarn
	return &Trace{
		Added: func(m *Message, jobs []*Job) {
			n := 0
			for _, j := range jobs {
				n += len(j.To)
			}
			l.LogAttrs(ctx, info, "smtp: queued", slog.String("id", string(m.ID)), slog.String("from", path(m.From)),
				slog.Int("recipients", n), slog.Int64("size", m.Size), slog.String("tag", m.Tag))
		},
		Deferred: func(m *Message, j *Job) {
			for _, r := range j.To {
				f := r.Last
				if f == nil {
					f = &Failure{}
				}
				l.LogAttrs(ctx, info, "smtp: not delivered by this attempt", slog.String("id", string(m.ID)),
					slog.String("to", path(r.Address)), slog.String("host", f.Host), slog.Int("attempt", j.Attempts),
					slog.Time("next", j.Due),
					slog.Duration("took", time.Duration(j.took)*time.Millisecond), slog.String("err", f.Text))
			}
		},
		Done: func(m *Message, r Recipient, f *Failure) {
			id, to := slog.String("id", string(m.ID)), slog.String("to", path(r.Address))
			if f == nil {
				l.LogAttrs(ctx, info, "smtp: delivered", id, to, slog.Duration("after", time.Since(m.Arrived)))
				return
			}
			l.LogAttrs(ctx, warn, "smtp: given up", id, to, slog.String("status", f.Status.String()),
				slog.String("host", f.Host), slog.String("err", f.Text))
		},
		Reported: func(m *Message, r *report.Report, id ID) {
			l.LogAttrs(ctx, info, "smtp: reported", slog.String("id", string(m.ID)), slog.String("to", path(m.From)),
				slog.String("action", string(r.Recipients[0].Action)), slog.String("report", string(id)))
		},
		Suspended: func(s Suspension) {
			l.LogAttrs(ctx, warn, "smtp: a site is suspended", slog.String("site", s.Site), slog.Time("until", s.Until),
				slog.String("why", s.Why))
		},
		Resumed: func(site string) { l.LogAttrs(ctx, info, "smtp: a site is resumed", slog.String("site", site)) },
	}
}

// path returns an address as in a command.
func path(a proto.Address) string { return "<" + a.String() + ">" }
