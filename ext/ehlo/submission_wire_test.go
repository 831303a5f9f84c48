package ehlo_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A desk is a session of a submission server: alice may send from alice and sales, at any domain.
type desk struct {
	keeper
	broken error
}

func (d *desk) Authenticate(_ context.Context, user, password string) error {
	if password != "secret of "+user {
		return auth.ErrCredentials
	}
	return nil
}

func (d *desk) PermitsSender(_ context.Context, user string, from proto.Address) (bool, error) {
	if from.IsNull() {
		return false, errors.New("asked for the null reverse-path")
	}
	return user == from.Local || from.Local == "sales", d.broken
}

func (d *desk) ResolveURL(context.Context, string) (io.ReadCloser, int64, error) {
	return nil, 0, ehlo.ErrURLFailed
}

func (d *desk) AuthPause(int) time.Duration                        { return 0 }
func (d *desk) HoldsMail() bool                                    { return true }
func (d *desk) StartQueue(context.Context, ehlo.Node) (int, error) { return 0, nil }

// login is the AUTH command of alice.
var login = "AUTH PLAIN AGFsaWNlAHNlY3JldCBvZiBhbGljZQ=="

// TestSubmission checks the replies of a submission server to users and to others.
func TestSubmission(t *testing.T) {
	sales := func(name string) bool { return name == "sales" }
	trusted := func(x ext.ServerConn) bool { return x.Hello() == "intranet.example" }
	const mail = "MAIL FROM:<alice@b.example>"
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"U01 MAIL without AUTH", []string{Caps, mail}, "530 5.7.0 Authentication required"},
		{"U01 after HELO", []string{"HELO client.example", mail}, "530 Authentication required"},
		{"U01 the null sender too", []string{Caps, "MAIL FROM:<>"}, "530 5.7.0 "},
		{"U01 after AUTH has failed", []string{Caps, "AUTH PLAIN AGFsaWNlAHdyb25n", mail}, "530 5.7.0 "},
		{"U01 after AUTH", []string{Caps, login, mail}, "250 2.1.0 "},
		{"U01 a new greeting changes nothing", []string{Caps, login, Caps, mail}, "250 2.1.0 "},
		{"U01 VRFY", []string{Caps, "VRFY alice"}, "530 5.7.0 "},
		{"U01 HELP", []string{Caps, "HELP"}, "530 5.7.0 "},
		{"U01 NOOP", []string{Caps, "NOOP"}, "250 "},
		{"U01 RSET", []string{Caps, "RSET"}, "250 "},
		{"U01 a trusted client", []string{"EHLO intranet.example", "MAIL FROM:<sales@b.example>"}, "250 2.1.0 "},
		{"U02 sender", []string{Caps, login, "MAIL FROM:<alice@host>"}, "554 5.1.8 "},
		{"U02 recipient", []string{Caps, login, mail, "RCPT TO:<a@host>"}, "554 5.1.2 "},
		{"U02 top-level domain", []string{Caps, login, mail, "RCPT TO:<a@xn--p1ai>"}, "554 5.1.2 "},
		{"U02 not ASCII", []string{Caps, login, mail + " SMTPUTF8", "RCPT TO:<a@münchen>"}, "554 5.1.2 "},
		{"U02 completed sender", []string{Caps, login, "MAIL FROM:<alice@sales>"}, "250 2.1.0 "},
		{"U02 completed recipient", []string{Caps, login, mail, "RCPT TO:<a@SALES>"}, "250 2.1.5 "},
		{"U02 fully qualified", []string{Caps, login, mail, "RCPT TO:<a@b.c.example>"}, "250 2.1.5 "},
		{"U02 an address literal", []string{Caps, login, mail, "RCPT TO:<a@[192.0.2.1]>"}, "250 2.1.5 "},
		{"U02 postmaster has no domain", []string{Caps, login, mail, "RCPT TO:<Postmaster>"}, "250 2.1.5 "},
		{"U03 the null sender", []string{Caps, login, "MAIL FROM:<>"}, "250 2.1.0 "},
		{"U04 ETRN", []string{Caps, login, "ETRN example.org"}, "500 5.5.1 "},
		{"U04 ETRN before AUTH", []string{Caps, "ETRN example.org"}, "500 5.5.1 "},
		{"U07, Z167 not hers", []string{Caps, login, "MAIL FROM:<bob@b.example>"}, "550 5.7.1 "},
		{"U07 hers too", []string{Caps, login, "MAIL FROM:<sales@b.example>"}, "250 2.1.0 "},
		{"U07 a trusted client's name is empty", []string{"EHLO intranet.example", mail}, "550 5.7.1 "},
		{"29 SEND", []string{Caps, "SEND FROM:<a@b.example>"}, "502 5.5.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := newServer(t, &desk{}, &server.Options{
				Hostname: "mail.example", AllowInsecureAuth: true,
				Extensions: ehlo.Submission(ehlo.SubmissionPolicy{Completes: sales, Trusted: trusted}),
			})
			if got := talk(t, srv, tt.lines...); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q: %q, want %q", tt.lines, got, tt.want)
			}
		})
	}
}

