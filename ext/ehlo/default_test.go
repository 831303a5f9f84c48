package ehlo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

func keywords(list []ext.Extension) []string {
	var all []string
	for _, e := range list {
		if e.Keyword != "" {
			all = append(all, e.Keyword)
		}
	}
	return all
}

// TestReadySets compares the sets with what their standards ask for and forbid.
func TestReadySets(t *testing.T) {
	for _, tt := range []struct {
		name      string
		protocol  proto.Protocol
		list      []ext.Extension
		has, lack []string
	}{
		// RFC 6409 section 7.
		{"U05 submission", proto.SMTP, ehlo.Submission(ehlo.SubmissionPolicy{}),
			[]string{"AUTH", "PIPELINING", "ENHANCEDSTATUSCODES", "DSN", "8BITMIME", "STARTTLS", "FUTURERELEASE", "BURL"},
			[]string{"ETRN", "ATRN", "XCLIENT", "CHECKPOINT"}},
		{"U08 relay", proto.SMTP, ehlo.Relay(),
			[]string{"PIPELINING", "ENHANCEDSTATUSCODES", "DSN", "8BITMIME", "STARTTLS", "SIZE", "SMTPUTF8", "CHUNKING"},
			[]string{"FUTURERELEASE", "BURL", "AUTH"}},
		{"U08 default", proto.SMTP, ehlo.Default(), []string{"AUTH"}, []string{"FUTURERELEASE", "BURL", "ETRN", "ATRN"}},
		// RFC 2033 section 5.
		{"T05 LMTP", proto.LMTP, ehlo.LMTP(), []string{"PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SIZE", "DSN"},
			[]string{"FUTURERELEASE", "BURL", "ETRN", "ATRN", "PRDR", "EXPN", "DELIVERBY"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := keywords(tt.list)
			for _, keyword := range tt.has {
				if !slices.Contains(got, keyword) {
					t.Errorf("%s is missing in %v", keyword, got)
				}
			}
			for _, keyword := range tt.lack {
				if slices.Contains(got, keyword) {
					t.Errorf("%s is among %v", keyword, got)
				}
			}
			set, err := ext.NewSet(tt.protocol, tt.list)
			if err != nil {
				t.Fatal(err)
			}
			if err := set.CheckServer(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestT05_Offered has a server of LMTP without a list offer what the protocol requires.
func TestT05_Offered(t *testing.T) {
	srv := newServer(t, &keeper{}, &server.Options{Hostname: "mail.example", Protocol: proto.LMTP})
	got := talk(t, srv, "LHLO client.example")
	for _, keyword := range []string{"PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME"} {
		if !strings.Contains(got, "250-"+keyword+"\r\n") && !strings.Contains(got, "250 "+keyword+"\r\n") {
			t.Errorf("no %s in %q", keyword, got)
		}
	}
}

// TestU08_CheckServer has servers refuse extensions where they must not be, which clients may have all the same.
func TestU08_CheckServer(t *testing.T) {
	policy := ehlo.SubmissionPolicy{}.Extension()
	hold := ehlo.FutureRelease(ehlo.HoldLimits{Interval: time.Hour})
	with := func(e ...ext.Extension) []ext.Extension { return append(ehlo.Default(), e...) }
	for _, tt := range []struct {
		name     string
		protocol proto.Protocol
		list     []ext.Extension
		want     string // in the error; "" for none
	}{
		{"FUTURERELEASE for relay", proto.SMTP, with(hold), "FUTURERELEASE is for submission"},
		{"BURL for relay", proto.SMTP, append(ehlo.Relay(), ehlo.BURL("imap")), "BURL is for submission"},
		{"BURL in LMTP", proto.LMTP, append(ehlo.LMTP(), ehlo.BURL()), "BURL is for submission"},
		{"both for submission", proto.SMTP, with(policy, hold, ehlo.BURL("imap")), ""},
		{"U04 ETRN for submission", proto.SMTP, append(ehlo.Submission(ehlo.SubmissionPolicy{}), ehlo.ETRN()), "ETRN must not be"},
		{"U04 ATRN for submission", proto.SMTP, with(policy, ehlo.ATRN()), "ATRN must not be"},
		{"U04 ETRN for relay", proto.SMTP, with(ehlo.ETRN(), ehlo.ATRN()), ""},
		{"submission in LMTP", proto.LMTP, append(ehlo.LMTP(), policy), "LMTP"},
		{"two policies", proto.SMTP, append(ehlo.Submission(ehlo.SubmissionPolicy{}), policy), "two submission policies"},
		{"U05 without AUTH", proto.SMTP, append(ehlo.Relay(), policy), "the submission policy requires AUTH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, err := server.New(backend(&keeper{}), &server.Options{Protocol: tt.protocol, Extensions: tt.list})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q in it", err, tt.want)
			case err == nil:
				srv.Close()
			}
		})
	}
	if _, err := ext.NewSet(proto.SMTP, with(hold, ehlo.BURL(), ehlo.ETRN())); err != nil {
		t.Errorf("a client: %v", err)
	}
}

// A desk is a session of a submission server: alice may send from her own address and from that of sales.
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

func (d *desk) AuthPause(int) time.Duration { return 0 }

func (d *desk) HoldsMail() bool { return true }

func (d *desk) StartQueue(context.Context, ehlo.Node) (int, error) { return 0, nil }

// login is what alice authenticates with.
var login = "AUTH PLAIN AGFsaWNlAHNlY3JldCBvZiBhbGljZQ=="

// TestSubmission says to a submission server what users say, and what others do.
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
		{"U07 not hers", []string{Caps, login, "MAIL FROM:<bob@b.example>"}, "550 5.7.1 "},
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

// TestU02_ByDefault: nothing is completed unless the policy says so.
func TestU02_ByDefault(t *testing.T) {
	srv := newServer(t, &desk{}, &server.Options{
		Hostname: "mail.example", AllowInsecureAuth: true, Extensions: ehlo.Submission(ehlo.SubmissionPolicy{}),
	})
	if got := talk(t, srv, Caps, login, "MAIL FROM:<alice@sales>"); !strings.HasPrefix(got, "554 5.1.8 ") {
		t.Errorf("%q", got)
	}
}

// TestU07_CheckFails: a check that could not be made is no refusal.
func TestU07_CheckFails(t *testing.T) {
	srv := newServer(t, &desk{broken: errors.New("disk on fire")}, &server.Options{
		Hostname: "mail.example", AllowInsecureAuth: true, Extensions: ehlo.Submission(ehlo.SubmissionPolicy{}),
	})
	got := talk(t, srv, Caps, login, "MAIL FROM:<alice@b.example>")
	if !strings.HasPrefix(got, "451 4.3.0 ") || strings.Contains(got, "fire") {
		t.Errorf("%q", got)
	}
}

// TestU05_Offered has a session that can do everything offered what belongs to submission, and nothing that does not, before
// and after it has authenticated.
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

// TestU01_InClear: where TLS comes before AUTH, the refusal says so, and AUTH is not to be had.
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

func ExampleSubmission() {
	list := ehlo.Submission(ehlo.SubmissionPolicy{Hold: ehlo.HoldLimits{Interval: 24 * time.Hour}})
	srv, err := server.New(backend(&desk{}), &server.Options{Extensions: list})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(srv.Close())
	_, err = server.New(backend(&desk{}), &server.Options{Extensions: append(list, ehlo.ETRN())})
	fmt.Println(err)
	// Output:
	// <nil>
	// smtp: ETRN must not be offered by a submission server (RFC 6409 section 7): leave it out, and use another server for it
}
