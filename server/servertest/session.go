package servertest

import (
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"io"
	"sync"
	"time"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A keeper is the backend of a server whose Options have none: it accepts everything.
type keeper struct{ users *users }

func (k keeper) NewSession(context.Context, *server.Conn) (server.Session, error) {
	if k.users == nil {
		return sink{}, nil
	}
	return &userSink{users: k.users}, nil
}

// A sink is a session that accepts everything. What is kept of a message is the affair of the recorder around it.
type sink struct{}

func (sink) Mail(context.Context, proto.Address, proto.Params) error { return nil }
func (sink) Rcpt(context.Context, proto.Address, proto.Params) error { return nil }

func (sink) Data(_ context.Context, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// Users are the users of a server, with their passwords.
type users struct {
	passwords map[string]string

	mu      sync.Mutex
	secrets map[secretKey]auth.SCRAMSecret // made when they are asked for; as many as users, twice
}

type secretKey struct {
	user string
	hash crypto.Hash
}

// iterations is as little work as SCRAM permits.
const iterations = 4096

// A userSink is a sink whose users can authenticate with every mechanism of package auth.
type userSink struct {
	sink
	users *users
}

var (
	_ auth.PasswordSession      = (*userSink)(nil)
	_ auth.SCRAMSession         = (*userSink)(nil)
	_ auth.TokenSession         = (*userSink)(nil)
	_ auth.ClearPasswordSession = (*userSink)(nil)
	_ auth.AnonymousSession     = (*userSink)(nil)
	_ auth.CertificateSession   = (*userSink)(nil)
	_ auth.FilterSession        = (*userSink)(nil)
	_ auth.PauseSession         = (*userSink)(nil)
)

func (s *userSink) Authenticate(_ context.Context, user, password string) error {
	want, ok := s.users.passwords[user]
	if !ok || subtle.ConstantTimeCompare([]byte(want), []byte(password)) != 1 {
		return auth.ErrCredentials
	}
	return nil
}

func (s *userSink) SCRAMPolicy() auth.SCRAMPolicy {
	return auth.SCRAMPolicy{Hashes: []crypto.Hash{crypto.SHA256, crypto.SHA1}, Iterations: iterations}
}

func (s *userSink) SCRAMSecret(_ context.Context, user string, hash crypto.Hash) (auth.SCRAMSecret, error) {
	password, ok := s.users.passwords[user]
	if !ok {
		return auth.SCRAMSecret{}, auth.ErrCredentials
	}
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	key := secretKey{user, hash}
	if secret, ok := s.users.secrets[key]; ok {
		return secret, nil
	}
	secret, err := auth.NewSCRAMSecret(hash, password, iterations)
	if err == nil {
		s.users.secrets[key] = secret
	}
	return secret, err
}

// AuthenticateToken takes the password for the token.
func (s *userSink) AuthenticateToken(ctx context.Context, user, token string) (string, error) {
	return user, s.Authenticate(ctx, user, token)
}

func (s *userSink) ClearPassword(_ context.Context, user string) (string, error) {
	if password, ok := s.users.passwords[user]; ok {
		return password, nil
	}
	return "", auth.ErrCredentials
}

func (s *userSink) AuthenticateAnonymous(context.Context, string) (string, error) {
	return anonymous, nil
}

func (s *userSink) AuthenticateCertificate(_ context.Context, chain []*x509.Certificate) (string, error) {
	user := chain[0].Subject.CommonName
	if _, ok := s.users.passwords[user]; !ok {
		return "", auth.ErrCredentials
	}
	return user, nil
}

// anonymous is the user whose presence lets guests in.
const anonymous = "anonymous"

func (s *userSink) FilterMechanisms(names []string) []string {
	if _, ok := s.users.passwords[anonymous]; ok {
		return names
	}
	var kept []string
	for _, name := range names {
		if name != "ANONYMOUS" {
			kept = append(kept, name)
		}
	}
	return kept
}

// AuthPause is zero: a test does not guess passwords.
func (s *userSink) AuthPause(int) time.Duration { return 0 }

// A recorder is around each session, and keeps the content of messages.
type recorder struct{ server.Wrapper }

func record(next server.Backend) server.Backend {
	return server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
		l := lineOf(ctx)
		if l.isFirst() {
			if err := l.refusal(occasion{names: []string{Greeting}}); err != nil {
				return nil, err
			}
		}
		session, err := next.NewSession(ctx, c)
		if err != nil || session == nil {
			return nil, err
		}
		l.mu.Lock()
		l.session = fmt.Sprintf("%T", innermost(session))
		l.mu.Unlock()
		return recorder{server.Wrapper{Session: session}}, nil
	})
}

// innermost returns the session that is in all wrappers.
func innermost(session any) any {
	for range maxWrappers {
		u, ok := session.(interface{ Unwrap() any })
		if !ok {
			break
		}
		inner := u.Unwrap()
		if inner == nil {
			break
		}
		session = inner
	}
	return session
}

// sessionType returns the type of the session, without what this package puts around it.
func (l *line) sessionType() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

// maxWrappers is in how many wrappers a session may be.
const maxWrappers = 100

// FilterContent keeps what the session reads, unless a fault refuses the message.
func (recorder) FilterContent(ctx context.Context, r io.Reader) (io.Reader, error) {
	l := lineOf(ctx)
	l.mu.Lock()
	l.kept = nil
	envelope := l.envelope
	l.mu.Unlock()
	if err := l.refusal(occasion{names: []string{Content}, args: envelope}); err != nil {
		return nil, err
	}
	return io.TeeReader(r, keepWriter{l}), nil
}

// isFirst reports whether the connection has not been greeted yet.
func (l *line) isFirst() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.greeted
}

type keepWriter struct{ *line }

func (l keepWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	return len(p), nil
}
