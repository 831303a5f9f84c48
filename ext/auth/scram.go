package auth

import (
	"crypto"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"smtpkit.example/smtp/ext/internal/grammar"
)

// SCRAM (RFC 5802, RFC 7677) is our own code. Its hard parts, PBKDF2 and HMAC, are in the standard library. The rest
// parses four short messages strictly. github.com/xdg-go/scram 1.4 is sound and binds channels too. But it would bring
// two modules into every program that sends mail, and it does not hide which users exist.

const (
	// minIterations is the minimum that servers should announce (RFC 5802 section 5.1, RFC 7677 section 4). With fewer, an
	// attacker who impersonates the server finds the password faster.
	minIterations = 4096
	// maxIterations bounds the time that a server can make a client spend, to about half a second.
	maxIterations = 1_000_000
	// defaultIterations is the default for new secrets. RFC 7677 section 4 recommends 15000 or more, a tenth of a second.
	defaultIterations = 15_000
	defaultSaltSize   = 16
	maxSaltSize       = 1024
)

// A SCRAMSecret is what a server stores in place of a password to authenticate a user by SCRAM (RFC 5802 section 3).
// Make it with [NewSCRAMSecret], and store the fields as they are.
//
// Keep secrets confidential. A thief cannot log in with one, but can impersonate the server, and try passwords offline.
type SCRAMSecret struct {
	Hash       crypto.Hash // crypto.SHA256 or crypto.SHA1
	Salt       []byte      // at most 1024 octets
	Iterations int         // from 4096 to 1000000
	StoredKey  []byte      // of the length of a hash
	ServerKey  []byte      // of the length of a hash
}

func (s *SCRAMSecret) isZero() bool {
	return s.Hash == 0 && s.Salt == nil && s.Iterations == 0 && s.StoredKey == nil && s.ServerKey == nil
}

// NewSCRAMSecret makes a secret from a password, with a random salt of 16 octets.
//
// Use crypto.SHA256. A second secret with crypto.SHA1 is only for clients that have nothing else. Iterations is the
// work to try one password, from 4096 to 1000000; 0 means 15000. It returns an error if an argument is invalid, or if
// SASLprep prohibits a character of the password (RFC 4013).
func NewSCRAMSecret(hash crypto.Hash, password string, iterations int) (SCRAMSecret, error) {
	salt := make([]byte, defaultSaltSize)
	rand.Read(salt)
	if iterations == 0 {
		iterations = defaultIterations
	}
	return newSCRAMSecret(hash, password, salt, iterations)
}

func newSCRAMSecret(hash crypto.Hash, password string, salt []byte, iterations int) (SCRAMSecret, error) {
	if scramHash(hash) == nil {
		return SCRAMSecret{}, errors.New("smtp: a SCRAMSecret is made with crypto.SHA256 or crypto.SHA1")
	}
	if iterations < minIterations || iterations > maxIterations {
		return SCRAMSecret{}, fmt.Errorf("smtp: a SCRAMSecret is made with %d to %d iterations", minIterations,
			maxIterations)
	}
	k, err := deriveKeys(hash, password, salt, iterations)
	if err != nil {
		return SCRAMSecret{}, err
	}
	return SCRAMSecret{Hash: hash, Salt: salt, Iterations: iterations, StoredKey: k.stored, ServerKey: k.server}, nil
}

// Matches reports whether s was made from password. Use it to implement [PasswordSession].
//
// Matches takes as long as making the secret did. For a user who does not exist, call Matches of some other secret and
// return [ErrCredentials], since otherwise the time tells that the user does not exist. See the example of
// NewSCRAMSecret.
func (s SCRAMSecret) Matches(password string) bool {
	if s.check(s.Hash) != nil {
		return false
	}
	k, err := deriveKeys(s.Hash, password, s.Salt, s.Iterations)
	return err == nil && subtle.ConstantTimeCompare(k.stored, s.StoredKey) == 1
}

// check returns an error if s is not a valid secret for the hash function.
func (s SCRAMSecret) check(hash crypto.Hash) error {
	switch {
	case s.Hash != hash || scramHash(hash) == nil || len(s.StoredKey) != hash.Size() || len(s.ServerKey) != hash.Size():
		return fmt.Errorf("smtp: the session has returned a SCRAMSecret that is not for %v", hash)
	case len(s.Salt) == 0 || len(s.Salt) > maxSaltSize:
		return fmt.Errorf("smtp: the session has returned a SCRAMSecret with a salt of %d octets", len(s.Salt))
	case s.Iterations < minIterations || s.Iterations > maxIterations:
		return fmt.Errorf("smtp: the session has returned a SCRAMSecret with %d iterations; there have to be %d to %d",
			s.Iterations, minIterations, maxIterations)
	}
	return nil
}