// TestU02_ByDefault: a server completes no domain unless the policy says so.
func TestU02_ByDefault(t *testing.T) {
	srv := newServer(t, &desk{}, &server.Options{
		Hostname: "mail.example", AllowInsecureAuth: true, Extensions: ehlo.Submission(ehlo.SubmissionPolicy{}),
	})
	if got := talk(t, srv, Caps, login, "MAIL FROM:<alice@sales>"); !strings.HasPrefix(got, "554 5.1.8 ") {
		t.Errorf("%q", got)
	}
}

// TestU07_CheckFails: an error of PermitsSender is no refusal.
func TestU07_CheckFails(t *testing.T) {
	srv := newServer(t, &desk{broken: errors.New("disk on fire")}, &server.Options{
		Hostname: "mail.example", AllowInsecureAuth: true, Extensions: ehlo.Submission(ehlo.SubmissionPolicy{}),
	})
	got := talk(t, srv, Caps, login, "MAIL FROM:<alice@b.example>")
	if !strings.HasPrefix(got, "451 4.3.0 ") || strings.Contains(got, "fire") {
		t.Errorf("%q", got)
	}
}

// TestU05_Offered checks what a submission server offers to a session that implements everything, before and after
// authentication.
func TestU05_Offered(t *testing.T) {
	policy := ehlo.SubmissionPolicy{Hold: ehlo.HoldLimits{Interval: time.Hour}, URLs: []string{"imap"}}
	for _, before := range [][]string{nil, {Caps, login}} {
		srv := newServer(t, &desk{}, &server.Options{
			Hostname: "mail.example", AllowInsecureAuth: true, Extensions: ehlo.Submission(policy),
		})
		got := talk(t, srv, append(before, Caps)...)
		for _, keyword := range []string{"AUTH PLAIN", "PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "FUTURERELEASE 3600 ", "BURL imap"} {
			if !strings.Contains(got, "250-"+keyword) && !strings.Contains(got, "250 "+keyword) {
				t.Errorf("no %s in %q", keyword, got)
			}
		}
		if strings.Contains(got, "ETRN") || strings.Contains(got, "ATRN") {
			t.Errorf("offered are %q", got)
		}
	}
}

// TestU01_InClear: where TLS has to come before AUTH, the refusal says so, and the server does not offer AUTH.
func TestU01_InClear(t *testing.T) {
	theirs, _ := ownTLS(t)
	opt := server.Options{Hostname: "mail.example", TLSConfig: theirs, Extensions: ehlo.Submission(ehlo.SubmissionPolicy{})}
	got := talk(t, newServer(t, &desk{}, &opt), Caps)
	if !strings.Contains(got, "STARTTLS") || strings.Contains(got, "AUTH") {
		t.Errorf("offered are %q", got)
	}
	got = talk(t, newServer(t, &desk{}, &opt), Caps, "MAIL FROM:<alice@b.example>")
	if !strings.HasPrefix(got, "530 5.7.0 ") || !strings.Contains(got, "STARTTLS") {
		t.Errorf("%q", got)
	}
	opt.AllowInsecureAuth = true
	got = talk(t, newServer(t, &desk{}, &opt), Caps, "MAIL FROM:<alice@b.example>")
	if !strings.HasPrefix(got, "530 5.7.0 ") || strings.Contains(got, "STARTTLS") {
		t.Errorf("where passwords may travel in clear: %q", got)
	}
}
