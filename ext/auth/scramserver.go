package auth

import (
	"bytes"
	"crypto"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
)

// scramMechanism returns a row of builtin. PLUS needs a connection with a channel binding.
func scramMechanism(hash crypto.Hash, plus bool) mechanism {
	return mechanism{
		name: scramName(hash, plus),
		isReady: func(conn ext.ServerConn) bool {
			s, ok := ext.As[SCRAMSession](conn.Session())
			return ok && slices.Contains(s.SCRAMPolicy().withDefaults().Hashes, hash) && (!plus || canBind(directTLS(conn)))
		},
		start: func(a *attempt) sasl.Server {
			return &scramServer{attempt: a, hash: hash, plus: plus, nonce: rand.Text()}
		},
	}
}

// processKey is the default of SCRAMPolicy.Key.
var processKey = sync.OnceValue(func() []byte { return []byte(rand.Text() + rand.Text()) })

// withDefaults returns p with the defaults in place of zero values.
func (p SCRAMPolicy) withDefaults() SCRAMPolicy {
	if p.Hashes == nil {
		p.Hashes = []crypto.Hash{crypto.SHA256}
	}
	if p.Iterations == 0 {
		p.Iterations = defaultIterations
	}
	if p.SaltSize == 0 {
		p.SaltSize = defaultSaltSize
	}
	if len(p.Key) == 0 {
		p.Key = processKey()
	}
	return p
}

// check returns an error if no secret can have been made by the policy. Then nobody can authenticate. Otherwise real
// users, whose secrets were made in another way, could be told from users who do not exist.
func (p SCRAMPolicy) check() error {
	if p.Iterations < minIterations || p.Iterations > maxIterations || p.SaltSize < 1 || p.SaltSize > maxSaltSize {
		return fmt.Errorf("smtp: SCRAMPolicy has %d Iterations and a SaltSize of %d: there have to be %d to %d, and 1 to %d",
			p.Iterations, p.SaltSize, minIterations, maxIterations, maxSaltSize)
	}
	return nil
}

// decoy returns the made-up secret of a user who does not exist. It is always the same for a name, as a real one is.
func (p SCRAMPolicy) decoy(user string, hash crypto.Hash) (SCRAMSecret, error) {
	p = p.withDefaults()
	keys, err := hkdf.Key(sha256.New, p.Key, nil, scramName(hash, false)+" "+user, p.SaltSize+2*hash.Size())
	if err != nil {
		return SCRAMSecret{}, fmt.Errorf("smtp: SCRAMPolicy.SaltSize is %d: %w", p.SaltSize, err)
	}
	return SCRAMSecret{
		Hash: hash, Iterations: p.Iterations, Salt: keys[:p.SaltSize],
		StoredKey: keys[p.SaltSize:][:hash.Size()], ServerKey: keys[p.SaltSize+hash.Size():],
	}, nil
}

// A scramServer is the server's side of SCRAM.
type scramServer struct {
	attempt *attempt
	hash    crypto.Hash
	plus    bool
	nonce   string // the server's part; after the client-first-message, the client's part and the server's

	step        int
	clientFirst clientFirst
	serverFirst string      // server-first-message
	secret      SCRAMSecret // or a decoy, which no password matches
}

func (s *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case s.step == 0 && response == nil:
		return []byte{}, false, nil // the client begins
	case s.step == 0:
		s.step = 1
		challenge, err = s.answerFirst(string(response))
		return challenge, false, err
	case s.step == 1:
		s.step = 2
		challenge, err = s.answerFinal(string(response))
		return challenge, true, err
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}

// A clientFirst is a parsed client-first-message.
type clientFirst struct {
	header, bare         string // gs2-header and client-first-message-bare; the message is both in this order
	flag                 string // gs2-cbind-flag
	authzid, user, nonce string
}

func parseClientFirst(message string) (clientFirst, error) {
	flag, rest, ok1 := strings.Cut(message, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	f := clientFirst{header: message[:len(message)-len(bare)], bare: bare, flag: flag}
	if !ok1 || !ok2 {
		return f, errSCRAM
	}
	var err1, err2 error
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if !ok || name == "" {
			return f, errSCRAM
		}
		f.authzid, err1 = unquoteName(name)
	}
	a := &scramAttributes{bare}
	name, err3 := a.next("n")
	f.user, err2 = unquoteName(name)
	var err4 error
	f.nonce, err4 = a.next("r")
	if err := errors.Join(err1, err2, err3, err4, a.end()); err != nil || !isNonce(f.nonce) {
		return f, errSCRAM
	}
	return f, nil
}

