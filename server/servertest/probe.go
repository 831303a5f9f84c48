package servertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A visit is a connection to the server of an exam.
type visit struct {
	scenario string
	ends     string // the method that is called with a context that has ended

	anyAddress bool // addresses are not those of the options

	mu      sync.Mutex
	message *sent  // the one that is sent now
	calls   string // the method that was called last
	hidden  string // an error of a method, of which the client gets to know nothing
}

// hide remembers an error that the reply does not tell.
func (v *visit) hide(what string, err error) {
	if e, told := err.(*proto.Error); told && e != nil {
		err = e.Err // the cause; the rest is in the reply
	}
	if err == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hidden = fmt.Sprintf("; %s %q", what, err.Error())
}

// why returns what was hidden, for behind a reply, and forgets it.
func (v *visit) why() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := v.hidden
	v.hidden = ""
	return text
}

// method returns the method of the session that was called last.
func (v *visit) method() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls
}

type visitKey struct{}

func (v *visit) send(m *sent) {
	v.mu.Lock()
	v.message = m
	v.mu.Unlock()
}

// newSession makes a session, and puts a probe around it.
func (x *exam) newSession(ctx context.Context, c *server.Conn) (server.Session, error) {
	v := ctx.Value(visitKey{}).(*visit)
	var session server.Session
	err := x.call(v, "NewSession", ctx, func(ctx context.Context) (err error) {
		session, err = x.backend.NewSession(ctx, c)
		return err
	})
	if err == nil && session == nil {
		x.fail(ruleRefusals, "NewSession has returned neither a session nor an error")
	}
	if err != nil || session == nil {
		return nil, err
	}
	p := &probe{server.Wrapper{Session: session}, x, v, 0}
	if each, ok := ext.As[server.RecipientData](session); ok {
		x.mu.Lock()
		x.each = true
		x.mu.Unlock()
		return &eachProbe{p, each}, nil
	}
	return p, nil
}

// call calls a method of the session, and looks at what it returns.
func (x *exam) call(v *visit, method string, ctx context.Context, f func(context.Context) error) error {
	v.mu.Lock()
	v.calls = method
	v.mu.Unlock()
	if v.ends == method {
		ended, cancel := context.WithCancelCause(ctx)
		cancel(io.ErrUnexpectedEOF)
		ctx = ended
		late := time.AfterFunc(x.opt.Patience, func() {
			x.fail(ruleContext, "%s has not returned %v after the context has ended", method, x.opt.Patience)
		})
		defer late.Stop()
	}
	defer func() {
		if p := recover(); p != nil {
			x.fail(rulePanics, "%s: %s has panicked with: %v\n%s", v.scenario, method, p, debug.Stack())
			panic(p)
		}
	}()
	err := f(ctx)
	v.hide(method+" has returned", err)
	var e *proto.Error
	if errors.As(err, &e) && (e.Code < 400 || e.Code > 599) {
		x.fail(ruleRefusals, "%s has refused with the code %d", method, e.Code)
	}
	return err
}

// A probe is a session around one that is tested.
type probe struct {
	server.Wrapper
	x     *exam
	visit *visit
	rcpts int // recipients of the transaction
}

func (p *probe) Mail(ctx context.Context, from proto.Address, params proto.Params) error {
	p.rcpts = 0
	err := p.x.call(p.visit, "Mail", ctx, func(ctx context.Context) error {
		defer p.compare("Mail", params, slices.Clone(params))
		return p.Session.Mail(ctx, from, params)
	})
	p.checkRefusal("Mail", from, err)
	return err
}

func (p *probe) Rcpt(ctx context.Context, to proto.Address, params proto.Params) error {
	err := p.x.call(p.visit, "Rcpt", ctx, func(ctx context.Context) error {
		defer p.compare("Rcpt", params, slices.Clone(params))
		return p.Session.Rcpt(ctx, to, params)
	})
	p.checkRefusal("Rcpt", to, err)
	if err == nil {
		p.rcpts++
	}
	return err
}

// checkRefusal looks at why an address was refused that the user of the exam did not choose.
func (p *probe) checkRefusal(method string, a proto.Address, err error) {
	var e *proto.Error
	if p.visit.anyAddress && err != nil && !errors.As(err, &e) {
		p.x.fail(ruleAddresses, "%s has failed for the address <%v>: %v", method, a, err)
	}
}

func (p *probe) compare(method string, now, before proto.Params) {
	if !reflect.DeepEqual(now, before) {
		p.x.fail(ruleParams, "%s has made %v of %v", method, now, before)
	}
}

func (p *probe) Data(ctx context.Context, r io.Reader) error {
	return p.data("Data", ctx, r, p.Session.Data, func(err error) bool { return err == nil })
}

