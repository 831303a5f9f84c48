package dkim

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

// rsaKey is made once, since that takes a while.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// bothKeys are an RSA key and an Ed25519 key of a domain.
func bothKeys(t testing.TB, domain string) []Key {
	return []Key{
		{Domain: domain, Selector: "r", Signer: rsaKey()},
		{Domain: domain, Selector: "e", Signer: edKey(t)},
	}
}

func newSigner(t testing.TB, opt *Options) *Signer {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func message(t testing.TB, body io.Reader) *client.Message {
	t.Helper()
	m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, body)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// content reads the Body of a message, as it is transmitted.
func sent(t testing.TB, m *client.Message) string {
	t.Helper()
	r, _, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return crlf(string(p))
}

// A lab is a server that keeps what it gets.
type lab struct {
	opt     *client.Options
	mu      sync.Mutex
	got     []string
	serving sync.WaitGroup
}

// newLab returns a server with the default extensions except for some.
func newLab(t *testing.T, without ...string) *lab {
	l := &lab{}
	extensions := slices.DeleteFunc(ehlo.Default(), func(e ext.Extension) bool {
		return slices.Contains(without, e.Keyword)
	})
	srv, err := server.New(server.MessageFunc(func(_ context.Context, m *server.Message) error {
		p, err := io.ReadAll(m.Body)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil {
			l.got = append(l.got, string(p))
		}
		return err
	}), &server.Options{Hostname: "mail.example", Extensions: extensions})
	if err != nil {
		t.Fatal(err)
	}
	l.opt = &client.Options{Hostname: "client.example", TLS: ext.TLSInsecureNone,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			l.serving.Go(func() { srv.ServeConn(context.Background(), here) })
			return there, nil
		}}
	t.Cleanup(l.serving.Wait)
	return l
}

func (l *lab) sender() client.Sender { return client.DialSender("mail.example:25", l.opt) }

// take returns what the server got since the last call.
func (l *lab) take() []string {
	l.serving.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.got = nil
	return got
}

// isMessageError reports whether err is a MessageError that says text.
func isMessageError(err error, text string) bool {
	var m *client.MessageError
	return errors.As(err, &m) && strings.Contains(err.Error(), text) && !client.Temporary(err) && client.SafeToRetry(err)
}
