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

	"smtpkit.example/smtp/ext"

	"github.com/emersion/go-sasl"
)

// cramClient is the mechanism CRAM-MD5 (RFC 2195).
type cramClient struct {
	user, password string
	asked          bool
}

func (c *cramClient) Start() (string, []byte, error) { return cramMD5, nil, nil }

func (c *cramClient) Next(challenge []byte) ([]byte, error) {
	switch {
	case c.asked:
		return nil, sasl.ErrUnexpectedServerChallenge
	case len(challenge) == 0:
		// The response to it would be worth as much on any other server that asks nothing.
		return nil, errors.New("the server's challenge is empty")
	}
	c.asked = true
	return append([]byte(c.user+" "), cramDigest(c.password, challenge)...), nil
}

func (c *cramClient) Identity() string { return c.user }

// cramServer is the mechanism CRAM-MD5. Its challenge is good for one exchange.
type cramServer struct {
	login     *login
	challenge []byte // nil as long as it has not been sent
	random    func() string
	asked     bool
}

func newCRAMServer(l *login) sasl.Server { return &cramServer{login: l, random: rand.Text} }

func (c *cramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case c.challenge == nil && response != nil || c.asked:
		return nil, false, sasl.ErrUnexpectedClientResponse
	case c.challenge == nil:
		c.challenge = fmt.Appendf(nil, "<%s.%d@%s>", c.random(), time.Now().Unix(), c.login.x.Hostname())
		return c.challenge, false, nil
	}
	c.asked = true
	return nil, true, c.check(response)
}

// check works out the digest for unknown names too, so that they take as long.
func (c *cramServer) check(response []byte) error {
	p, ok := ext.As[ClearPasswordSession](c.login.x.Session())
	i := bytes.LastIndexByte(response, ' ') // names may have spaces in them
	if !ok || i < 0 || !isSecret(string(response[:i])) {
		return ErrCredentials
	}
	user, digest := string(response[:i]), response[i+1:]
	password, err := p.ClearPassword(c.login.ctx, user)
	if err != nil && !errors.Is(err, ErrCredentials) {
		return c.login.verdict(err)
	}
	good := hmac.Equal(digest, cramDigest(password, c.challenge))
	if err != nil || !good || password == "" {
		return ErrCredentials
	}
	return c.login.as(user, "")
}

// cramDigest is in lower case (RFC 2195 section 2).
func cramDigest(password string, challenge []byte) []byte {
	mac := hmac.New(md5.New, []byte(password))
	mac.Write(challenge)
	return hex.AppendEncode(nil, mac.Sum(nil))
}