// scramName returns the name of the mechanism, with or without channel binding.
func scramName(hash crypto.Hash, plus bool) string {
	name := "SCRAM-" + hash.String()
	if plus {
		name += "-PLUS"
	}
	return name
}

func scramHash(h crypto.Hash) func() hash.Hash {
	switch h {
	case crypto.SHA256:
		return sha256.New
	case crypto.SHA1:
		return sha1.New
	}
	return nil
}

// scramKeys has the keys of RFC 5802 section 3.
type scramKeys struct{ client, stored, server []byte }

func deriveKeys(hash crypto.Hash, password string, salt []byte, iterations int) (scramKeys, error) {
	password, err := saslPrep(password)
	if err != nil {
		return scramKeys{}, err
	}
	salted, err := pbkdf2.Key(scramHash(hash), password, salt, iterations, hash.Size())
	if err != nil {
		return scramKeys{}, fmt.Errorf("smtp: %w", err)
	}
	client := sum(hash, salted, "Client Key")
	return scramKeys{client: client, stored: digest(hash, client), server: sum(hash, salted, "Server Key")}, nil
}

// sum returns the HMAC of text.
func sum(hash crypto.Hash, key []byte, text string) []byte {
	mac := hmac.New(scramHash(hash), key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// digest returns the hash of data.
func digest(hash crypto.Hash, data []byte) []byte {
	h := scramHash(hash)()
	h.Write(data)
	return h.Sum(nil)
}

// xor returns a XOR b. Both have the same length.
func xor(a, b []byte) []byte {
	c := make([]byte, len(a))
	subtle.XORBytes(c, a, b)
	return c
}

// errSCRAM means that a message does not follow the grammar of RFC 5802 section 7.
var errSCRAM = errors.New("smtp: malformed message of SCRAM")

// scramAttributes parses a SCRAM message from left to right.
type scramAttributes struct{ rest string }

// next returns the value of the next attribute, which must have that name. A mandatory extension, "m", is therefore an
// error: we know none.
func (a *scramAttributes) next(name string) (string, error) {
	text, rest, more := strings.Cut(a.rest, ",")
	value, ok := strings.CutPrefix(text, name+"=")
	if !ok || value == "" || more && rest == "" {
		return "", errSCRAM
	}
	a.rest = rest
	return value, nil
}

// end checks the grammar of the remaining attributes. They are extensions, and ignored.
func (a *scramAttributes) end() error {
	for a.rest != "" {
		text, rest, more := strings.Cut(a.rest, ",")
		if len(text) < 3 || !isLetter(text[0]) || text[0] == 'm' || text[1] != '=' || more && rest == "" {
			return errSCRAM
		}
		a.rest = rest
	}
	return nil
}

func isLetter(c byte) bool { return 'A' <= grammar.Upper(c) && grammar.Upper(c) <= 'Z' }

// isNonce reports whether s is printable ASCII without a comma.
func isNonce(s string) bool { return s != "" && grammar.Printable(s) && !strings.ContainsAny(s, " ,") }

// parseIterations parses a posit-number and checks its bounds.
func parseIterations(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || s[0] < '1' || s[0] > '9' {
		return 0, fmt.Errorf("the iteration count %q is none", s)
	}
	if n < minIterations || n > maxIterations {
		return 0, fmt.Errorf("the server asks for %d iterations; there have to be %d to %d", n, minIterations,
			maxIterations)
	}
	return n, nil
}

// quoteName returns s as a saslname (RFC 5802 section 7).
func quoteName(s string) string { return nameQuoter.Replace(s) }

var nameQuoter = strings.NewReplacer("=", "=3D", ",", "=2C")

// unquoteName is the inverse of quoteName. A comma, or an equals sign that does not begin "=2C" or "=3D", is an error.
func unquoteName(s string) (string, error) {
	if strings.Contains(s, ",") {
		return "", errSCRAM
	}
	var b strings.Builder
	for {
		text, rest, more := strings.Cut(s, "=")
		b.WriteString(text)
		switch {
		case !more:
			return b.String(), nil
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", errSCRAM
		}
		s = rest[2:]
	}
}
