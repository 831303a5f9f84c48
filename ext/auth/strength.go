package auth

import (
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// byStrength has the mechanisms in groups, the weakest first. Mechanisms of one group give away the same.
var byStrength = [][]string{
	{sasl.Anonymous},
	{sasl.Plain, sasl.Login},           // the password itself
	{"NTLM"},                           // an answer that can be passed on to another server
	{cramMD5, "DIGEST-MD5"},            // an answer from which a weak password can be guessed
	{xoauth2, sasl.OAuthBearer},        // a token, which is for one purpose and expires
	{"SCRAM-SHA-1"},                    // an answer that takes long to guess from, and the server proves itself
	{"SCRAM-SHA-256", "SCRAM-SHA-512"}, // likewise
	{"SCRAM-SHA-1-PLUS"},               // bound to the TLS connection too
	{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"},
	{sasl.External, "GSSAPI", "GS2-KRB5", "GS2-KRB5-PLUS"}, // nothing
}

// strength returns the place of the mechanism in byStrength, or -1 if it is in none.
func strength(name string) int {
	return slices.IndexFunc(byStrength, func(group []string) bool { return slices.Contains(group, strings.ToUpper(name)) })
}

// A refusedMechanisms says what the refusals on a connection permit the client to try next.
type refusedMechanisms struct {
	weak []string // those that are too weak for the server
}

// mayFollow reports whether the mechanism may be tried: whether it is stronger than all that were too weak. Of a
// mechanism that is in none of the groups that is not known.
func (r *refusedMechanisms) mayFollow(name string) bool {
	for _, weak := range r.weak {
		if s := strength(weak); s < 0 || strength(name) <= s {
			return false
		}
	}
	return true
}

// note records that an attempt with the mechanism failed with err. It reports whether another mechanism may be tried
// (RFC 4954 section 6). If the server does not know the mechanism, it has not looked at the credentials, and any other
// one may be. If the mechanism is too weak for the server, a stronger one may be. Every other refusal is about the
// credentials: to try them again would be a second failure for one attempt, of the few that a server permits.
func (r *refusedMechanisms) note(name string, err error, responded bool) bool {
	e, ok := grammar.AsType[*proto.Error](err)
	switch {
	case !ok:
		return false
	case e.Code == 534 || e.Code == 504 && e.Status == tooWeak:
		r.weak = append(r.weak, name)
		return true
	}
	return e.Code == 504 && !responded
}

// tooWeak is the status of the reply 534 (RFC 4954 section 6).
var tooWeak = proto.Status{5, 7, 9}
