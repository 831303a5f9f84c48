package mtasts

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto/prototest"
)

const zone = `
	_mta-sts.example.org.  0  TXT  "v=STSv1; id=1;"
	mta-sts.example.org.   0  A    192.0.2.1
`

// text is a policy for example.org.
func text(mode string, maxAge int) string {
	return fmt.Sprintf("version: STSv1\r\nmode: %s\r\nmx: mx.example.org\r\nmax_age: %d\r\n", mode, maxAge)
}

// A testHost is an HTTPS server on loopback, to which a Cache comes by the address that it has looked up.
type testHost struct {
	mu     sync.Mutex
	dialed []string // addresses
	names  []string // of SNI
	asked  []string // requests
	open   int      // connections that the Cache has not closed
}

// A testConn tells its host when it is closed.
type testConn struct {
	net.Conn
	closed func()
}

func (c testConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// serve starts an HTTPS server, and returns options of a Cache that trusts roots.
func (h *testHost) serve(t *testing.T, cfg *tls.Config, roots *x509.CertPool, handler http.HandlerFunc) *Options {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.Clone()
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.names = append(h.names, hello.ServerName)
		return nil, nil
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.mu.Lock()
			h.asked = append(h.asked, r.Method+" "+r.Host+r.URL.String())
			h.mu.Unlock()
			handler(w, r)
		}),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(tls.NewListener(listener, cfg)) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return &Options{
		Resolver:  dnstest.New(zone),
		TLSConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			h.mu.Lock()
			h.dialed = append(h.dialed, addr)
			h.open++
			h.mu.Unlock()
			conn, err := new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
			return testConn{conn, sync.OnceFunc(func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.open--
			})}, err
		},
	}
}

func newCache(t *testing.T, opt *Options) *Cache {
	t.Helper()
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func lookup(t *testing.T, c *Cache, domain string) *Found {
	t.Helper()
	f, err := c.Lookup(t.Context(), domain)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// plain answers with a body of text/plain.
func plain(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, body)
	}
}

func typed(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{kind}
		io.WriteString(w, text("enforce", 86400))
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Location", "/elsewhere")
		if r.URL.Path == "/elsewhere" {
			code = 200
		}
		w.WriteHeader(code)
		io.WriteString(w, text("enforce", 86400))
	}
}

// padded is a policy of so many octets.
func padded(octets int) string {
	p := text("enforce", 86400)
	const line = "note: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
	for len(p)+len(line) < octets {
		p += line
	}
	return p + strings.Repeat(" ", octets-len(p)-1) + "\n"
}

// TestX03_Response has what a policy host may answer with, over HTTPS on loopback.
func TestX03_Response(t *testing.T) {
	cert, roots := prototest.Certificate(t, "mta-sts.example.org")
	const good = "enforce 86400 mx.example.org"
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string // the policy, or what the error says
		result  string
	}{
		{"200", plain(text("enforce", 86400)), good, ""},
		{"charset=utf-8", typed("text/plain; charset=utf-8"), good, ""},
		{"media type in upper case", typed("TEXT/Plain;charset=us-ascii"), good, ""},
		{"other parameters are ignored", typed("text/plain; x=y; charset=latin1"), good, ""},
		{"broken parameters are ignored", typed("text/plain; charset"), good, ""},
		{"64 KiB", plain(padded(65536)), good, ""},
		{"an octet more", plain(padded(65537)), "more than 65536 octets", ResultFetchError},
		{"65 KiB", plain(padded(65 << 10)), "more than 65536 octets", ResultFetchError},
		{"no end", endless, "more than 65536 octets", ResultFetchError},
		{"text/html", typed("text/html"), `media type "text/html"`, ResultFetchError},
		{"text/plainer", typed("text/plainer"), "media type", ResultFetchError},
		{"no media type", typed(""), `media type ""`, ResultFetchError},
		{"201", status(201), "status 201", ResultFetchError},
		{"203", status(203), "status 203", ResultFetchError},
		{"206", status(206), "status 206", ResultFetchError},
		{"301", status(301), "status 301", ResultFetchError},
		{"302", status(302), "status 302", ResultFetchError},
		{"303", status(303), "status 303", ResultFetchError},
		{"304", status(304), "status 304", ResultFetchError},
		{"307", status(307), "status 307", ResultFetchError},
		{"308", status(308), "status 308", ResultFetchError},
		{"404", status(404), "status 404", ResultFetchError},
		{"500", status(500), "status 500", ResultFetchError},
		{"no answer", hangUp, "unexpected EOF", ResultFetchError},
		{"a body that is cut", cutBody, "unexpected EOF", ResultFetchError},
		{"a header without end", longHeader, "header", ResultFetchError},
		{"no policy", plain("hello\n"), "line 1 of the MTA-STS policy", ResultPolicyInvalid},
		{"an empty policy", plain(""), "no line", ResultPolicyInvalid},
		{"compressed without being asked", gzipped, "line 1", ResultPolicyInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := new(testHost)
			c := newCache(t, h.serve(t, &tls.Config{Certificates: []tls.Certificate{cert}}, roots, test.handler))
			f := lookup(t, c, "Example.ORG.")
			if f.Result() != test.result || f.Domain != "example.org" {
				t.Errorf("%s: result %q, want %q", f.Domain, f.Result(), test.result)
			}
			switch {
			case test.result == "" && (describe(f.Policy) != test.want || f.Problem != nil || f.ID != "1"):
				t.Errorf("%s, id %q, %v; want %s", describe(f.Policy), f.ID, f.Problem, test.want)
			case test.result != "" && (f.Policy != nil || !strings.Contains(f.Problem.Error(), test.want)):
				t.Errorf("%s, %v; want an error with %q", describe(f.Policy), f.Problem, test.want)
			}
			if test.result != "" && !strings.HasPrefix(f.Problem.Error(), "smtp: MTA-STS policy of example.org: ") {
				t.Errorf("the error is %q", f.Problem)
			}
			if got := strings.Join(h.dialed, " "); got != "192.0.2.1:443" {
				t.Errorf("dialed %q", got)
			}
			if h.open != 0 {
				t.Error("the connection is still open")
			}
			if got := strings.Join(h.asked, " "); got != "GET mta-sts.example.org/.well-known/mta-sts.txt" {
				t.Errorf("asked for %q", got)
			}
		})
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	line := bytes.Repeat([]byte("note: x\n"), 512)
	for {
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func cutBody(w http.ResponseWriter, r *http.Request) {
	body := text("enforce", 86400)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+20))
	io.WriteString(w, body)
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func longHeader(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Long", strings.Repeat("x", 100<<10))
	plain(text("enforce", 86400))(w, r)
}

