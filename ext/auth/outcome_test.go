package auth

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// everybody is a session that can serve each mechanism, and notes the outcomes.
type everybody struct {
	*users
	*cleartext
	*tokens
	*guests
	*pencils
	deputies
	heard []ext.AuthOutcome
}

func newEverybody() *everybody {
	return &everybody{users: &users{}, cleartext: &cleartext{password: "pass"}, tokens: &tokens{}, guests: &guests{},
		pencils: &pencils{hashes: []crypto.Hash{crypto.SHA256}, salt: []byte("salt")}}
}

func (e *everybody) Authenticate(ctx context.Context, user, password string) error {
	return e.users.Authenticate(ctx, user, password)
}

func (e *everybody) AuthPause(int) time.Duration { return 0 }

func (e *everybody) SASLMechanisms() []string { return []string{"X-OWN", "X-MUTE"} }

func (e *everybody) SASL(_ context.Context, mechanism string) (sasl.Server, func() string, error) {
	s := &ownServer{}
	if mechanism == "X-MUTE" {
		return struct{ sasl.Server }{s}, func() string { return s.user }, nil
	}
	return s, func() string { return s.user }, nil
}

func (e *everybody) AuthOutcome(_ context.Context, o ext.AuthOutcome) { e.heard = append(e.heard, o) }

// ownServer lets in whoever says its name and "please".
type ownServer struct{ user string }

func (s *ownServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	var word string
	s.user, word, _ = strings.Cut(string(response), " ")
	if word != "please" {
		return nil, false, errors.New("say please")
	}
	return nil, true, nil
}

func (s *ownServer) User() string { return s.user }

