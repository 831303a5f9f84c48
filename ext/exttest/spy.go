package exttest

import (
	"cmp"
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"smtpkit.example/smtp/ext/internal/grammar"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// spy returns e with functions that note what those of e do.
func (s *suite) spy(e ext.Extension) ext.Extension {
	if f := e.Advertise; f != nil {
		e.Advertise = func(x ext.ServerConn) (args string, ok bool) {
			defer s.caught("Advertise", nil)
			return s.advertised(f, x)
		}
	}
	if f := e.Serve; f != nil {
		e.Serve = func(ctx context.Context, x ext.Command) (r proto.Reply, err error) {
			defer s.caught("Serve, for "+clip(x.Verb().Name+" "+x.Args())+",", &err)
			r, err = f(ctx, watched{x, s})
			s.served(x, r, err)
			return r, err
		}
	}
	if f := e.Fetch; f != nil {
		e.Fetch = func(ctx context.Context, x ext.ServerConn, args string) (r io.ReadCloser, err error) {
			defer s.caught("Fetch, for "+clip(args)+",", &err)
			return f(ctx, x, args)
		}
	}
	if f := e.Guard; f != nil {
		e.Guard = func(ctx context.Context, x ext.ServerConn, v *proto.Verb, args string) (err error) {
			defer s.caught("Guard, for "+v.Name+",", &err)
			return f(ctx, x, v, args)
		}
	}
	e.CheckMail = s.spyCheck("CheckMail", e.CheckMail)
	e.CheckRcpt = s.spyCheck("CheckRcpt", e.CheckRcpt)
	if f := e.Negotiate; f != nil {
		e.Negotiate = func(ctx context.Context, d ext.Negotiation) (err error) {
			defer s.caught("Negotiate", &err)
			s.mu.Lock()
			s.connected++
			s.mu.Unlock()
			return f(ctx, d)
		}
	}
	if f := e.Limits; f != nil {
		e.Limits = func(d ext.ClientConn) ext.ServerLimits {
			defer s.caught("Limits", nil)
			return f(d)
		}
	}
	if f := e.Prepare; f != nil {
		e.Prepare = func(c proto.Caps, env *ext.Envelope) (err error) {
			defer s.caught("Prepare", &err)
			return f(c, env)
		}
	}
	e.Mail, e.Rcpt = s.spyParams(e.Mail), s.spyParams(e.Rcpt)
	return e
}

type checkFunc = func(context.Context, ext.ServerConn, proto.Address, proto.Params) error

func (s *suite) spyCheck(name string, f checkFunc) checkFunc {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, x ext.ServerConn, a proto.Address, p proto.Params) (err error) {
		defer s.caught(name, &err)
		before := append(proto.Params(nil), p...)
		err = f(ctx, x, a, p)
		if !slices.Equal(before, p) {
			s.broken("server.Session: the parameters must not be modified", "%s modifies the parameters it is "+
				"given: use Params.Set, which copies", name)
		}
		return err
	}
}

func (s *suite) spyParams(params []ext.Param) []ext.Param {
	spied := append([]ext.Param(nil), params...)
	for i := range spied {
		if f := spied[i].Check; f != nil {
			spied[i].Check = func(value string) (err error) {
				defer s.caught("Check of "+spied[i].Key+", for "+clip(value)+",", &err)
				return f(value)
			}
		}
	}
	return spied
}

// errPanicked is what a function returns that has panicked, so that the connection ends as it would have.
var errPanicked = proto.Refuse(421, proto.Status{}, "A function of the extension panicked")

// caught is deferred where a function of the extension's is called.
func (s *suite) caught(what string, err *error) {
	v := recover()
	if v == nil {
		return
	}
	why := ""
	if _, ok := v.(*runtime.TypeAssertionError); ok {
		why = "; a session need not have the interface that is looked for: use ext.As, and its second result"
	}
	function, _, _ := strings.Cut(what, " ")
	s.broken("nothing that a peer or a session does may panic", function+"%s panics: %v%s",
		what[len(function):], v, why)
	if err != nil {
		*err = errPanicked
	}
}

// served looks at what Serve returned.
func (s *suite) served(x ext.Command, r proto.Reply, err error) {
	code, v := cmp.Or(r.Code, 250), x.Verb()
	if err != nil {
		e, ok := grammar.AsType[*proto.Error](err)
		if !ok {
			return // it is logged, and the client is told 451
		}
		code = e.Code
	}
	switch class := code / 100; {
	case err == nil && class != 2:
		s.broken(ruleCode, "Serve returns the reply %d to %s: a reply of success is 2yz, 4yz and 5yz are errors, and 3yz "+
			"is for Command.Challenge", code, v.Name)
		return
	case err != nil && class != 4 && class != 5:
		s.broken(ruleCode, "Serve returns the error %d to %s: only 4yz and 5yz refuse a command; return a proto.Reply for success",
			code, v.Name)
		return
	}
	if _, ok := v.After(v.In, code); !ok {
		s.broken(ruleCode, "Serve returns the reply %d to %s, which its row does not know: set OK "+
			"or Fail of the Verb", code, v.Name)
	}
}

// watched is a Command that looks at the replies sent on the way.
type watched struct {
	ext.Command
	s *suite
}

func (w watched) Challenge(ctx context.Context, r proto.Reply) (string, error) {
	w.leads(r, proto.Exchange, "Challenge")
	return w.Command.Challenge(ctx, r)
}

func (w watched) Handover(ctx context.Context, r proto.Reply, take func(context.Context, net.Conn) (net.Conn, error)) error {
	w.leads(r, proto.Handover, "Handover")
	return w.Command.Handover(ctx, r, take)
}

func (w watched) Surrender(ctx context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error {
	w.leads(r, proto.Handover, "Surrender")
	return w.Command.Surrender(ctx, r, serve)
}

// leads finds out whether the reply that what was given leads to the state where.
func (w watched) leads(r proto.Reply, where proto.State, what string) {
	v := w.Verb()
	if next, ok := v.After(v.In, r.Code); !ok || next != where {
		w.s.broken(ruleCode, "%s sends the reply %d to %s, which does not lead to %v: look at OK "+
			"and More of the Verb", what, r.Code, v.Name, where)
	}
}

// clip returns text in quotes, as much of it as is good to read.
func clip(text string) string {
	const most = 60
	if len(text) <= most {
		return strconv.Quote(text)
	}
	return strconv.Quote(text[:most]) + "..."
}