func gzipped(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	plain("\x1f\x8b\x08\x00\x00\x00\x00\x00")(w, r)
}

// TestX03_Request: the request has nothing in it that a cache or a session would have.
func TestX03_Request(t *testing.T) {
	cert, roots := prototest.Certificate(t, "mta-sts.example.org")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	var header http.Header
	var proto string
	h := new(testHost)
	opt := h.serve(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}, roots,
		func(w http.ResponseWriter, r *http.Request) {
			header, proto = r.Header.Clone(), r.Proto
			w.Header().Set("Cache-Control", "max-age=86400")
			w.Header().Set("Set-Cookie", "a=b")
			plain(text("enforce", 0))(w, r)
		})
	c := newCache(t, opt)
	for range 2 { // the policy has no life, so each Lookup fetches it
		if f := lookup(t, c, "example.org"); f.Policy == nil {
			t.Fatal(f.Problem)
		}
	}
	if len(h.asked) != 2 {
		t.Errorf("%d requests, want 2", len(h.asked))
	}
	for name := range header {
		switch name {
		case "Accept", "User-Agent", "Connection":
		default:
			t.Errorf("the request has %s: %s", name, header.Get(name))
		}
	}
	if proto != "HTTP/1.1" || header.Get("Connection") != "close" {
		t.Errorf("%s, Connection: %s", proto, header.Get("Connection"))
	}
}

// issue returns certificates for tests: each with the changes of one function to an ordinary one for the policy host of
// example.org.
func issue(t *testing.T, change func(*x509.Certificate)) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca.Subject.CommonName = "Test CA"
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, DNSNames: []string{"mta-sts.example.org"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(leaf)
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key}, roots
}

