package auth

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
)

// A scramClient is the client's side of SCRAM.
type scramClient struct {
	hash           crypto.Hash
	plus           bool
	identity       string // the authorization identity, or ""
	user, password string
	flag           string // gs2-cbind-flag
	binding        []byte // the data of the channel binding, if plus
	nonce          string // the client's part

	bare      string // client-first-message-bare
	signature []byte // the signature that the server has to send; nil until the server-first-message
	done      bool   // the server has sent it
}

// scramClients returns the SCRAM mechanisms that can be used on the connection, strongest first.
//
// A mechanism without PLUS tells the server with its flag why it does not bind to the channel. "y" means that the
// client could, and believes that the server cannot. The server refuses that if it did advertise PLUS, and so detects
// an attacker who removed PLUS from the list or answered it with 504 (RFC 5802 section 6). "n" means that the client
// cannot bind, or that the caller's list forbids it.
func scramClients(conn ext.ClientConn, identity, user, password string, mechanisms []string) []sasl.Client {
	kind, data := clientBinding(conn.TLS())
	flag := "n"
	var list []sasl.Client
	for _, plus := range []bool{true, false} {
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
			if plus && kind == "" || !isAllowed(mechanisms, scramName(hash, plus)) {
				continue
			}
			c := &scramClient{
				hash: hash, plus: plus, identity: identity, user: user, password: password, flag: flag, nonce: rand.Text(),
			}
			if plus {
				flag = "y"
				c.flag, c.binding = "p="+kind, data
			}
			list = append(list, c)
		}
	}
	return list
}

func (c *scramClient) Start() (string, []byte, error) {
	name := scramName(c.hash, c.plus)
	user, err1 := saslPrep(c.user)
	_, err2 := saslPrep(c.password)
	var err3 error
	if c.identity != "" {
		_, err3 = saslPrep(c.identity)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return name, nil, err
	}
	c.bare = "n=" + quoteName(user) + ",r=" + c.nonce
	return name, []byte(c.header() + c.bare), nil
}

// header returns the gs2-header (RFC 5802 section 7).
func (c *scramClient) header() string {
	if c.identity == "" {
		return c.flag + ",,"
	}
	identity, _ := saslPrep(c.identity) // Start has checked it
	return c.flag + ",a=" + quoteName(identity) + ","
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	if reason, ok := bytes.CutPrefix(challenge, []byte("e=")); ok && !c.done {
		return nil, fmt.Errorf("the server reports the error %q", reason)
	}
	switch {
	case c.done:
		return nil, sasl.ErrUnexpectedServerChallenge
	case c.signature == nil:
		return c.prove(string(challenge))
	}
	return []byte{}, c.verify(string(challenge))
}

// prove answers the server-first-message with the client's proof.
func (c *scramClient) prove(first string) ([]byte, error) {
	nonce, salt, iterations, err := parseServerFirst(first)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce) {
		return nil, errors.New("the server has not added to our nonce; somebody may be replaying an old exchange")
	}
	k, err := deriveKeys(c.hash, c.password, salt, iterations)
	if err != nil {
		return nil, err
	}
	input := slices.Concat([]byte(c.header()), c.binding)
	final := "c=" + base64.StdEncoding.EncodeToString(input) + ",r=" + nonce
	message := c.bare + "," + first + "," + final
	proof := xor(k.client, sum(c.hash, k.stored, message))
	c.signature = sum(c.hash, k.server, message)
	return []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

func parseServerFirst(message string) (nonce string, salt []byte, iterations int, err error) {
	a := &scramAttributes{message}
	nonce, err1 := a.next("r")
	text, err2 := a.next("s")
	count, err3 := a.next("i")
	if err := errors.Join(err1, err2, err3, a.end()); err != nil || !isNonce(nonce) {
		return "", nil, 0, errSCRAM
	}
	if salt, err = decode64(text); err != nil || len(salt) > maxSaltSize {
		return "", nil, 0, errSCRAM
	}
	iterations, err = parseIterations(count)
	return nonce, salt, iterations, err
}

// verify checks the server's signature in the server-final-message.
func (c *scramClient) verify(final string) error {
	a := &scramAttributes{final}
	text, err := a.next("v")
	if err := errors.Join(err, a.end()); err != nil {
		return errSCRAM
	}
	signature, err := decode64(text)
	if err != nil || !hmac.Equal(signature, c.signature) {
		return errors.New("the server does not know the password: it is not the one it says it is")
	}
	c.done = true
	return nil
}

// Done reports whether the server has proved that it knows the user.
func (c *scramClient) Done() bool { return c.done }

func (c *scramClient) Identity() string { return cmp.Or(c.identity, c.user) }
