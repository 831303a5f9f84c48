package server_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// The sessions of TestMistakesAreLogged, each with one mistake.
type (
	withoutContext struct{ discard }
	verdictOfBool  struct{ discard }
	variadic       struct{ discard }
	halfSCRAM      struct{ discard }
	resets         struct{ discard }
	closes         struct{ discard }
	unwraps        struct{ discard }
	byPointer      struct{ discard }
	tokenUser      struct{ discard }
	sound          struct{ discard }
	filters        struct{ discard }
)

func (withoutContext) Authenticate(user, password string) error { return nil }

func (verdictOfBool) Authenticate(context.Context, string, string) bool { return true }

func (variadic) Help(...string) (string, error) { return "", nil }

func (halfSCRAM) SCRAMPolicy() {}

func (resets) Reset() {}

func (closes) Close() {}

func (unwraps) Unwrap() server.Session { return discard{} }

func (*byPointer) Authenticate(context.Context, string, string) error { return nil }

func (tokenUser) SASLMechanisms() []string { return nil }

func (sound) Authenticate(context.Context, string, string) error { return nil }

func (sound) Reset(context.Context) {}

func (sound) Close() error { return nil }

func (sound) Expand() {} // of EXPN, which is not in the list

func (filters) FilterContent(io.Reader) io.Reader { return nil }

// middle is middleware without a mistake of its own.
type middle struct{ server.Wrapper }

// TestMistakesAreLogged: a method that has the name that is looked for and another signature is logged, with both.
func TestMistakesAreLogged(t *testing.T) {
	const wrong = `msg="smtp: a method of the session is never called: it has the wrong signature" session=server_test.`
	for _, tt := range []struct {
		name    string
		session server.Session
		want    string
	}{
		{"no context", withoutContext{}, wrong + `withoutContext has="Authenticate(string, string) error" ` +
			`want="Authenticate(context.Context, string, string) error" of=auth.PasswordSession`},
		{"bool", &verdictOfBool{}, strings.Replace(wrong, "=server", "=*server", 1) + `verdictOfBool ` +
			`has="Authenticate(context.Context, string, string) bool" ` +
			`want="Authenticate(context.Context, string, string) error" of=auth.PasswordSession`},
		{"variadic", variadic{}, wrong + `variadic has="Help(...string) (string, error)" ` +
			`want="Help(context.Context, string) (string, error)" of=ehlo.HelpSession`},
		{"one of two", halfSCRAM{}, wrong + `halfSCRAM has=SCRAMPolicy() want="SCRAMPolicy() auth.SCRAMPolicy" of=auth.SCRAMSession`},
		{"Reset", resets{}, wrong + `resets has=Reset() want=Reset(context.Context) of=server.Resetter`},
		{"Close", closes{}, wrong + `closes has=Close() want="Close() error" of=io.Closer`},
		{"Unwrap", unwraps{}, wrong + `unwraps has="Unwrap() server.Session" want="Unwrap() interface {}" of=server.unwrapper`},
		{"FilterContent", filters{}, wrong + `filters has="FilterContent(io.Reader) io.Reader" ` +
			`want="FilterContent(context.Context, io.Reader) (io.Reader, error)" of=server.ContentFilter`},
		{"pointer", byPointer{}, `msg="smtp: a method of the session is never called: its receiver is a pointer, and ` +
			`NewSession returns no pointer" session=server_test.byPointer ` +
			`has="Authenticate(context.Context, string, string) error" ` +
			`want="Authenticate(context.Context, string, string) error" of=auth.PasswordSession`},
		{"half", tokenUser{}, `msg="smtp: a method of the session is never called: other methods are missing" ` +
			`session=server_test.tokenUser has="SASLMechanisms() []string" ` +
			`want="SASL(context.Context, string) (sasl.Server, func() string, error)" of=auth.MechanismSession`},
		{"within", middle{server.Wrapper{Session: resets{}}}, wrong + `resets has=Reset() want=Reset(context.Context) of=server.Resetter`},
		{"pointer that is one", &byPointer{}, ""},
		{"none", sound{}, ""},
		{"none within", &middle{server.Wrapper{Session: sound{}}}, ""},
		{"none at all", discard{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			backend := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) { return tt.session, nil })
			srv := newServer(t, backend, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Extensions: without("EXPN")})
			for range 3 { // each type is looked at once
				p := dial(t, srv)
				p.hello()
				p.quit()
			}
			lines := regexp.MustCompile(`(?m)^time=\S+ | (conn|remote)=\S+`).ReplaceAllString(log.String(), "")
			want := tt.want
			if want != "" {
				want = "level=ERROR " + want + "\n"
			}
			if lines != want {
				t.Errorf("the log is\n%swant\n%s", lines, want)
			}
		})
	}
}

// without returns the usual extensions without one.
func without(keyword string) []ext.Extension {
	var list []ext.Extension
	for _, e := range ehlo.Default() {
		if e.Keyword != keyword {
			list = append(list, e)
		}
	}
	return list
}