// TestX04_Certificate has the certificates of policy hosts (RFC 8461 section 3.3).
func TestX04_Certificate(t *testing.T) {
	names := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = names }
	}
	tests := []struct {
		name    string
		change  func(*x509.Certificate)
		trusted bool
		result  string
	}{
		{"X04 for the policy host", names("other.example", "mta-sts.example.org"), true, ""},
		{"X04 in another case", names("MTA-STS.example.org"), true, ""},
		{"X04 with a wildcard", names("*.example.org"), true, ""},
		{"X04 for the domain", names("example.org"), true, ResultWebPKIInvalid},
		{"X04 for the provider", names("mta-sts.provider.example"), true, ResultWebPKIInvalid},
		{"X04 with a wildcard in a label", names("mta-*.example.org"), true, ResultWebPKIInvalid},
		{"X04 with a wildcard for two labels", names("*.org"), true, ResultWebPKIInvalid},
		{"X04 with the name in CN alone", func(c *x509.Certificate) {
			c.DNSNames = nil
			c.Subject.CommonName = "mta-sts.example.org"
		}, true, ResultWebPKIInvalid},
		{"X04 with the address alone", func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(192, 0, 2, 1)}
		}, true, ResultWebPKIInvalid},
		{"X04 expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, true, ResultWebPKIInvalid},
		{"X04 not valid yet", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, true, ResultWebPKIInvalid},
		{"X04 for clients", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}, true, ResultWebPKIInvalid},
		{"X04 of an unknown authority", names("mta-sts.example.org"), false, ResultWebPKIInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cert, roots := issue(t, test.change)
			if !test.trusted {
				roots = x509.NewCertPool()
			}
			h := new(testHost)
			opt := h.serve(t, &tls.Config{Certificates: []tls.Certificate{cert}}, roots, plain(text("enforce", 86400)))
			opt.TLSConfig.ServerName = "mta-sts.provider.example" // of no effect
			f := lookup(t, newCache(t, opt), "example.org")
			if f.Result() != test.result || (f.Policy != nil) != (test.result == "") || (f.Problem == nil) != (test.result == "") {
				t.Errorf("%s, %q, %v; want result %q", describe(f.Policy), f.Result(), f.Problem, test.result)
			}
			if test.result != "" && len(h.asked) > 0 {
				t.Error("the request was sent all the same")
			}
			if got := strings.Join(h.names, " "); got != "mta-sts.example.org" {
				t.Errorf("SNI is %q", got)
			}
		})
	}
}

func TestX04_Version(t *testing.T) {
	cert, roots := prototest.Certificate(t, "mta-sts.example.org")
	for _, version := range []uint16{tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version}
		opt := new(testHost).serve(t, cfg, roots, plain(text("enforce", 86400)))
		opt.TLSConfig.MinVersion = tls.VersionTLS10 // of no effect
		f := lookup(t, newCache(t, opt), "example.org")
		if (f.Policy != nil) != (version >= tls.VersionTLS12) {
			t.Errorf("%s: %s, %v", tls.VersionName(version), describe(f.Policy), f.Problem)
		}
	}
}

// TestPlainHTTP: a host without TLS serves no policy.
func TestPlainHTTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: plain(text("enforce", 86400)), ErrorLog: log.New(io.Discard, "", 0)}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	defer serving.Wait()
	defer server.Close()
	c := newCache(t, &Options{
		Resolver: dnstest.New(zone),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
		},
	})
	if f := lookup(t, c, "example.org"); f.Policy != nil || f.Result() != ResultFetchError {
		t.Errorf("%s, %q", describe(f.Policy), f.Result())
	}
}

func TestNew(t *testing.T) {
	_, want := dns.New(nil)
	c, err := New(nil)
	if fmt.Sprint(err) != fmt.Sprint(want) {
		t.Errorf("%v without options, want %v", err, want)
	}
	if c != nil {
		c.Close()
	}
	c, err = New(&Options{Resolver: dnstest.New(""), TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if c != nil || err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), "InsecureSkipVerify") {
		t.Errorf("%v with InsecureSkipVerify", err)
	}
}

// TestHanging: a host that stops at any point costs a minute and no more.
func TestHanging(t *testing.T) {
	cert, roots := prototest.Certificate(t, "mta-sts.example.org")
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	tests := []struct {
		name  string
		serve func(net.Conn) // what the host does before it hangs
	}{
		{"before the handshake", func(net.Conn) {}},
		{"before the response", func(conn net.Conn) { tls.Server(conn, cfg).Handshake() }},
		{"in the header", func(conn net.Conn) { io.WriteString(tls.Server(conn, cfg), "HTTP/1.1 200 OK\r\nX: ") }},
		{"in the body", func(conn net.Conn) {
			io.WriteString(tls.Server(conn, cfg), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nversion: STSv1\r\n")
		}},
		{"never, and slow", func(conn net.Conn) {
			secure := tls.Server(conn, cfg)
			_, err := io.WriteString(secure, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
			for err == nil {
				time.Sleep(time.Second)
				_, err = io.WriteString(secure, "\n")
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, &Options{
					Resolver:  dnstest.New(zone),
					TLSConfig: &tls.Config{RootCAs: roots},
					DialContext: func(context.Context, string, string) (net.Conn, error) {
						here, there := net.Pipe()
						go func() {
							test.serve(there)
							io.Copy(io.Discard, there)
							there.Close()
						}()
						return here, nil
					},
				})
				start := time.Now()
				f := lookup(t, c, "example.org")
				if took := time.Since(start); took != time.Minute {
					t.Errorf("it took %v", took)
				}
				if f.Policy != nil || f.Result() != ResultFetchError || !errors.Is(f.Problem, context.DeadlineExceeded) {
					t.Errorf("%s, %q, %v", describe(f.Policy), f.Result(), f.Problem)
				}
			})
		})
	}
}
