package exttest_test

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/exttest"
	"smtpkit.example/smtp/proto"
)

// broken has extensions with one mistake each.
var broken = []struct {
	name  string
	spoil func(e *ext.Extension, sample *exttest.Sample)
	want  string // a part of the error
	rule  string
}{
	{"keyword", func(e *ext.Extension, _ *exttest.Sample) {
		e.Keyword = "x_sound"
	}, "is not an EHLO keyword", "RFC 5321 section 4.1.1.1"},
	{"verb of another", func(e *ext.Extension, _ *exttest.Sample) {
		e.Verbs[0].Name = "VRFY"
	}, "defined by both", "RFC 5321 section 2.2.2"},
	{"parameter of another", func(e *ext.Extension, _ *exttest.Sample) {
		e.Mail[0].Key, e.Mail[0].MaxLength = "SIZE", 100
	}, "defined by both", "RFC 5321 section 2.2.2"},
	{"builds on nothing", func(e *ext.Extension, _ *exttest.Sample) {
		e.Requires = []string{"XNOWHERE"}
	}, "requires XNOWHERE", "RFC 5321 section 2.2.2"},
	{"names not its own", func(e *ext.Extension, _ *exttest.Sample) {
		e.Verbs[0].Name = "ASK"
	}, "begin with X", "RFC 5321 section 2.2.2"},
	{"MaxLength too short", func(e *ext.Extension, _ *exttest.Sample) {
		e.Mail[1].MaxLength--
	}, "its MaxLength is 11", "RFC 5321 section 4.5.3.1.4"},
	{"MaxLength too short for a sample", func(e *ext.Extension, _ *exttest.Sample) { e.Mail[0].MaxLength = len(" XID=1") },
		"XID=\"c0ffee\" takes 11 octets", "RFC 5321 section 4.5.3.1.4"},
	{"value that cannot be sent", func(e *ext.Extension, _ *exttest.Sample) { e.Mail[1].Values = append(e.Mail[1].Values, "A B") },
		"it cannot be sent", "RFC 5321 section 4.1.2"},
	{"value in lower case", func(e *ext.Extension, _ *exttest.Sample) {
		e.Mail[1].Values[0] = "small"
	}, "in upper case", "RFC 5321 section 2.4"},
	{"Binary that is no value", func(e *ext.Extension, _ *exttest.Sample) {
		e.Mail[1].Binary = "OCTETS"
	}, "none of its Values", "RFC 5321 section 2.2.2"},
	{"sample that is none", func(_ *ext.Extension, sample *exttest.Sample) { sample.Mail = []string{"XID=a=b"} },
		"are not parameters", "RFC 5321 section 4.1.2"},
	{"exchange in a group", func(e *ext.Extension, _ *exttest.Sample) {
		e.Verbs[0].Last = false
	}, "set Last", "RFC 2920 section 3.1"},
	{"verb not served", func(e *ext.Extension, _ *exttest.Sample) { e.Serve = nil }, "set Serve", "RFC 5321 section 4.2.4"},
	{"interface not named", func(e *ext.Extension, _ *exttest.Sample) {
		e.Interfaces = []reflect.Type{reflect.TypeFor[error]()}
	}, "exttest_test.answering, which implements none of Interfaces", "ext.Extension: Interfaces"},
	{"interface that is none", func(e *ext.Extension, _ *exttest.Sample) {
		e.Interfaces = []reflect.Type{reflect.TypeFor[answering]()}
	}, "exttest_test.answering in XSOUND.Interfaces is no interface with methods", "RFC 5321 section 2.2.2"},
	{"never advertised", func(_ *ext.Extension, sample *exttest.Sample) {
		sample.Session = nil
	}, "never advertised", "nothing of it can be tested"},
	{"Advertise panics", func(e *ext.Extension, _ *exttest.Sample) {
		e.Advertise = func(x ext.ServerConn) (string, bool) { return x.Session().(asked).Ask(), true }
	}, "Advertise panics", "use ext.As"},
	{"Advertise too long", func(e *ext.Extension, _ *exttest.Sample) {
		e.Advertise = func(ext.ServerConn) (string, bool) { return strings.Repeat("x", 501), true }
	}, "make a line of 514 octets", "RFC 5321 section 4.5.3.1.5"},
	{"Advertise two spaces", func(e *ext.Extension, _ *exttest.Sample) {
		e.Advertise = func(ext.ServerConn) (string, bool) { return "a  b", true }
	}, "cannot stand behind the keyword", "RFC 5321 section 4.1.1.1"},
	{"Advertise a line", func(e *ext.Extension, _ *exttest.Sample) {
		e.Advertise = func(ext.ServerConn) (string, bool) { return "a\r\n250 XEVIL", true }
	}, "cannot stand behind the keyword", "RFC 5321 section 4.1.1.1"},
	{"Advertise comes and goes", func(e *ext.Extension, _ *exttest.Sample) {
		var seen sync.Map
		e.Advertise = func(x ext.ServerConn) (string, bool) {
			_, again := seen.LoadOrStore(x, true)
			return "", !again
		}
	}, "advertised in one reply to EHLO and not in the next", "what comes and goes cannot be tested"},
	{"CheckMail refuses others", func(e *ext.Extension, _ *exttest.Sample) {
		e.CheckMail = func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			if !p.Has("XID") {
				return refuse(550, "XID is required")
			}
			return nil
		}
	}, "a client that does not use it is not served", "RFC 5321 section 2.2.1"},
	{"Guard refuses others", func(e *ext.Extension, _ *exttest.Sample) {
		e.Guard = func(_ context.Context, _ ext.ServerConn, v *proto.Verb, _ string) error {
			if v.Name == "NOOP" {
				return refuse(450, "not now")
			}
			return nil
		}
	}, "a client that does not use it is not served", "RFC 5321 section 2.2.1"},
	{"Check panics", func(e *ext.Extension, _ *exttest.Sample) {
		check := e.Mail[0].Check
		e.Mail[0].Check = func(v string) error { _ = v[0]; return check(v) }
	}, "Check of XID, for \"\", panics", "nothing that a peer or a session does may panic"},
	{"Check remembers", func(e *ext.Extension, _ *exttest.Sample) {
		check, seen := e.Mail[0].Check, sync.Map{}
		e.Mail[0].Check = func(v string) error {
			if _, twice := seen.LoadOrStore(v, true); twice && v == "1" {
				return errors.New("seen before")
			}
			return check(v)
		}
	}, "depend on nothing but the value", "RFC 5321 section 4.1.2"},
	{"Check does not return", func(e *ext.Extension, _ *exttest.Sample) {
		check := e.Mail[0].Check
		e.Mail[0].Check = func(v string) error {
			if len(v) > 50_000 {
				<-stuck
			}
			return check(v)
		}
	}, "does not return", "RFC 5321 section 4.1.2"},
	{"Check says lines", func(e *ext.Extension, _ *exttest.Sample) {
		e.Mail[0].Check = func(v string) error {
			if v != "c0ffee" {
				return errors.New("not this:\n" + v)
			}
			return nil
		}
	}, "cannot be sent in a line of a reply", "RFC 5321 section 4.2"},
	{"Check says nothing", func(e *ext.Extension, _ *exttest.Sample) {
		e.Mail[0].Check = func(v string) error {
			if v != "c0ffee" {
				return errors.New("")
			}
			return nil
		}
	}, "without a text", "RFC 5321 section 4.2"},
	{"Check too strict", func(e *ext.Extension, _ *exttest.Sample) {
		e.Mail[0].Check = func(string) error { return errors.New("no") }
	}, "the Sample says that it is valid", "RFC 5321 section 4.1.1.11"},
	{"Check too lax", func(e *ext.Extension, _ *exttest.Sample) {
		e.Mail[0].Check = nil
	}, "want 501: let Check refuse it", "RFC 5321 section 4.2.2"},
	{"CheckMail for a case", func(e *ext.Extension, _ *exttest.Sample) {
		e.CheckMail = func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			if kind, ok := p.Get("XKIND"); ok && kind != "LARGE" && kind != "SMALL" {
				return refuse(501, "upper case")
			}
			return nil
		}
	}, "have no case", "RFC 5321 section 2.4"},
	{"CheckMail wants what is Optional", func(e *ext.Extension, _ *exttest.Sample) {
		e.CheckMail = func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			if kind, ok := p.Get("XKIND"); ok && kind == "" {
				return refuse(501, "XKIND needs a value")
			}
			return nil
		}
	}, "although its value is Optional", "RFC 5321 section 4.1.1.11"},
	{"CheckMail modifies", func(e *ext.Extension, _ *exttest.Sample) {
		e.CheckMail = func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			for i := range p {
				p[i].Value = "0"
			}
			return nil
		}
	}, "use Params.Set, which copies", "must not be modified"},
	{"CheckMail remembers other sessions", func(e *ext.Extension, _ *exttest.Sample) {
		seen := sync.Map{}
		e.CheckMail = func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			if id, ok := p.Get("XID"); ok {
				if _, again := seen.LoadOrStore(id, true); again {
					return refuse(550, "XID was used before")
				}
			}
			return nil
		}
	}, `MAIL with XID=c0ffee XKIND=LARGE is answered once "250`, "has to have the same replies each time"},
	{"sample with a parameter of nobody", func(_ *ext.Extension, sample *exttest.Sample) {
		sample.Mail = []string{"FOO=1", "XID=1"}
	}, "MAIL with FOO=1 is answered \"555", "RFC 5321 section 4.1.1.11"},
	{"sample with a wrong value", func(_ *ext.Extension, sample *exttest.Sample) { sample.Mail = []string{"XID=coffee"} },
		"MAIL with XID=coffee is answered \"501", "RFC 5321 section 4.1.1.11"},
	{"offered to all, served to some", func(e *ext.Extension, _ *exttest.Sample) { e.Advertise = nil },
		"is answered \"502 5.5.1 Nobody to ask\\r\\n\" in SMTP, with a session that takes no part, where the extension is advertised",
		"RFC 5321 section 4.2.4"},
	{"offered and served to nobody", func(e *ext.Extension, sample *exttest.Sample) {
		e.Advertise, e.Serve, sample.Dialogues = nil, answer(func(context.Context, ext.Command) error { return refuse(502, "no") }), nil
	}, "have Advertise offer it only to sessions for which Serve can carry it out", "RFC 5321 section 4.2.4"},
	{"Guard without keyword that nobody satisfies", func(e *ext.Extension, sample *exttest.Sample) {
		*e, *sample = insist(func(ext.ServerConn) bool { return false }), exttest.Sample{}
	}, "no client is served, with TLS or without", "RFC 5321 section 2.2.1"},
	{"Serve panics", func(e *ext.Extension, _ *exttest.Sample) {
		e.Serve = serve(func(_ context.Context, x ext.Command) error { return refuse(250, x.Args()[:1]) })
	}, "Serve, for \"XASK \", panics", "nothing that a peer or a session does may panic"},
	{"Serve answers 354", func(e *ext.Extension, _ *exttest.Sample) {
		e.Serve = serve(func(context.Context, ext.Command) error { return refuse(354, "go on") })
	}, "Serve returns the reply 354", "RFC 5321 section 4.2.1"},
	{"Serve answers beyond its row", func(e *ext.Extension, _ *exttest.Sample) {
		e.Verbs[0].OK = proto.Never
		e.Serve = serve(func(context.Context, ext.Command) error { return nil })
	}, "which its row does not know", "RFC 5321 section 4.2.1"},
	{"challenge beyond its row", func(e *ext.Extension, _ *exttest.Sample) {
		e.Verbs[0].More = 0
	}, "Challenge sends the reply 334", "RFC 5321 section 4.2.1"},
	{"hand-over beyond its row", func(e *ext.Extension, _ *exttest.Sample) {
		e.Serve = serve(func(ctx context.Context, x ext.Command) error {
			return x.Handover(ctx, proto.Reply{Code: 220}, func(context.Context, net.Conn) (net.Conn, error) { return nil, nil })
		})
	}, "Handover sends the reply 220", "RFC 5321 section 4.2.1"},
	{"Serve does not return, whoever calls", func(e *ext.Extension, _ *exttest.Sample) {
		e.Serve = answer(func(context.Context, ext.Command) error { <-stuck; return nil })
	}, "Serve does not return", "RFC 5321 section 4.2"},
	{"Serve does not return", func(e *ext.Extension, _ *exttest.Sample) {
		e.Serve = serve(func(context.Context, ext.Command) error { <-stuck; return nil })
	}, "has no reply", "RFC 5321 section 4.2"},
	{"Serve does not return when the client is gone", func(e *ext.Extension, _ *exttest.Sample) {
		e.Serve = serve(func(ctx context.Context, x ext.Command) error {
			if _, err := x.Challenge(ctx, proto.Reply{Code: 334}); err != nil {
				<-stuck
			}
			return refuse(501, "no")
		})
	}, "is given up, with the part verbs", "nothing may take for ever"},
	{"endless exchange", func(e *ext.Extension, _ *exttest.Sample) {
		e.Serve = serve(func(ctx context.Context, x ext.Command) error {
			for {
				if _, err := x.Challenge(ctx, proto.Reply{Code: 334}); err != nil {
					return err
				}
			}
		})
	}, "bound the number of lines", "RFC 5321 section 4.2"},
	{"Serve where not advertised", func(e *ext.Extension, _ *exttest.Sample) {
		e.Serve = answer(func(context.Context, ext.Command) error { return nil })
	}, "have Serve return 502", "RFC 5321 section 4.2.4"},
	{"Serve has moods", func(e *ext.Extension, _ *exttest.Sample) {
		var n atomic.Int64
		e.Serve = serve(func(context.Context, ext.Command) error { return refuse(250+int(n.Add(1)%2), "it depends") })
	}, "is answered once", "has to have the same replies each time"},
	{"dialogue", func(_ *ext.Extension, sample *exttest.Sample) { sample.Dialogues = []string{"C: XASK\nS: 250 *\n"} },
		`the server says "334 yes?"`, "what the Sample says"},
	{"Payload remembers", func(e *ext.Extension, _ *exttest.Sample) {
		var n atomic.Int64
		e.Verbs[0].More = 0
		e.Verbs[0].Payload = func([]byte) (int64, *proto.Error) { return n.Add(1) % 5, nil }
	}, "depends on how the octets were cut", "law 3"},
	{"Prepare wants what is optional", func(e *ext.Extension, _ *exttest.Sample) {
		e.Prepare = func(_ proto.Caps, e *ext.Envelope) error {
			if !e.Mail.Has("XID") {
				return errors.New("XID is required")
			}
			return nil
		}
	}, "does not accept what the client sends", "its server accepts"},
	{"Limits panics", func(e *ext.Extension, _ *exttest.Sample) {
		e.Limits = func(d ext.ClientConn) ext.ServerLimits {
			args, _ := d.Caps().Args("XSOUND")
			return ext.ServerLimits{RcptMax: int(args[99])}
		}
	}, "Limits panics", "nothing that a peer or a session does may panic"},
	{"Prepare panics", func(e *ext.Extension, _ *exttest.Sample) {
		e.Prepare = func(_ proto.Caps, e *ext.Envelope) error {
			e.To[0].Params = e.To[0].Params.SetFlag("XQUIET")
			return nil
		}
	}, "Prepare panics", "nothing that a peer or a session does may panic"},
	{"Prepare adds what nobody knows", func(e *ext.Extension, _ *exttest.Sample) {
		e.Prepare = func(_ proto.Caps, e *ext.Envelope) error {
			if len(e.To) == 0 {
				e.Mail = e.Mail.SetFlag("XOTHER")
			}
			return nil
		}
	}, "adds the MAIL parameter XOTHER", "RFC 5321 section 2.2.2"},
	{"Prepare adds what is malformed", func(e *ext.Extension, _ *exttest.Sample) {
		e.Prepare = func(_ proto.Caps, e *ext.Envelope) error {
			e.Mail = e.Mail.Set("XID", "none")
			return nil
		}
	}, "does not accept what the client sends", "its server accepts"},
	{"Prepare in place", func(e *ext.Extension, _ *exttest.Sample) {
		e.Prepare = func(_ proto.Caps, e *ext.Envelope) error {
			if !e.Mail.Has("XID") {
				e.Mail = append(e.Mail, proto.Param{Key: "XID", Value: "1", HasValue: true})
			}
			return nil
		}
	}, "modifies the parameters that the caller gave", "Prepare may add parameters"},
	{"Prepare changes what others have added", func(e *ext.Extension, _ *exttest.Sample) {
		e.Prepare = func(_ proto.Caps, e *ext.Envelope) error {
			for i := range e.Mail {
				e.Mail[i].Value = strings.TrimPrefix(e.Mail[i].Value, "1")
			}
			return nil
		}
	}, "modifies the parameters that the caller gave", "Prepare may add parameters"},
	{"Prepare changes a recipient", func(e *ext.Extension, sample *exttest.Sample) {
		e.Rcpt[0] = ext.Param{Key: "XPAYER", MaxLength: len(" XPAYER=RCPT"), Values: []string{"ME", "RCPT"}}
		sample.Rcpt = []string{"XPAYER=ME"}
		e.Prepare = func(_ proto.Caps, e *ext.Envelope) error {
			for _, r := range e.To {
				for i := range r.Params {
					if r.Params[i].Key == "XPAYER" {
						r.Params[i].Value = "RCPT"
					}
				}
			}
			return nil
		}
	}, "modifies the parameters that the caller gave", "Prepare may add parameters"},
	{"Prepare drops recipients", func(e *ext.Extension, _ *exttest.Sample) {
		e.Prepare = func(_ proto.Caps, e *ext.Envelope) error {
			e.To = e.To[:min(1, len(e.To))]
			return nil
		}
	}, "changes the addresses", "Prepare may add parameters"},
	{"Negotiate fails", func(e *ext.Extension, _ *exttest.Sample) {
		e.Negotiate = func(ctx context.Context, d ext.Negotiation) error {
			_, err := d.Do(ctx, "XTELL", "")
			return err
		}
	}, "cannot connect to a server of the same extension", "its server accepts"},
	{"sessions share", func(e *ext.Extension, _ *exttest.Sample) {
		var busy atomic.Int64
		gate := make(chan struct{}, 1)
		e.CheckMail = func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			defer busy.Add(-1)
			if busy.Add(1) > 1 {
				select {
				case gate <- struct{}{}:
				default:
				}
				return refuse(450, "one at a time")
			}
			select { // long enough for another session to come
			case <-gate:
			case <-time.After(20 * time.Millisecond):
			}
			return nil
		}
	}, "among sessions at the same time", "safe for concurrent use"},
}

// stuck blocks the functions that do not return, to the end of the case.
var stuck chan struct{}

// TestBroken checks that each mistake is found, and that the error names the rule. In a synctest bubble waiting takes
// no time.
func TestBroken(t *testing.T) {
	for _, tt := range broken {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stuck = make(chan struct{})
				defer close(stuck)
				e, sample := sound(), soundSample
				tt.spoil(&e, &sample)
				err := exttest.Check(e, sample)
				if err == nil {
					t.Fatal("nothing was found")
				}
				text := err.Error()
				if strings.Contains(text, "\n") || !strings.Contains(text, tt.want) || !strings.Contains(text, tt.rule) {
					t.Errorf("found %v\nwant one thing, with %q and %q", err, tt.want, tt.rule)
				}
			})
		})
	}
}