// TestP23_AuthOutcome: each attempt has one outcome, which says who the client claims to be, and no more than that. An
// "!" at the end of it stands for an attempt that counts.
func TestP23_AuthOutcome(t *testing.T) {
	rfc := func(s string) string { return b64(strings.ReplaceAll(s, "^A", "\x01")) }
	long := strings.Repeat("ü", 200)
	for _, tt := range []struct {
		name  string
		args  string
		lines string // separated by spaces
		want  string // mechanism, user, as, identity
		err   string // how it begins
	}{
		{"PLAIN", "plain " + b64("\x00alice\x00secret"), "", "PLAIN alice - alice", ""},
		{"PLAIN for itself", "PLAIN " + b64("alice\x00alice\x00secret"), "", "PLAIN alice - alice", ""},
		{"PLAIN for another", "PLAIN " + b64("bob\x00alice\x00secret"), "", "PLAIN alice bob bob", ""},
		{"PLAIN for a third", "PLAIN " + b64("eve\x00alice\x00secret"), "", "PLAIN alice eve -!", "smtp: no such user"},
		{"PLAIN wrong", "PLAIN " + b64("\x00alice\x00hunter2"), "", "PLAIN alice - -!", "user alice: smtp: no such user"},
		{"PLAIN malformed", "PLAIN " + b64("alice\x00hunter2"), "", "PLAIN - - -!", "sasl"},
		{"PLAIN with a control character", "PLAIN " + b64("\x00a\x1b[2J\r\nb\u202e\xff\x00hunter2"), "",
			"PLAIN a\ufffd[2J\ufffd\ufffdb\ufffd\ufffd - -!", "smtp: no such user"},
		{"PLAIN, long", "PLAIN " + b64("\x00"+long+"\x00hunter2"), "", "PLAIN " + long[:254] + " - -!", "user"},
		{"PLAIN, the session is broken", "PLAIN " + b64("\x00down\x00hunter2"), "", "PLAIN down - -", "smtp: 454 4.7.0 The cred"},
		{"PLAIN, busy", "PLAIN " + b64("\x00busy\x00hunter2"), "", "PLAIN busy - -", "wrapped: smtp: 454"},
		{"PLAIN, weak", "PLAIN " + b64("\x00weak\x00hunter2"), "", "PLAIN weak - -!", "smtp: 534"},
		{"LOGIN", "LOGIN", b64("alice") + " " + b64("secret"), "LOGIN alice - alice", ""},
		{"LOGIN wrong", "LOGIN", b64("alice") + " " + b64("hunter2"), "LOGIN alice - -!", "user alice"},
		{"LOGIN, cancelled at the password", "LOGIN", b64("alice") + " *", "LOGIN alice - -", "smtp: 501 5.7.0 Cancelled"},
		{"LOGIN, hung up at the password", "LOGIN", b64("alice"), "LOGIN alice - -", fake.ErrHungUp.Error()},
		{"LOGIN, no base64", "LOGIN", b64("alice") + " hunter2", "LOGIN alice - -", "smtp: 501 5.5.2 The response"},
		{"CRAM-MD5 wrong", "CRAM-MD5", b64("tim the first hunter2"), "CRAM-MD5 tim the first - -!", "smtp: no such user"},
		{"CRAM-MD5 without a name", "CRAM-MD5", b64("hunter2"), "CRAM-MD5 - - -!", "smtp: no such user"},
		{"CRAM-MD5 with the password first", "CRAM-MD5 " + b64("hunter2"), "", "CRAM-MD5 - - -", "smtp: 501 5.7.0 The mech"},
		{"SCRAM malformed", "SCRAM-SHA-256 " + b64("user,hunter2"), "", "SCRAM-SHA-256 - - -!", "smtp:"},
		{"SCRAM prepared", "SCRAM-SHA-256 " + b64("n,,n=us\u00ader,r=x"), "*", "SCRAM-SHA-256 user - -", "smtp: 501 5.7.0 Cancelled"},
		{"SCRAM for another", "SCRAM-SHA-256 " + b64("n,a=bob,n=user,r=x"), b64("c=bixhPWJvYiw=,r=y,p="), "SCRAM-SHA-256 user bob -!", "smtp:"},
		{"OAUTHBEARER", "OAUTHBEARER " + rfc("n,,^Aauth=Bearer vF9d^A^A"), "", "OAUTHBEARER - - user@example.com", ""},
		{"OAUTHBEARER wrong", "OAUTHBEARER " + rfc("n,a=u@x,^Aauth=Bearer hunter2^A^A"), "AQ==", "OAUTHBEARER u@x - -!", "smtp: no such"},
		{"OAUTHBEARER, hung up", "OAUTHBEARER " + rfc("n,a=u@x,^Aauth=Bearer hunter2^A^A"), "", "OAUTHBEARER u@x - -!", "smtp: no such"},
		{"OAUTHBEARER, cancelled", "OAUTHBEARER " + rfc("n,a=u@x,^Aauth=Bearer hunter2^A^A"), "*", "OAUTHBEARER u@x - -!", "smtp: no such"},
		{"OAUTHBEARER, another scheme", "OAUTHBEARER " + rfc("n,a=u@x,^Aauth=Basic hunter2^A^A"), "AQ==", "OAUTHBEARER u@x - -!", "smtp: no such"},
		{"XOAUTH2 wrong", "XOAUTH2 " + rfc("user=u@x^Aauth=Bearer hunter2^A^A"), " ", "XOAUTH2 u@x - -!", "smtp: no such"},
		{"EXTERNAL", "EXTERNAL =", "", "EXTERNAL alice - alice", ""},
		{"EXTERNAL for another", "EXTERNAL " + b64("bob"), "", "EXTERNAL alice bob bob", ""},
		{"EXTERNAL for a third", "EXTERNAL " + b64("eve"), "", "EXTERNAL alice eve -!", "smtp: no such user"},
		{"ANONYMOUS", "ANONYMOUS " + b64("sirhc"), "", "ANONYMOUS sirhc - anonymous", ""},
		{"ANONYMOUS refused", "ANONYMOUS =", "", "ANONYMOUS - - -!", "smtp: no such user"},
		{"its own", "X-OWN " + b64("carol please"), "", "X-OWN carol - carol", ""},
		{"its own, wrong", "X-OWN " + b64("carol hunter2"), "", "X-OWN carol - -!", "say please"},
		{"its own, which does not tell", "X-MUTE " + b64("carol hunter2"), "", "X-MUTE - - -!", "say please"},
		{"its own, without a name", "X-OWN " + b64(" please"), "", "X-OWN - - -", "smtp: 454 4.7.0"},
		{"not base64", "PLAIN hunter2", "", "PLAIN - - -", "smtp: 501 5.5.2 The initial"},
		{"cancelled", "PLAIN", "*", "PLAIN - - -", "smtp: 501 5.7.0 Cancelled"},
		{"hung up", "PLAIN", "", "PLAIN - - -", fake.ErrHungUp.Error()},
		{"unknown", "ntlm " + b64("hunter2"), "", "NTLM - - -", "smtp: 504 5.5.4"},
		{"no mechanism", "", "", "- - - -", "smtp: 501 5.5.4"},
		{"what cannot be one", b64("\x00alice\x00hunter2"), "", "- - - -", "smtp: 504 5.5.4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEverybody()
			x := safeServer(testkit.Wrap(e), strings.Split(tt.lines, " ")...)
			x.Conn.TLS = chain("alice")
			if tt.lines == "" {
				x.Responses = nil
			}
			x.Serve(t, Auth(), tt.args)
			if len(e.heard) != 1 || !reflect.DeepEqual(e.heard, x.Outcomes) {
				t.Fatalf("the session heard %v, the server %v: want one outcome", e.heard, x.Outcomes)
			}
			o := e.heard[0]
			if got := outcomeText(o); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if text := fmt.Sprint(o.Err); o.Err == nil != (tt.err == "") || !strings.HasPrefix(text, tt.err) && o.Err != nil {
				t.Errorf("%v, want %q", o.Err, tt.err)
			}
			if text := fmt.Sprintf("%+v", o); strings.Contains(text, "hunter2") || strings.Contains(text, b64("hunter2")) {
				t.Errorf("%s tells the password", text)
			}
			if x.Conn.Identity != o.Identity || x.AuthFailures != map[bool]int{true: 1}[o.Denied] {
				t.Errorf("%d failures, authenticated as %q: %+v", x.AuthFailures, x.Conn.Identity, o)
			}
		})
	}
}

