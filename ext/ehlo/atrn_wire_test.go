package ehlo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A relay keeps mail for its customers. Its sessions are those of the port for on-demand relay.
type relay struct {
	owners map[string]string // from domains to users

	mu       sync.Mutex
	queue    map[string][]string // from domains to messages
	reversed int
}

func (r *relay) NewSession(_ context.Context, c *server.Conn) (server.Session, error) {
	return &relaySession{relay: r, conn: c}, nil
}

type relaySession struct {
	*relay
	conn *server.Conn
}

var errNoService = proto.Refuse(502, proto.Status{}, "Mail is fetched here, not sent")

func (s *relaySession) Mail(context.Context, proto.Address, proto.Params) error { return errNoService }
func (s *relaySession) Rcpt(context.Context, proto.Address, proto.Params) error { return errNoService }
func (s *relaySession) Data(context.Context, io.Reader) error                   { return errNoService }

func (s *relaySession) Authenticate(_ context.Context, user, password string) error {
	if password != "secret of "+user {
		return auth.ErrCredentials
	}
	return nil
}

func (s *relaySession) Reverse(_ context.Context, domains []proto.Domain) (func(context.Context, net.Conn) error, error) {
	var names []string
	for _, d := range domains {
		if s.owners[d.Name()] != s.conn.Identity() {
			return nil, ehlo.ErrNotYours
		}
		names = append(names, d.Name())
	}
	for name, owner := range s.owners {
		if len(domains) == 0 && owner == s.conn.Identity() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	s.mu.Lock()
	defer s.mu.Unlock()
	held := 0
	for _, name := range names {
		held += len(s.queue[name])
	}
	if held == 0 {
		return nil, ehlo.ErrNoMail
	}
	return func(ctx context.Context, conn net.Conn) error { return s.deliver(ctx, conn, names) }, nil
}

// deliver sends the queued messages of the domains. A message that the customer accepts leaves the queue.
func (s *relaySession) deliver(ctx context.Context, conn net.Conn, names []string) error {
	c, err := client.NewClient(ctx, conn, "", &client.Options{TLS: ext.TLSInsecureNone, Hostname: "relay.example"})
	if err != nil {
		return err
	}
	defer c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reversed++
	for _, name := range names {
		for len(s.queue[name]) > 0 {
			m, err := client.NewMessage("somebody@elsewhere.example", []string{"postmaster@" + name}, strings.NewReader(s.queue[name][0]))
			if err != nil {
				return err
			}
			if _, err := c.Send(ctx, m); err != nil {
				return err
			}
			s.queue[name] = s.queue[name][1:]
		}
	}
	return nil
}

// mailbox collects what the server of the customer receives.
type mailbox struct {
	mu   sync.Mutex
	got  []string // "recipient: content"
	tls  bool
	from string // the name by which the client introduced itself
}

func (b *mailbox) take(_ context.Context, m *server.Message) error {
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tls, b.from = m.Conn.TLS() != nil, m.Conn.Hello()
	b.got = append(b.got, fmt.Sprintf("%v: %s", m.To[0].Address, body))
	return nil
}

// TestODMR has a host without a fixed address fetch its mail over one connection, with our client and our server (RFC
// 2645).
func TestODMR(t *testing.T) {
	for _, tt := range []struct {
		name    string
		secure  bool
		domains []string
		user    string
		want    []string // in the mailbox afterwards
		err     error
		left    int // in the relay's queue
	}{
		{"in clear", false, nil, "carol", []string{
			"postmaster@example.com: Subject: 1\r\n\r\nfor example.com\r\n",
			"postmaster@example.org: Subject: 2\r\n\r\n.for example.org\r\n",
			"postmaster@example.org: Subject: 3\r\n\r\nfor example.org again\r\n",
		}, nil, 1},
		{"with TLS", true, []string{"example.org"}, "carol", []string{
			"postmaster@example.org: Subject: 2\r\n\r\n.for example.org\r\n",
			"postmaster@example.org: Subject: 3\r\n\r\nfor example.org again\r\n",
		}, nil, 2},
		{"one domain of somebody else's", true, []string{"example.org", "example.net"}, "carol", nil, ehlo.ErrNotYours, 4},
		{"no mail", true, []string{"empty.example"}, "carol", nil, ehlo.ErrNoMail, 4},
	} {
		t.Run("a21 ATRN "+tt.name, func(t *testing.T) {
			r := &relay{
				owners: map[string]string{"example.org": "carol", "example.com": "carol", "empty.example": "carol", "example.net": "dave"},
				queue: map[string][]string{
					"example.com": {"Subject: 1\r\n\r\nfor example.com\r\n"},
					"example.org": {"Subject: 2\r\n\r\n.for example.org\r\n", "Subject: 3\r\n\r\nfor example.org again\r\n"},
					"example.net": {"Subject: 4\r\n\r\nfor example.net\r\n"},
				},
			}
			theirs, ours := ownTLS(t)
			extensions := append(ehlo.Default(), ehlo.ATRN())
			opt := server.Options{Extensions: extensions, RequireAuth: true, AllowInsecureAuth: !tt.secure}
			mode := ext.TLSInsecureNone
			if tt.secure {
				opt.TLSConfig, mode = theirs, ext.TLSRequired
			}
			addr := listening(t, r, opt)

			box := &mailbox{}
			mine, err := server.New(server.MessageFunc(box.take), &server.Options{Hostname: "customer.example", TLSConfig: theirs})
			if err != nil {
				t.Fatal(err)
			}
			c, err := client.Dial(t.Context(), addr, &client.Options{
				Extensions: extensions, TLS: mode, TLSConfig: ours, AllowPlaintextAuth: !tt.secure,
				Credentials: auth.Password(tt.user, "secret of "+tt.user, "PLAIN"),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			domains := make([]proto.Domain, len(tt.domains))
			for i, name := range tt.domains {
				if domains[i], err = proto.ParseDomain(name); err != nil {
					t.Fatal(err)
				}
			}
			err = ehlo.SendATRN(t.Context(), c, domains, mine.ServeConn)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Fatalf("ATRN: %v, want %v", err, tt.err)
			}
			if !slices.Equal(box.got, tt.want) {
				t.Errorf("the mailbox has\n%q, want\n%q", box.got, tt.want)
			}
			if len(tt.want) > 0 && (box.tls != tt.secure || box.from != "relay.example") {
				t.Errorf("it came with TLS %t from %q", box.tls, box.from)
			}
			if err := c.Noop(t.Context()); errors.Is(err, client.ErrClosed) != (tt.err == nil) {
				t.Errorf("NOOP afterwards: %v", err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			left := 0
			for _, list := range r.queue {
				left += len(list)
			}
			if left != tt.left || (r.reversed == 1) != (tt.err == nil) {
				t.Errorf("the relay has %d messages left, want %d, and %d connections were reversed", left, tt.left, r.reversed)
			}
		})
	}
}

// TestW13_WithoutAuth checks that a client that has not authenticated gets 530.
func TestW13_WithoutAuth(t *testing.T) {
	extensions := append(ehlo.Default(), ehlo.ATRN())
	addr := listening(t, &relay{}, server.Options{Extensions: extensions})
	c, err := client.Dial(t.Context(), addr, &client.Options{Extensions: extensions, TLS: ext.TLSInsecureNone})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = ehlo.SendATRN(t.Context(), c, nil, func(context.Context, net.Conn) error {
		t.Error("the roles were reversed")
		return nil
	})
	if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != 530 {
		t.Errorf("ATRN without AUTH: %v, want 530", err)
	}
}
