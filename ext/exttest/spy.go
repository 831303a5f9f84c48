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

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// spy returns e with functions that call those of e, and check what they do.
func (s *suite) spy(e ext.Extension) ext.Extension {
	if f := e.Advertise; f != nil {
		e.Advertise = func(x ext.ServerConn) (args string, ok bool) {
			defer s.recovered("Advertise", nil)
			return s.checkAdvertised(f, x)
		}
	}
	if f := e.Serve; f != nil {
		e.Serve = func(ctx context.Context, x ext.Command) (r proto.Reply, err error) {
			defer s.recovered("Serve, for "+clip(x.Verb().Name+" "+x.Args())+",", &err)
			r, err = f(ctx, checkedCommand{x, s})
			s.checkServed(x, r, err)
			return r, err
		}
	}
	if f := e.Fetch; f != nil {
		e.Fetch = func(ctx context.Context, x ext.ServerConn, args string) (r io.ReadCloser, err error) {
			defer s.recovered("Fetch, for "+clip(args)+",", &err)
			return f(ctx, x, args)
		}
	}
	if f := e.Guard; f != nil {
		e.Guard = func(ctx context.Context, x ext.ServerConn, v *proto.Verb, args string) (err error) {
			defer s.recovered("Guard, for "+v.Name+",", &err)
			return f(ctx, x, v, args)
		}
	}
	e.CheckMail = s.spyCheck("CheckMail", e.CheckMail)
	e.CheckRcpt = s.spyCheck("CheckRcpt", e.CheckRcpt)
	if f := e.Negotiate; f != nil {
		e.Negotiate = func(ctx context.Context, d ext.Negotiation) (err error) {
			defer s.recovered("Negotiate", &err)
			s.found.negotiated()
			return f(ctx, d)
		}
	}
	if f := e.Limits; f != nil {
		e.Limits = func(d ext.ClientConn) ext.ServerLimits {
			defer s.recovered("Limits", nil)
			return f(d)
		}
	}
	if f := e.Prepare; f != nil {
		e.Prepare = func(c proto.Caps, env *ext.Envelope) (err error) {
			defer s.recovered("Prepare", &err)
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
		defer s.recovered(name, &err)
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
				defer s.recovered("Check of "+spied[i].Key+", for "+clip(value)+",", &err)
				return f(value)
			}
		}
	}
	return spied
}

// errPanicked is returned in place of a panic. It ends the connection, as the panic would have done.
var errPanicked = proto.Refuse(421, proto.Status{}, "A function of the extension panicked")

// recovered is deferred where a function of the extension is called. It records a panic.
func (s *suite) recovered(what string, err *error) {
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

// checkServed checks what Serve has returned.
func (s *suite) checkServed(x ext.Command, r proto.Reply, err error) {
	code, v := cmp.Or(r.Code, 250), x.Verb()
	if err != nil {
		e, ok := grammar.AsType[*proto.Error](err)
		if !ok {
			return // the server logs it, and answers 451
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

// checkedCommand is a Command that checks the replies sent before Serve returns.
type checkedCommand struct {
	ext.Command
	s *suite
}

func (w checkedCommand) Challenge(ctx context.Context, r proto.Reply) (string, error) {
	w.check(r, proto.Exchange, "Challenge")
	return w.Command.Challenge(ctx, r)
}

func (w checkedCommand) Handover(ctx context.Context, r proto.Reply, take func(context.Context, net.Conn) (net.Conn, error)) error {
	w.check(r, proto.Handover, "Handover")
	return w.Command.Handover(ctx, r, take)
}

func (w checkedCommand) Surrender(ctx context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error {
	w.check(r, proto.Handover, "Surrender")
	return w.Command.Surrender(ctx, r, serve)
}

// check checks that r leads to the state where. What is the method that was called with r.
func (w checkedCommand) check(r proto.Reply, where proto.State, what string) {
	v := w.Verb()
	if next, ok := v.After(v.In, r.Code); !ok || next != where {
		w.s.broken(ruleCode, "%s sends the reply %d to %s, which does not lead to %v: look at OK "+
			"and More of the Verb", what, r.Code, v.Name, where)
	}
}

// clip returns text in quotes, cut off if it is long.
func clip(text string) string {
	const maxText = 60
	if len(text) <= maxText {
		return strconv.Quote(text)
	}
	return strconv.Quote(text[:maxText]) + "..."
}