// data calls f, which is Data or DataEach, and looks at what becomes of the reader. Accepts tells by the error of f
// whether the message was accepted, for one recipient at least.
func (p *probe) data(method string, ctx context.Context, r io.Reader, f func(context.Context, io.Reader) error,
	accepts func(error) bool) error {
	w := &watched{r: r, x: p.x, method: method}
	p.visit.mu.Lock()
	m := p.visit.message
	p.visit.mu.Unlock()
	err := p.x.call(p.visit, method, ctx, func(ctx context.Context) error {
		defer w.end()
		return f(ctx, w)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	accepted := accepts(err)
	switch {
	case accepted && w.err != nil:
		p.x.fail(ruleFailed, "%s: the reader has returned the error %q, and %s has accepted the message", p.visit.scenario,
			w.err, method)
	case accepted && !w.eof:
		p.x.fail(ruleWhole, "%s: %s has accepted the message after it has read %d octets, and no io.EOF", p.visit.scenario,
			method, w.n)
	}
	if m == nil {
		return err
	}
	p.x.mu.Lock()
	defer p.x.mu.Unlock()
	m.tried = true
	m.cut = w.err != nil
	m.accepted = accepted && w.eof
	return err
}

// Reset and Close have to return, too.
func (p *probe) Reset(ctx context.Context) {
	_ = p.x.call(p.visit, "Reset", ctx, func(ctx context.Context) error {
		p.Wrapper.Reset(ctx)
		return nil
	})
}

func (p *probe) Close() error {
	return p.x.call(p.visit, "Close", context.Background(), func(context.Context) error { return p.Wrapper.Close() })
}

// An eachProbe is a probe around a session that has DataEach.
type eachProbe struct {
	*probe
	each server.RecipientData
}

func (p *eachProbe) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	var mu sync.Mutex
	returned, accepted := false, make(map[int]bool)
	err := p.data("DataEach", ctx, r, func(ctx context.Context, r io.Reader) error {
		return p.each.DataEach(ctx, r, func(i int, reply proto.Reply, err error) {
			mu.Lock()
			defer mu.Unlock()
			if returned {
				p.x.fail(ruleOutcomes, "DataEach has told an outcome after it has returned")
				return
			}
			if p.check(i, reply, err) {
				if before, told := accepted[i]; told && before != (err == nil) {
					p.x.fail(ruleOutcomes, "DataEach has told two outcomes of the recipient %d that contradict each other", i)
				} else {
					accepted[i] = err == nil
				}
			}
			p.visit.hide("DataEach has told", err)
			result(i, reply, err)
		})
	}, func(err error) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, ok := range accepted {
			if ok {
				return true
			}
		}
		return err == nil && len(accepted) < p.rcpts
	})
	mu.Lock()
	defer mu.Unlock()
	returned = true
	return err
}

// check looks at an outcome. It reports whether it is one of a recipient.
func (p *eachProbe) check(i int, reply proto.Reply, err error) bool {
	var e *proto.Error
	switch {
	case i < 0 || i >= p.rcpts:
		p.x.fail(ruleOutcomes, "DataEach has told the outcome of the recipient %d of %d, counted from 0", i, p.rcpts)
		return false
	case err == nil && reply.Code != 0 && reply.Code/100 != 2:
		p.x.fail(ruleOutcomes, "DataEach has accepted a recipient with the code %d", reply.Code)
		return false
	case errors.As(err, &e) && (e.Code < 400 || e.Code > 599):
		p.x.fail(ruleOutcomes, "DataEach has refused a recipient with the code %d", e.Code)
	}
	return true
}

// A watched is the reader of a message.
type watched struct {
	r      io.Reader
	x      *exam
	method string

	mu   sync.Mutex
	n    int64
	eof  bool
	err  error // another than io.EOF
	done bool
}

func (w *watched) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		w.x.fail(ruleReader, "the reader was used after %s had returned", w.method)
		return 0, errors.New("smtp: the reader was used too late")
	}
	n, err := w.r.Read(p)
	w.n += int64(n)
	switch {
	case err == io.EOF:
		w.eof = true
	case err != nil:
		w.err = err
	}
	return n, err
}

// end says that Data returns.
func (w *watched) end() {
	if !w.mu.TryLock() {
		w.x.fail(ruleReader, "the reader was in use when %s returned", w.method)
		w.mu.Lock()
	}
	w.done = true
	w.mu.Unlock()
}

// examTrace returns t with what a visit has to know.
func examTrace(t *server.Trace) *server.Trace {
	var w server.Trace
	if t != nil {
		w = *t
	}
	next := w.Authenticated
	w.Authenticated = func(ctx context.Context, c *server.Conn, o ext.AuthOutcome) {
		ctx.Value(visitKey{}).(*visit).hide("authentication has failed with", o.Err)
		if next != nil {
			next(ctx, c, o)
		}
	}
	return &w
}

// examLogger returns a logger that finds methods which are never called.
func examLogger(x *exam) *slog.Logger { return slog.New(examHandler{x}) }

type examHandler struct{ x *exam }

func (h examHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}
func (h examHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h examHandler) WithGroup(string) slog.Handler      { return h }

func (h examHandler) Handle(_ context.Context, r slog.Record) error {
	if !strings.Contains(r.Message, "never called") {
		return nil
	}
	text := strings.TrimPrefix(r.Message, "smtp: ")
	r.Attrs(func(a slog.Attr) bool {
		text += "; " + a.Key + ": " + a.Value.String()
		return true
	})
	h.x.fail(ruleSignatures, "%s", text)
	return nil
}
