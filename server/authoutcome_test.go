package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// An outcomeSession is an authSession that hears of outcomes.
type outcomeSession struct {
	authSession
	c *server.Conn
}

func (s outcomeSession) Authenticate(ctx context.Context, user, password string) error {
	switch user {
	case "down":
		return errors.New("the database is on fire")
	case "mallory":
		return fmt.Errorf("listed: %w", proto.Refuse(535, proto.Status{5, 7, 8}, "no"))
	}
	return s.authSession.Authenticate(ctx, user, password)
}

func (s outcomeSession) SASLMechanisms() []string { return []string{"X-OWN"} }

func (s outcomeSession) SASL(context.Context, string) (sasl.Server, func() string, error) {
	return nil, nil, &proto.Error{Code: 534, Status: proto.Status{5, 7, 9}, Text: "no more", Err: errors.New("since May")}
}

func (s outcomeSession) AuthOutcome(_ context.Context, o ext.AuthOutcome) {
	s.note("outcome %s %q, now %q", o.Mechanism, o.User, s.c.Identity())
}

// TestP23_AuthOutcome: the outcome of each attempt reaches the session, the trace and the log, once each, with who the
// client claims to be, and without its password.
func TestP23_AuthOutcome(t *testing.T) {
	var log bytes.Buffer
	var seen []string
	st := &store{}
	b := server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return outcomeSession{authSession{&session{st}}, c}, nil
	})
	srv := newServer(t, b, server.Options{
		AllowInsecureAuth: true,
		Logger:            slog.New(slog.NewTextHandler(&log, nil)),
		Trace: &server.Trace{
			Authenticated: func(_ context.Context, c *server.Conn, o ext.AuthOutcome) {
				seen = append(seen, fmt.Sprintf("%s %q %v, now %q", o.Mechanism, o.User, o.Err, c.Identity()))
			},
			Reply: func(_ context.Context, _ *server.Conn, verb string, r proto.Reply) {
				if verb == "AUTH" {
					seen = append(seen, fmt.Sprint(r.Code))
				}
			},
		},
	})
	inBubble(t, 2*time.Second, func(t *testing.T) { // two attempts are denied
		p := dial(t, srv)
		p.hello()
		p.ask(plain("bob\n", "hunter2"), "535 ", plain("mallory", "hunter2"), "535 ", plain("down", "hunter2"), "454 ",
			"AUTH LOGIN", "334 ", base64.StdEncoding.EncodeToString([]byte("alice")), "334 ", "*", "501 ",
			"AUTH GSSAPI", "504 ", "AUTH X-OWN", "534 ", plain("alice", "secret"), "235 ", plain("alice", "secret"), "503 ")
		p.quit()
	})
	if got := strings.Join(seen, "\n"); got != outcomesTraced {
		t.Errorf("the trace is\n%s\nwant\n%s", got, outcomesTraced)
	}
	lines := regexp.MustCompile(`(?m)^time=\S+ | (conn|remote)=\S+`).ReplaceAllString(log.String(), "")
	if lines != outcomesLogged {
		t.Errorf("the log is\n%s\nwant\n%s", lines, outcomesLogged)
	}
	want := `outcome PLAIN "bob` + "\ufffd" + `", now "", outcome PLAIN "mallory", now "", outcome PLAIN "down", now "", ` +
		`outcome LOGIN "alice", now "", outcome GSSAPI "", now "", outcome X-OWN "", now "", authenticate alice, outcome PLAIN "alice", now "alice", close`
	if got := st.calls(); got != want {
		t.Errorf("called %s, want %s", got, want)
	}
}

const outcomesTraced = `PLAIN "bob` + "\ufffd" + `" smtp: no such user, or not that password, now ""
535
PLAIN "mallory" listed: smtp: 535 5.7.8 no, now ""
535
PLAIN "down" smtp: 454 4.7.0 The credentials cannot be checked now; try again later: the database is on fire, now ""
454
334
334
LOGIN "alice" smtp: 501 5.7.0 Cancelled, now ""
501
GSSAPI "" smtp: 504 5.5.4 The mechanism is none of X-OWN PLAIN LOGIN, now ""
504
X-OWN "" smtp: 534 5.7.9 no more: since May, now ""
534
PLAIN "alice" <nil>, now "alice"
235
503`

const outcomesLogged = `level=INFO msg="smtp: authentication failed" mechanism=PLAIN user="bob` + "\ufffd" + `" err="smtp: no such user, or not that password"
level=INFO msg="smtp: authentication failed" mechanism=PLAIN user=mallory err="listed: smtp: 535 5.7.8 no"
level=ERROR msg="smtp: credentials could not be checked" mechanism=PLAIN user=down err="smtp: 454 4.7.0 The credentials cannot be checked now; try again later: the database is on fire"
level=INFO msg="smtp: authentication failed" mechanism=LOGIN user=alice err="smtp: 501 5.7.0 Cancelled"
level=INFO msg="smtp: authentication failed" mechanism=GSSAPI user="" err="smtp: 504 5.5.4 The mechanism is none of X-OWN PLAIN LOGIN"
level=INFO msg="smtp: authentication failed" mechanism=X-OWN user="" err="smtp: 534 5.7.9 no more: since May"
level=INFO msg="smtp: authenticated" mechanism=PLAIN user=alice identity=alice
`
