package server

import (
	"log/slog"

	"smtpkit.example/smtp/ext"
)

// AuthOutcome records how an attempt to authenticate ended. Everybody hears of it here but the session, which the
// extension tells.
func (x *extCommand) AuthOutcome(o ext.AuthOutcome) (denied int, last bool) {
	c := x.Conn
	x.told = true
	if o.Err == nil {
		c.greeting.identity = o.Identity
	}
	within := true
	if o.Denied {
		c.budget.authFailures++
		within = c.srv.rates.charge(authRate, c.srv.ratedNetworkOf(c.RemoteAddr()))
	}
	c.logAuth(o)
	c.trace.authenticated(o)
	if !within {
		c.srv.stats.authOverRate.Add(1)
		c.limited(errAuthSpent)
	}
	return c.budget.authFailures, exceeds(c.budget.authFailures, c.srv.opt.Limits.AuthFailures) || !within
}

// logAuth logs an outcome: at the level Error if the credentials could not be checked, and otherwise Info.
func (c *Conn) logAuth(o ext.AuthOutcome) {
	attrs := []any{"mechanism", o.Mechanism, "user", o.User}
	if o.As != "" {
		attrs = append(attrs, "as", o.As)
	}
	if o.Err == nil {
		c.log(slog.LevelInfo, "smtp: authenticated", append(attrs, "identity", o.Identity)...)
		return
	}
	attrs = append(attrs, "err", o.Err)
	if e := asError(o.Err); e != nil && e.Temporary() && e.Err != nil && !o.Denied {
		c.log(slog.LevelError, "smtp: credentials could not be checked", attrs...)
		return
	}
	c.log(slog.LevelInfo, "smtp: authentication failed", attrs...)
}

// withoutOutcome returns err without its cause, if the outcome of an attempt has logged that already.
func (x *extCommand) withoutOutcome(err error) error {
	e := asError(err)
	if !x.told || e == nil || !isRefusal(e.Code) {
		return err
	}
	plain := *e
	plain.Err = nil
	return &plain
}