// answerFirst answers the client-first-message.
func (s *scramServer) answerFirst(message string) ([]byte, error) {
	f, err := parseClientFirst(message)
	if err != nil {
		return nil, err
	}
	s.attempt.claimed = claim{f.user, f.authzid}
	kind, bound := strings.CutPrefix(f.flag, "p=")
	switch {
	case bound != s.plus || !bound && f.flag != "n" && f.flag != "y":
		return nil, errSCRAM
	case bound && len(s.bindings(kind)) == 0:
		return nil, fmt.Errorf("smtp: the client wants a channel binding %.40q, which there is not on the connection", kind)
	case f.flag == "y" && s.offersPlus():
		return nil, errors.New("smtp: the client believes that there is no channel binding: somebody in between has " +
			"changed the list of mechanisms")
	}
	s.clientFirst = f
	if err := s.lookUp(); err != nil {
		return nil, err
	}
	s.nonce = f.nonce + s.nonce
	s.serverFirst = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.secret.Salt),
		s.secret.Iterations)
	return []byte(s.serverFirst), nil
}

// offersPlus reports whether the server advertised a mechanism with PLUS. If the session's filter removed them all, the
// client is right to believe that there is none.
func (s *scramServer) offersPlus() bool {
	return slices.ContainsFunc(mechanisms(s.attempt.conn), func(name string) bool {
		return strings.HasPrefix(name, "SCRAM-") && strings.HasSuffix(name, "-PLUS")
	})
}

func (s *scramServer) bindings(kind string) [][]byte { return serverBindings(s.attempt.conn, kind) }

// lookUp finds the secret of the user, or makes one up.
func (s *scramServer) lookUp() error {
	session, ok := ext.As[SCRAMSession](s.attempt.conn.Session())
	user, err := saslPrep(s.clientFirst.user)
	if !ok || err != nil || !s.attempt.mayActAs(user, s.clientFirst.authzid) {
		return ErrCredentials
	}
	if err := session.SCRAMPolicy().withDefaults().check(); err != nil {
		return checkFailed(s.attempt.ctx, err)
	}
	s.clientFirst.user, s.attempt.claimed.user = user, user
	s.secret, err = session.SCRAMSecret(s.attempt.ctx, user, s.hash)
	if err == nil && s.secret.isZero() {
		err = ErrCredentials // the user has none for that hash function
	}
	if errors.Is(err, ErrCredentials) {
		s.secret, err = session.SCRAMPolicy().decoy(user, s.hash)
	}
	if err == nil {
		err = s.secret.check(s.hash)
	}
	return s.attempt.sessionError(err)
}

// answerFinal answers the client-final-message.
func (s *scramServer) answerFinal(message string) ([]byte, error) {
	// The proof is the last attribute, and proves what stands before it.
	final, text, ok := cutLast(message, ",p=")
	a := &scramAttributes{final}
	encoded, err1 := a.next("c")
	nonce, err2 := a.next("r")
	if err := errors.Join(err1, err2, a.end()); err != nil || !ok {
		return nil, errSCRAM
	}
	binding, err1 := decode64(encoded)
	proof, err2 := decode64(text)
	if err := errors.Join(err1, err2); err != nil || len(proof) != s.hash.Size() {
		return nil, errSCRAM
	}
	if nonce != s.nonce || !s.isBound(binding) {
		return nil, errors.New("smtp: the nonce or the channel binding is another: somebody may be in between")
	}
	signed := s.clientFirst.bare + "," + s.serverFirst + "," + final
	client := xor(proof, sum(s.hash, s.secret.StoredKey, signed))
	if !hmac.Equal(digest(s.hash, client), s.secret.StoredKey) {
		return nil, ErrCredentials
	}
	if err := s.attempt.authorize(s.clientFirst.user, s.clientFirst.authzid); err != nil {
		return nil, err
	}
	signature := sum(s.hash, s.secret.ServerKey, signed)
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature)), nil
}

// isBound reports whether input is the gs2-header of the first message, followed by the data of the channel binding
// that the header announced.
func (s *scramServer) isBound(input []byte) bool {
	data, ok := bytes.CutPrefix(input, []byte(s.clientFirst.header))
	if !ok {
		return false
	}
	kind, bound := strings.CutPrefix(s.clientFirst.flag, "p=")
	if !bound {
		return len(data) == 0
	}
	return slices.ContainsFunc(s.bindings(kind), func(b []byte) bool { return hmac.Equal(b, data) })
}

// cutLast slices s around the last sep, as strings.Cut does around the first.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
