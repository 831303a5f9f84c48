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

	"smtpkit.example/smtp/ext"

	"github.com/emersion/go-sasl"
)

// scramMechanism returns a row of builtin. Forms with PLUS are on offer where a channel can be bound to.
func scramMechanism(hash crypto.Hash, plus bool) mechanism {
	return mechanism{
		name: scramName(hash, plus),
		ready: func(x ext.ServerConn) bool {
			v, ok := ext.As[SCRAMSession](x.Session())
			return ok && slices.Contains(v.SCRAM().withDefaults().Hashes, hash) && (!plus || canBind(directTLS(x)))
		},
		start: func(l *login) sasl.Server {
			return &scramServer{login: l, hash: hash, plus: plus, nonce: rand.Text()}
		},
	}
}

// processKey is what the salts of unknown names are made from if the session has no key for it.
var processKey = sync.OnceValue(func() []byte { return []byte(rand.Text() + rand.Text()) })

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

// check finds a policy by which no secret can have been made. Nobody can authenticate then: if those could whose secrets were
// made otherwise, they would be told from names that do not exist.
func (p SCRAMPolicy) check() error {
	if p.Iterations < minIterations || p.Iterations > maxIterations || p.SaltSize < 1 || p.SaltSize > maxSaltSize {
		return fmt.Errorf("smtp: SCRAMPolicy has %d Iterations and a SaltSize of %d: there have to be %d to %d, and 1 to %d",
			p.Iterations, p.SaltSize, minIterations, maxIterations, maxSaltSize)
	}
	return nil
}

// decoy returns the secret of a name that does not exist: always the same one, so that it looks as if it did.
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

// scramServer is the server's side of SCRAM.
type scramServer struct {
	login *login
	hash  crypto.Hash
	plus  bool
	nonce string // first what we add to the client's, then both

	step     int
	first    scramFirst
	question string      // server-first-message
	secret   SCRAMSecret // or a decoy, whose keys nobody knows a password for
}

func (s *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case s.step == 0 && response == nil:
		return []byte{}, false, nil // the client begins
	case s.step == 0:
		s.step = 1
		challenge, err = s.ask(string(response))
		return challenge, false, err
	case s.step == 1:
		s.step = 2
		challenge, err = s.answer(string(response))
		return challenge, true, err
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}

// scramFirst is a client-first-message, taken apart.
type scramFirst struct {
	header, bare         string // the message is one behind the other
	flag                 string // gs2-cbind-flag
	authzid, user, nonce string
}

func parseClientFirst(message string) (scramFirst, error) {
	flag, rest, ok1 := strings.Cut(message, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	f := scramFirst{header: message[:len(message)-len(bare)], bare: bare, flag: flag}
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

// ask answers the client-first-message.
func (s *scramServer) ask(message string) ([]byte, error) {
	f, err := parseClientFirst(message)
	if err != nil {
		return nil, err
	}
	kind, bound := strings.CutPrefix(f.flag, "p=")
	switch {
	case bound != s.plus || !bound && f.flag != "n" && f.flag != "y":
		return nil, errSCRAM
	case bound && len(s.bindings(kind)) == 0:
		return nil, fmt.Errorf("smtp: the client wants a channel binding %q, which there is not on the connection", kind)
	case f.flag == "y" && s.offersPlus():
		return nil, errors.New("smtp: the client believes that there is no channel binding: somebody in between has " +
			"changed the list of mechanisms")
	}
	s.first = f
	if err := s.look(); err != nil {
		return nil, err
	}
	s.nonce = f.nonce + s.nonce
	s.question = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.secret.Salt),
		s.secret.Iterations)
	return []byte(s.question), nil
}

// offersPlus reports whether the client has been offered a form with PLUS. A list that the session itself has
// shortened is none that somebody has tampered with.
func (s *scramServer) offersPlus() bool {
	return slices.ContainsFunc(mechanisms(s.login.x), func(name string) bool {
		return strings.HasPrefix(name, "SCRAM-") && strings.HasSuffix(name, "-PLUS")
	})
}

func (s *scramServer) bindings(kind string) [][]byte {
	return serverBindings(s.login.x, kind)
}

// look finds the secret of the user, or makes one up.
func (s *scramServer) look() error {
	v, ok := ext.As[SCRAMSession](s.login.x.Session())
	user, err := saslPrep(s.first.user)
	if !ok || err != nil || !s.login.mayAsk(user, s.first.authzid) {
		return ErrCredentials
	}
	if err := v.SCRAM().withDefaults().check(); err != nil {
		return failedCheck(s.login.ctx, err)
	}
	s.first.user = user
	s.secret, err = v.SCRAMSecret(s.login.ctx, user, s.hash)
	if err == nil && s.secret.isZero() {
		err = ErrCredentials // there is none with that hash function
	}
	if errors.Is(err, ErrCredentials) {
		s.secret, err = v.SCRAM().decoy(user, s.hash)
	}
	if err == nil {
		err = s.secret.check(s.hash)
	}
	return s.login.verdict(err)
}

// answer answers the client-final-message.
func (s *scramServer) answer(message string) ([]byte, error) {
	// The proof is the last attribute. What stands before it is what it proves.
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
	signed := s.first.bare + "," + s.question + "," + final
	client := xor(proof, sum(s.hash, s.secret.StoredKey, signed))
	if !hmac.Equal(digest(s.hash, client), s.secret.StoredKey) {
		return nil, ErrCredentials
	}
	if err := s.login.as(s.first.user, s.first.authzid); err != nil {
		return nil, err
	}
	signature := sum(s.hash, s.secret.ServerKey, signed)
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature)), nil
}

// isBound reports whether input is the header of the first message with the channel binding that it promised.
func (s *scramServer) isBound(input []byte) bool {
	data, ok := bytes.CutPrefix(input, []byte(s.first.header))
	if !ok {
		return false
	}
	kind, bound := strings.CutPrefix(s.first.flag, "p=")
	if !bound {
		return len(data) == 0
	}
	return slices.ContainsFunc(s.bindings(kind), func(b []byte) bool { return hmac.Equal(b, data) })
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
