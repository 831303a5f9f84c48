package server

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"smtpkit.example/smtp/proto"
)

// EarlyTalkers says what a server does to clients that send before they may. Before the greeting nobody may. Nobody may
// behind a command that has to be the last of its group, such as EHLO and DATA, nor behind any command while PIPELINING
// is not on offer (RFC 2920 section 3.1). Programs that send spam do that, and few others.
//
// It is found out only where it is certain: octets were there before the greeting or the reply had been written. What
// comes before the greeting is looked for while the greeting waits, for [Options.GreetingDelay] or for NewSession.
type EarlyTalkers uint8

// The ways to deal with early talkers. Each first offence of a kind in a session is logged at level Info, and recorded
// with [Conn.Record] as a [Verdict] with the method "early" and the result "fail".
const (
	// NoteEarly does no more. It is the default.
	NoteEarly EarlyTalkers = iota
	// DelayEarly has the client wait 10 seconds for the next reply, once for each kind.
	DelayEarly
	// RefuseEarly answers 554 and closes the connection.
	RefuseEarly
)

// The kinds of early talking, as bits.
const (
	beforeGreeting = 1 << iota
	behindCommand
)

// A turns watches whether a client waits for its turn to send.
type turns struct{ *Conn }

// awaitSilence waits for Options.GreetingDelay, and looks whether the client sends something meanwhile. It reports
// false if the connection is at its end. A shutdown ends the wait.
func (c turns) awaitSilence() bool {
	d := c.srv.opt.GreetingDelay
	if d <= 0 {
		return true
	}
	c.loan.rest()
	defer func() { c.loan.resting = false }()
	now := time.Now()
	if !c.pump.await(earlier(now.Add(d), c.pump.until), true, waitSilence, now) {
		return true
	}
	n, err := c.link.read(c.rx.Space())
	c.link.waited()
	c.rx.Filled(n)
	switch {
	case n > 0:
		return c.early(beforeGreeting, nil)
	case errors.Is(err, os.ErrDeadlineExceeded), err == io.EOF && c.link.halfCloses():
		return true
	}
	c.disconnect(err)
	return false
}

// isEarly reports whether the client has sent something behind a command without waiting for the reply, and may not. A
// payload belongs to its command, and nothing behind QUIT is read.
func (c turns) isEarly(ev *proto.Event) bool {
	v := ev.Verb
	return c.rx.Buffered() > 0 && ev.Payload < 0 && v != nil && v.Name != "QUIT" && (v.Last || !c.greeting.pipelines)
}

// early deals with a client that talks early, behind the command v if there is one. It reports false if the connection
// is at its end.
func (c turns) early(kind uint8, v *proto.Verb) bool {
	reason, e := "octets came before the greeting", errEarlyGreeting
	if v != nil {
		reason, e = "octets came behind "+v.Name+", before the reply to it", errEarly
	}
	first := c.greeting.early&kind == 0
	c.greeting.early |= kind
	if first {
		c.log(slog.LevelInfo, "smtp: the client talks early", "why", reason)
		c.Record(Verdict{Method: "early", Result: "fail", Reason: reason})
	}
	switch {
	case c.srv.opt.EarlyTalkers == RefuseEarly:
		r := e.Reply()
		if v == nil {
			r.Text = c.srv.opt.Hostname + " " + r.Text
		}
		c.closeWith(r, 0)
		return false
	case c.srv.opt.EarlyTalkers == DelayEarly && first:
		c.pause(earlyDelay)
	}
	return true
}

// pause waits for d, unless the server shuts down or the connection ends.
func (c turns) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.srv.done:
	case <-c.ctx.Done():
	}
}
