package dane

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/dns"
)

// serve returns a configuration for a server that sends those certificates.
func serve(names ...string) *tls.Config {
	cert := tls.Certificate{PrivateKey: certs()[names[0]].key}
	for _, name := range names {
		cert.Certificate = append(cert.Certificate, certs()[name].Raw)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// shake does a handshake over a connection of TCP and returns the state of both ends. One octet of the server's lets
// the client see the ticket for another session.
func shake(t *testing.T, server, config *tls.Config) (ours, theirs tls.ConnectionState, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan tls.ConnectionState, 1)
	go func() {
		var state tls.ConnectionState
		defer func() { done <- state }()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		c := tls.Server(conn, server)
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if c.Handshake() == nil {
			_, _ = c.Write([]byte("x"))
		}
		state = c.ConnectionState()
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(conn, config)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if err = c.Handshake(); err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
		ours = c.ConnectionState()
	}
	_ = conn.Close()
	return ours, <-done, err
}

func clock() time.Time { return noon }

func TestConfig(t *testing.T) {
	calls := 0
	base := &tls.Config{ServerName: "another", Time: clock, VerifyConnection: func(tls.ConnectionState) error {
		calls++
		return nil
	}}
	p := policyOf(record(3, 1, 1, "leaf expired"))
	p.Time = nil
	config := p.Config(base)
	_, theirs, err := shake(t, serve("leaf expired", "inter"), config)
	if err != nil || theirs.ServerName != "mx.example.org" {
		t.Errorf("%v, the server is asked for %q", err, theirs.ServerName)
	}
	if calls != 1 {
		t.Errorf("the function of the caller was called %d times", calls)
	}
	if base.ServerName != "another" || base.InsecureSkipVerify {
		t.Error("the configuration of the caller has changed")
	}
	_, _, err = shake(t, serve("leaf", "inter"), config)
	if e, ok := asType[*Error](err); !ok || e.Result() != general || calls != 1 {
		t.Errorf("another key: %v, %d calls", err, calls)
	}
	if p.Time != nil {
		t.Error("the policy has changed")
	}

	// The clock of the configuration is that of the dates.
	p = policyOf(record(2, 0, 1, "inter"))
	p.Time = nil
	if _, _, err := shake(t, serve("leaf", "inter"), p.Config(&tls.Config{Time: clock})); err != nil {
		t.Error(err)
	}
	late := &tls.Config{Time: func() time.Time { return noon.Add(48 * time.Hour) }}
	_, _, err = shake(t, serve("leaf", "inter"), p.Config(late))
	if e, ok := asType[*Error](err); !ok || e.Result() != expired {
		t.Errorf("two days later: %v", err)
	}

	refuse := errors.New("not this one")
	base.VerifyConnection = func(tls.ConnectionState) error { return refuse }
	if _, _, err := shake(t, serve("leaf", "inter"), policyOf(record(3, 1, 1, "leaf")).Config(base)); err != refuse {
		t.Errorf("the caller refuses: %v", err)
	}
}

// With records of which none is usable, any certificate will do, and the client does not take it for verified.
func TestX12_ConfigUnusable(t *testing.T) {
	p := policyOf(record(1, 1, 1, "root"), cut(record(3, 1, 1, "root"), 20))
	config := p.Config(&tls.Config{
		VerifyConnection:      func(tls.ConnectionState) error { return errors.New("called") },
		VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return errors.New("called") },
	})
	if _, theirs, err := shake(t, serve("leaf of nobody"), config); err != nil || theirs.ServerName != "mx.example.org" {
		t.Errorf("%v, %q", err, theirs.ServerName)
	}
	e, ok := p.Problem().(*Error)
	if p.Usable() || !ok || e.Result() != tlsaInvalid || !strings.Contains(e.Error(), "length of the digest") {
		t.Errorf("problem: %v", p.Problem())
	}
	// A policy that somebody has made without records lets nobody in.
	if _, _, err := shake(t, serve("leaf"), policyOf().Config(nil)); !errors.Is(err, errNone) {
		t.Errorf("without records: %v", err)
	}
}

// A resumed session is verified again: by then the records may be others.
func TestConfigResumed(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			server := serve("leaf", "inter")
			base := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(4), MaxVersion: version, Time: clock}
			if _, _, err := shake(t, server, policyOf(record(2, 0, 1, "inter")).Config(base)); err != nil {
				t.Fatal(err)
			}
			state, _, err := shake(t, server, policyOf(record(2, 0, 1, "inter")).Config(base))
			if err != nil || !state.DidResume {
				t.Fatalf("%v, resumed: %v", err, state.DidResume)
			}
			_, state, err = shake(t, server, policyOf(record(3, 1, 1, "root")).Config(base))
			if e, ok := asType[*Error](err); !ok || e.Result() != general || !state.DidResume {
				t.Errorf("other records: %v, resumed: %v", err, state.DidResume)
			}
			if _, _, err = shake(t, server, policyOf(record(3, 1, 1, "leaf")).Config(base)); err != nil {
				t.Errorf("records that match again: %v", err)
			}
		})
	}
}

// serveMail is a server that offers STARTTLS, and accepts no mail.
func serveMail(t *testing.T, config *tls.Config) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mail(conn, config)
		}
	}()
	return l.Addr().String()
}

func mail(conn net.Conn, config *tls.Config) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	say := func(lines string) { _, _ = conn.Write([]byte(lines)) }
	buf := make([]byte, 512)
	say("220 mx.example.org\r\n")
	for secure := false; ; {
		n, err := conn.Read(buf)
		switch line := string(buf[:n]); {
		case err != nil:
			return
		case strings.HasPrefix(line, "EHLO") && !secure:
			say("250-mx.example.org\r\n250 STARTTLS\r\n")
		case strings.HasPrefix(line, "EHLO"):
			say("250-mx.example.org\r\n250 REQUIRETLS\r\n")
		case strings.HasPrefix(line, "STARTTLS"):
			say("220 go ahead\r\n")
			conn, secure = tls.Server(conn, config), true
		case strings.HasPrefix(line, "QUIT"):
			say("221 bye\r\n")
			return
		default:
			say("550 no\r\n")
		}
	}
}

// TestX12_Client connects with a policy: the client counts the server as verified if the records are usable, and only
// then.
func TestX12_Client(t *testing.T) {
	addr := serveMail(t, serve("leaf", "inter"))
	for _, test := range []struct {
		name     string
		record   dns.Association
		verified bool
		fails    bool
	}{
		{"usage 3", record(3, 1, 1, "leaf"), true, false},
		{"usage 2", record(2, 1, 2, "inter"), true, false},
		{"no match", record(3, 1, 1, "root"), false, true},
		{"not usable", record(1, 1, 1, "root"), false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := policyOf(test.record).Config(nil)
			c, err := client.Dial(t.Context(), addr, &client.Options{TLS: ext.TLSRequired, TLSConfig: config})
			if test.fails {
				e, ok := asType[*Error](err)
				if !ok || !client.Temporary(err) || !slices.EqualFunc(e.Records, records(test.record), sameRecord) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.TLS() == nil || c.Verified() != test.verified {
				t.Errorf("TLS %v, verified %v", c.TLS() != nil, c.Verified())
			}
		})
	}
}

func sameRecord(a, b dns.Association) bool {
	return a.Usage == b.Usage && a.Selector == b.Selector && a.Matching == b.Matching && string(a.Data) == string(b.Data)
}
