package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
)

// A cramClient is the client's side of CRAM-MD5 (RFC 2195).
type cramClient struct {
	user, password string
	done           bool
}

func (c *cramClient) Start() (string, []byte, error) { return cramMD5, nil, nil }

func (c *cramClient) Next(challenge []byte) ([]byte, error) {
	switch {
	case c.done:
		return nil, sasl.ErrUnexpectedServerChallenge
	case len(challenge) == 0:
		// A malicious server could replay the response at any other server with an empty challenge.
		return nil, errors.New("the server's challenge is empty")
	}
	c.done = true
	return append([]byte(c.user+" "), cramDigest(c.password, challenge)...), nil
}

func (c *cramClient) Identity() string { return c.user }

// A cramServer is the server's side of CRAM-MD5. Its challenge is valid for one exchange.
type cramServer struct {
	attempt   *attempt
	challenge []byte // nil until it has been sent
	random    func() string
	done      bool
}

func newCRAMServer(a *attempt) sasl.Server { return &cramServer{attempt: a, random: rand.Text} }

func (c *cramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case c.challenge == nil && response != nil || c.done:
		return nil, false, sasl.ErrUnexpectedClientResponse
	case c.challenge == nil:
		c.challenge = fmt.Appendf(nil, "<%s.%d@%s>", c.random(), time.Now().Unix(), c.attempt.conn.Hostname())
		return c.challenge, false, nil
	}
	c.done = true
	return nil, true, c.check(response)
}

// check computes the digest for an unknown user too, so that both take the same time.
func (c *cramServer) check(response []byte) error {
	s, ok := ext.As[ClearPasswordSession](c.attempt.conn.Session())
	i := bytes.LastIndexByte(response, ' ') // a name may contain spaces
	if i >= 0 {
		c.attempt.claimed.user = string(response[:i])
	}
	if !ok || i < 0 || !isCredential(string(response[:i])) {
		return ErrCredentials
	}
	user, digest := string(response[:i]), response[i+1:]
	password, err := s.ClearPassword(c.attempt.ctx, user)
	if err != nil && !errors.Is(err, ErrCredentials) {
		return c.attempt.sessionError(err)
	}
	good := hmac.Equal(digest, cramDigest(password, c.challenge))
	if err != nil || !good || password == "" {
		return ErrCredentials
	}
	return c.attempt.authorize(user, "")
}

// cramDigest returns the digest in lower-case hexadecimal (RFC 2195 section 2).
func cramDigest(password string, challenge []byte) []byte {
	mac := hmac.New(md5.New, []byte(password))
	mac.Write(challenge)
	return hex.AppendEncode(nil, mac.Sum(nil))
}
