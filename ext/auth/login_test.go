package auth

import (
	"strings"
	"testing"
)

func FuzzLoginServer(f *testing.F) {
	f.Add("alice", "secret")
	f.Add("", "")
	f.Add("ali\x00ce", "sec\nret")
	f.Fuzz(func(t *testing.T, user, password string) {
		session := &fuzzed{}
		reply, x := serveFuzzed(t, session, "LOGIN", user, password)
		if strings.HasPrefix(reply, "235 ") != (isCredential(user) && isCredential(password)) || x.Conn.Identity != "" && x.Conn.Identity != user {
			t.Fatalf("%q, %q: %q as %q", user, password, reply, x.Conn.Identity)
		}
	})
}
