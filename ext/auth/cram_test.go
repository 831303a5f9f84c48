package auth

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/proto"
)

// cleartext is a session that knows tim's password.
type cleartext struct {
	quick
	password string
	asked    []string
}

func (c *cleartext) ClearPassword(_ context.Context, user string) (string, error) {
	c.asked = append(c.asked, user)
	switch user {
	case "down":
		return "", errDatabase
	case "tim", "tim the first":
		return c.password, nil
	case "nobody":
		return "", nil
	case "locked":
		return c.password, ErrCredentials
	}
	return "", ErrCredentials
}

func TestCRAMVector(t *testing.T) {
	const challenge = "<1896.697170952@postoffice.reston.mci.net>"
	const response = "tim b913a602c7eda7a495b4e6e7334d3890"
	c := &cramClient{user: "tim", password: "tanstaaftanstaaf"}
	if name, first, err := c.Start(); name != "CRAM-MD5" || first != nil || err != nil {
		t.Errorf("%s %q, %v", name, first, err)
	}
	if got, err := c.Next([]byte(challenge)); err != nil || string(got) != response {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Next([]byte(challenge)); err == nil {
		t.Error("a second challenge is answered")
	}
	if _, err := (&cramClient{user: "tim", password: "x"}).Next(nil); err == nil {
		t.Error("an empty challenge is answered")
	}

	s := &cramServer{attempt: &attempt{ctx: t.Context(), conn: safeServer(&cleartext{password: "tanstaaftanstaaf"})}}
	s.challenge = []byte(challenge)
	if _, done, err := s.Next([]byte(response)); err != nil || !done || s.attempt.user != "tim" {
		t.Errorf("%v, %v, authenticated as %q", done, err, s.attempt.user)
	}
	if _, _, err := s.Next([]byte(response)); err == nil {
		t.Error("row 89: the challenge is good for a second response")
	}
}

func TestP08_CRAMServe(t *testing.T) {
	response := func(user, password string) func(challenge []byte) string {
		return func(challenge []byte) string { return user + " " + string(cramDigest(password, challenge)) }
	}
	for _, tt := range []struct {
		name    string
		respond func(challenge []byte) string
		as      string
		want    string
	}{
		{"good", response("tim", "pass"), "tim", "235 "},
		{"name with spaces", response("tim the first", "pass"), "tim the first", "235 "},
		{"P10 bad password", response("tim", "x"), "", "535 5.7.8 "},
		{"P10 bad user", response("bob", "pass"), "", "535 5.7.8 "},
		{"bad user, no password", response("bob", ""), "", "535 5.7.8 "},
		{"user with an empty password", response("nobody", ""), "", "535 5.7.8 "},
		{"password and error", response("locked", "pass"), "", "535 5.7.8 "},
		{"session is broken", response("down", ""), "", "454 4.7.0 "},
		{"upper case", func(c []byte) string { return "tim " + strings.ToUpper(string(cramDigest("pass", c))) }, "", "535 "},
		{"no digest", func([]byte) string { return "tim" }, "", "535 "},
		{"empty digest", func([]byte) string { return "tim " }, "", "535 "},
		{"empty name", response("", "pass"), "", "535 "},
		{"empty", func([]byte) string { return "" }, "", "535 "},
		{"Z84 LF in user", response("tim\n", "pass"), "", "535 "},
		{"digest of another challenge", func([]byte) string { return response("tim", "pass")([]byte("<1.2@mail.example>")) }, "", "535 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := safeServer(&cleartext{password: "pass"})
			m := &meeting{safeClient("AUTH CRAM-MD5", nil), x, make(chan string), make(chan proto.Reply)}
			r, _ := m.Do(t.Context(), "AUTH", "CRAM-MD5")
			challenge, err := decode64(r.Text)
			if err != nil || r.Code != 334 {
				t.Fatalf("%v, %v", r, err)
			}
			r, _ = m.Line(t.Context(), b64(tt.respond(challenge)))
			if got := string(proto.AppendReply(nil, r, true, false)); !strings.HasPrefix(got, tt.want) || x.Conn.Identity != tt.as {
				t.Errorf("%q as %q, want %q", got, x.Conn.Identity, tt.want)
			}
		})
	}
	x := safeServer(&cleartext{})
	if got := x.Serve(t, Auth(), "CRAM-MD5"); !strings.Contains(got, fake.ErrHungUp.Error()) {
		t.Error(got)
	}
	if got := x.Serve(t, Auth(), "CRAM-MD5 "+b64("tim x")); !strings.HasPrefix(got, "501 5.7.0 ") || len(x.Sent) != 1 {
		t.Errorf("an initial response: %q", got)
	}
}

// Each challenge is a new msg-id with the server's name (RFC 2195 section 2).
func TestZ89_CRAMChallenge(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		s := newCRAMServer(&attempt{ctx: t.Context(), conn: safeServer(&cleartext{})})
		challenge, done, err := s.Next(nil)
		if err != nil || done || seen[string(challenge)] {
			t.Fatalf("%q, %v, %v", challenge, done, err)
		}
		seen[string(challenge)] = true
		if id := string(challenge); !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, "@mail.example>") || len(id) < 40 {
			t.Errorf("%q", id)
		}
	}
}

func FuzzCRAMServer(f *testing.F) {
	for _, s := range []string{"tim b913a602c7eda7a495b4e6e7334d3890", "tim", "", " ", "a b c", "tim \x00", "\n b913a602c7eda7a495b4e6e7334d3890"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, response string) {
		session := &fuzzed{}
		if reply, _ := serveFuzzed(t, session, "CRAM-MD5", response); strings.HasPrefix(reply, "235 ") {
			t.Fatalf("%q has got in", response)
		}
		if len(session.asked) > 0 && !strings.HasPrefix(response, session.asked[0]+" ") {
			t.Fatalf("%q: the session was asked about %q", response, session.asked)
		}
	})
}

var cramResponse = regexp.MustCompile("^tim [0-9a-f]{32}$")

func FuzzCRAMClient(f *testing.F) {
	for _, s := range []string{"<1896.697170952@postoffice.reston.mci.net>", "", "\x00", "<@>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, challenge []byte) {
		response, err := (&cramClient{user: "tim", password: "secret"}).Next(challenge)
		if (err == nil) != (len(challenge) > 0) || err == nil && !cramResponse.Match(response) {
			t.Fatalf("%q is answered with %q, %v", challenge, response, err)
		}
	})
}
