package queue

import (
	"log/slog"
	"runtime/debug"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/report"
)

// logPanic is deferred by what calls a function of the options. It logs a panic of that, and goes on.
func logPanic(l *slog.Logger, function string) {
	if v := recover(); v != nil {
		l.Error("smtp: a function in the options of the queue has panicked", "function", function, "panic", v,
			"stack", string(debug.Stack()))
	}
}

// guarded returns a Trace that calls the functions of t, and logs their panics.
func (t *Trace) guarded(l *slog.Logger) *Trace {
	g := &Trace{}
	if f := t.Added; f != nil {
		g.Added = func(m *Message, jobs []*Job) {
			defer logPanic(l, "Trace.Added")
			f(m, jobs)
		}
	}
	if f := t.Attempted; f != nil {
		g.Attempted = func(m *Message, j *Job, result *client.Result, took time.Duration) {
			defer logPanic(l, "Trace.Attempted")
			f(m, j, result, took)
		}
	}
	if f := t.Deferred; f != nil {
		g.Deferred = func(m *Message, j *Job) {
			defer logPanic(l, "Trace.Deferred")
			f(m, j)
		}
	}
	if f := t.Done; f != nil {
		g.Done = func(m *Message, r Recipient, why *Failure) {
			defer logPanic(l, "Trace.Done")
			f(m, r, why)
		}
	}
	if f := t.Reported; f != nil {
		g.Reported = func(m *Message, r *report.Report, id ID) {
			defer logPanic(l, "Trace.Reported")
			f(m, r, id)
		}
	}
	if f := t.Suspended; f != nil {
		g.Suspended = func(s Suspension) {
			defer logPanic(l, "Trace.Suspended")
			f(s)
		}
	}
	if f := t.Resumed; f != nil {
		g.Resumed = func(site string) {
			defer logPanic(l, "Trace.Resumed")
			f(site)
		}
	}
	if f := t.Failed; f != nil {
		g.Failed = func(err error) {
			defer logPanic(l, "Trace.Failed")
			f(err)
		}
	}
	return g
}