// TestTypesAreBounded: a program that makes types as it runs does not fill the memory. After 100 types, mistakes are no
// longer looked for.
func TestTypesAreBounded(t *testing.T) {
	again := ext.Extension{
		Keyword: "XAGAIN",
		Verbs:   []proto.Verb{{Name: "XAGAIN", In: proto.Hello | proto.Ready, Last: true, OK: proto.Hello}},
		Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
			return x.Restart(ctx, &ext.Origin{})
		},
	}
	for n, logged := range map[int]bool{98: true, 99: false} {
		var log bytes.Buffer
		i := 0
		backend := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
			if i++; i > n {
				return resets{}, nil
			}
			inner := reflect.ArrayOf(i, reflect.TypeFor[int]()) // a type of its own, without methods
			return unwrapped{inner: reflect.Zero(inner).Interface()}, nil
		})
		srv := newServer(t, backend, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Extensions: []ext.Extension{again}})
		p := dial(t, srv)
		p.expect("220 ")
		for range n {
			p.ask("XAGAIN", "220 ")
		}
		p.send("QUIT\r\n")
		p.expect("221 ")
		_ = p.ended()
		if strings.Contains(log.String(), "wrong signature") != logged {
			t.Errorf("after %d types the log is %q", n+1, log.String())
		}
	}
}

type unwrapped struct {
	discard
	inner any
}

func (u unwrapped) Unwrap() any { return u.inner }

// TestRequireAuthNobodyCan: a server that requires authentication which nobody can have says so, in New if it is known
// there, and otherwise once for the first session.
func TestRequireAuthNobodyCan(t *testing.T) {
	config, _ := tlsPair(t)
	function := server.MessageFunc(func(context.Context, *server.Message) error { return nil })
	relay := ehlo.Relay()
	own := ext.Extension{Keyword: "XLOGIN", Verbs: []proto.Verb{{Name: "XLOGIN", In: proto.Ready, BeforeAuth: true}},
		Authenticates: func(ext.ServerConn) error { return nil }}
	strict, trusting := ehlo.SubmissionPolicy{}, ehlo.SubmissionPolicy{Trusted: func(ext.ServerConn) bool { return true }}
	for _, tt := range []struct {
		name    string
		backend server.Backend
		opt     server.Options
		err     string // of New
		logged  string // "" for nothing
	}{
		{"AUTH not in the list", authStore{&store{}}, server.Options{RequireAuth: true, Extensions: relay}, "add auth.Auth()", ""},
		{"MessageFunc", function, server.Options{RequireAuth: true, TLSConfig: config}, "to a MessageFunc", ""},
		{"MessageFunc for submission", function, server.Options{Extensions: ehlo.Submission(strict), TLSConfig: config}, "to a MessageFunc", ""},
		{"no interface", &store{}, server.Options{RequireAuth: true, TLSConfig: config}, "", "implement one of auth.PasswordSession, auth.SCRAMSession, "},
		{"no interface, submission", &store{}, server.Options{Extensions: ehlo.Submission(strict), TLSConfig: config}, "", "implement one of"},
		{"no TLS", authStore{&store{}}, server.Options{RequireAuth: true}, "", "set Options.TLSConfig"},
		{"trusted", function, server.Options{Extensions: ehlo.Submission(trusting)}, "", ""},
		{"proxy", function, server.Options{RequireAuth: true, Extensions: append(relay, ehlo.XCLIENT())}, "", ""},
		{"proxy, and AUTH in vain", function, server.Options{RequireAuth: true, Extensions: append([]ext.Extension{ehlo.XCLIENT()}, ehlo.Default()...)}, "", ""},
		{"one's own", &store{}, server.Options{RequireAuth: true, Extensions: append(relay, own)}, "", ""},
		{"not required", function, server.Options{}, "", ""},
		{"TLS", authStore{&store{}}, server.Options{RequireAuth: true, TLSConfig: config}, "", ""},
		{"in plaintext, as asked", authStore{&store{}}, server.Options{RequireAuth: true, AllowInsecureAuth: true}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			tt.opt.Logger, tt.opt.Hostname = slog.New(slog.NewTextHandler(&log, nil)), "mail.example"
			srv, err := server.New(tt.backend, &tt.opt)
			if err != nil || tt.err != "" {
				if err == nil || tt.err == "" || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("New: %v, want %q", err, tt.err)
				}
				return
			}
			for range 2 {
				here, there := net.Pipe()
				p := dialOver(t, srv, here, there)
				p.hello()
				p.quit()
			}
			got := log.String()
			times := strings.Count(got, `level=ERROR msg="smtp: authentication is required, and nobody can authenticate"`)
			if want := map[bool]int{true: 1}[tt.logged != ""]; times != want || !strings.Contains(got, tt.logged) {
				t.Errorf("logged %d times, want %d with %q:\n%s", times, want, tt.logged, got)
			}
		})
	}
}

// TestInterfacesOfOneName: a method that one interface has is no mistake in the eyes of another with a method of that
// name.
func TestInterfacesOfOneName(t *testing.T) {
	var log bytes.Buffer
	x := ext.Extension{Keyword: "XASK", Interfaces: []reflect.Type{
		reflect.TypeFor[interface{ Ask(int) string }](), reflect.TypeFor[interface{ Ask() string }](),
	}}
	backend := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) { return asked{}, nil })
	srv := newServer(t, backend, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Extensions: []ext.Extension{x}})
	p := dial(t, srv)
	p.hello()
	p.quit()
	if log.Len() > 0 {
		t.Errorf("the log is %s", &log)
	}
}

type asked struct{ discard }

func (asked) Ask() string { return "" }
