package exttest_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/exttest"
	"smtpkit.example/smtp/proto"
)

// sound returns an extension without mistakes. The cases of TestBroken add one each.
func sound() ext.Extension {
	return ext.Extension{
		Keyword:    "XSOUND",
		Interfaces: []reflect.Type{reflect.TypeFor[asked]()},
		Mail: []ext.Param{
			{Key: "XID", MaxLength: len(" XID=") + 8, Check: func(v string) error {
				if v == "" || len(v) > 8 || strings.Trim(v, "0123456789abcdef") != "" {
					return errors.New("XID has to be 1 to 8 digits")
				}
				return nil
			}},
			{Key: "XKIND", MaxLength: len(" XKIND=LARGE"), Values: []string{"SMALL", "LARGE"}, Optional: true},
		},
		Rcpt:  []ext.Param{{Key: "XQUIET", MaxLength: len(" XQUIET"), Flag: true}},
		Verbs: []proto.Verb{{Name: "XASK", In: proto.Session &^ proto.Hello, Last: true, More: proto.Exchange}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[asked](x.Session())
			return "for " + x.Hostname(), ok
		},
		Serve: answer(func(ctx context.Context, x ext.Command) error {
			s, ok := ext.As[asked](x.Session())
			switch {
			case !ok:
				return proto.Refuse(502, proto.Status{}, "Nobody to ask")
			case x.Args() != "":
				return proto.Refuse(501, proto.Status{}, "No arguments")
			}
			line, err := x.Challenge(ctx, proto.Reply{Code: 334, Text: s.Ask()})
			if err != nil {
				return err
			}
			return &proto.Error{Code: 250, Text: "You said " + line}
		}),
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			for i := range e.To {
				e.To[i].Params = e.To[i].Params.SetFlag("XQUIET")
			}
			return nil
		},
	}
}

type asked interface{ Ask() string }

type answering struct{}

func (answering) Ask() string { return "yes?" }

var soundSample = exttest.Sample{
	Session: func() any { return answering{} },
	Mail:    []string{"XID=c0ffee XKIND=LARGE"}, BadMail: []string{"XID=coffee", "XKIND=MEDIUM"}, Rcpt: []string{"XQUIET"},
	Dialogues: []string{"C: XASK\nS: 334 yes?\nC: no\nS: 250 2.0.0 You said no\nC: XASK x\nS: 501 *\n"},
}

func TestSound(t *testing.T) { exttest.Test(t, sound(), soundSample) }

// refuse returns a reply as an error. It also makes those that are no refusals.
func refuse(code int, text string) error { return &proto.Error{Code: code, Text: text} }

// answer returns a Serve that calls f. If f returns a *proto.Error that does not refuse, that is the reply of success.
func answer(f func(ctx context.Context, x ext.Command) error) func(context.Context, ext.Command) (proto.Reply, error) {
	return func(ctx context.Context, x ext.Command) (proto.Reply, error) {
		err := f(ctx, x)
		if e, ok := err.(*proto.Error); ok && e.Code < 400 {
			return e.Reply(), nil
		}
		return proto.Reply{}, err
	}
}

// serve returns a Serve that refuses if the session takes no part, as it should, and otherwise calls f.
func serve(f func(ctx context.Context, x ext.Command) error) func(context.Context, ext.Command) (proto.Reply, error) {
	return answer(func(ctx context.Context, x ext.Command) error {
		if _, ok := ext.As[asked](x.Session()); !ok {
			return refuse(502, "no")
		}
		return f(ctx, x)
	})
}

// TestWithoutSamples has only the description to test by.
func TestWithoutSamples(t *testing.T) {
	e := sound()
	e.Advertise, e.Serve, e.Verbs = nil, nil, nil
	exttest.Test(t, e)

	e.Mail[0].Check = func(v string) error {
		if v != "0815" {
			return errors.New("XID is a secret")
		}
		return nil
	}
	if err := exttest.Check(e); err == nil || !strings.Contains(err.Error(), "give one in Mail of a Sample") {
		t.Errorf("a Check that takes nothing common: %v", err)
	}
	if err := exttest.Check(e, exttest.Sample{Mail: []string{"XID=0815"}}); err != nil {
		t.Error(err)
	}
	if err := exttest.Check(sound()); err == nil || !strings.Contains(err.Error(), "give a Sample whose Session takes part") {
		t.Errorf("an extension that needs a session: %v", err)
	}
}

// TestWith has an extension that requires one from outside the library.
func TestWith(t *testing.T) {
	e := sound()
	e.Requires = []string{"XBASE", "MTRK"}
	sample := soundSample
	sample.With = []ext.Extension{{Keyword: "XBASE"}}
	if err := exttest.Check(e, sample); err == nil || !strings.Contains(err.Error(), "never advertised") {
		t.Errorf("MTRK is not advertised to the session, and so neither is what requires it: %v", err)
	}
	e.Requires = []string{"XBASE", "8BITMIME"}
	exttest.Test(t, e, sample)
}