// outcomeText returns the outcome as the table of TestP23_AuthOutcome has it.
func outcomeText(o ext.AuthOutcome) string {
	text := []string{o.Mechanism, o.User, o.As, o.Identity}
	for i := range text {
		if text[i] == "" {
			text[i] = "-"
		}
	}
	return strings.Join(text, " ") + map[bool]string{true: "!"}[o.Denied]
}

// TestP23_AuthOutcomeOfWholeExchanges: as above, of mechanisms that take a real client.
func TestP23_AuthOutcomeOfWholeExchanges(t *testing.T) {
	for _, tt := range []struct {
		mechanism string
		creds     ext.Credentials
		want      string
	}{
		{"SCRAM-SHA-256", Password("user", "pencil"), "SCRAM-SHA-256 user - user"},
		{"SCRAM-SHA-256", Password("user", "hunter2"), "SCRAM-SHA-256 user - -!"},
		{"SCRAM-SHA-256", Password("nobody", "pencil"), "SCRAM-SHA-256 nobody - -!"},
		{"CRAM-MD5", Password("tim", "pass", "CRAM-MD5"), "CRAM-MD5 tim - tim"},
		{"CRAM-MD5", Password("tim", "hunter2", "CRAM-MD5"), "CRAM-MD5 tim - -!"},
		{"LOGIN", Password("alice", "secret", "LOGIN"), "LOGIN alice - alice"},
	} {
		e := newEverybody()
		m := &meeting{safeClient("AUTH "+tt.mechanism, tt.creds), safeServer(e), make(chan string), make(chan proto.Reply)}
		err := Auth().Negotiate(t.Context(), m)
		if len(e.heard) != 1 || outcomeText(e.heard[0]) != tt.want || err == nil != (e.heard[0].Err == nil) {
			t.Errorf("%s: %v; the session heard %+v, want %s", tt.mechanism, err, e.heard, tt.want)
		}
	}
}

// TestAuthOutcomeNotTried: without TLS, and where nobody can authenticate, the attempt is one that failed. After
// success there are no further attempts.
func TestAuthOutcomeNotTried(t *testing.T) {
	for _, tt := range []struct {
		name string
		x    *fake.Server
		want string
	}{
		{"in clear", fake.NewServer(newEverybody()), "PLAIN - - - 538"},
		{"nobody can", safeServer(nil), "PLAIN - - - 502"},
		{"again", &fake.Server{Conn: fake.ServerState{Session: newEverybody(), Identity: "alice"}}, ""},
	} {
		tt.x.Serve(t, Auth(), "PLAIN "+b64("\x00alice\x00secret"))
		var got string
		for _, o := range tt.x.Outcomes {
			got += fmt.Sprintf("%s %d", outcomeText(o), replyIn(o.Err).Code)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestAuthOutcomeBeforeThePause: the outcome is told when it is decided, so that a client which does not wait for the
// reply has failed nevertheless.
func TestAuthOutcomeBeforeThePause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	e := &hangsUp{newEverybody(), cancel}
	x := safeServer(e)
	x.Conn.Verb, x.Conn.Args = &Auth().Verbs[0], "PLAIN "+b64("\x00bob\x00secret")
	if _, err := Auth().Serve(ctx, x); !errors.Is(err, ErrCredentials) || x.AuthFailures != 1 || len(e.heard) != 1 {
		t.Errorf("%v, heard %v", err, e.heard)
	}
}

type hangsUp struct {
	*everybody
	cancel func()
}

func (h *hangsUp) Authenticate(context.Context, string, string) error {
	h.cancel()
	return ErrCredentials
}

func (h *hangsUp) AuthPause(int) time.Duration { return time.Hour }

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"alice", "", "a\x00", "\xff", "\u202e", strings.Repeat("ä", 128), strings.Repeat("\U000e0001", 65)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if len(got) > maxClaim || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q becomes %q", s, got)
		}
		if ok := !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); ok && len(s) <= maxClaim && utf8.ValidString(s) && got != s {
			t.Fatalf("%q becomes %q", s, got)
		}
	})
}
