package mx

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A network is one in memory, in which each address has a host or none.
type network struct {
	mu      sync.Mutex
	hosts   map[netip.Addr]*host
	dialled []string // the addresses, in the order in which connections to them were begun
	conns   int      // that are open
	most    int      // at once
}

// A host is a mail exchanger with one address. The zero value takes all mail, without TLS.
type host struct {
	refuses  bool          // connections
	blackout bool          // connections are neither made nor refused
	takes    time.Duration // to connect
	greeting string        // in place of 220; "-" for none, ever
	tarpit   time.Duration // before each reply
	keywords []string      // of EHLO
	secured  []string      // likewise, under TLS
	cert     *tls.Certificate
	broken   bool   // STARTTLS is offered and the handshake fails
	stalls   bool   // STARTTLS is offered and nothing follows the reply to it
	ehlo     string // the reply to EHLO and HELO
	mail     string
	rcpt     func(to string) string // the reply; nil or "" for 250
	data     string                 // the reply to the content
	hangup   string                 // the verb after which the connection is closed, without a reply; "." for the content

	forgets bool // what it has taken
	stays   bool // and goes on after 421

	mu    sync.Mutex
	got   []letter
	names []string // that clients have asked for (SNI)
	verbs []string // of the commands, and "." for the end of the content
}

// A letter is a message that a host has taken.
type letter struct {
	from string
	to   []string
	text string
	tls  bool
	args string // of MAIL
}

func (n *network) add(addr string, h *host) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[netip.Addr]*host{}
	}
	n.hosts[netip.MustParseAddr(addr)] = h
	return h
}

// connect is for client.Options.DialContext.
func (n *network) connect(ctx context.Context, _, addr string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.dialled = append(n.dialled, at.Addr().String())
	h := n.hosts[at.Addr()]
	n.mu.Unlock()
	if h == nil || h.blackout {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	select {
	case <-time.After(h.takes):
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	if h.refuses {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
	}
	ours, theirs := net.Pipe()
	n.mu.Lock()
	n.conns++
	n.most = max(n.most, n.conns)
	n.mu.Unlock()
	go func() {
		defer func() {
			theirs.Close()
			n.mu.Lock()
			n.conns--
			n.mu.Unlock()
		}()
		h.serve(theirs)
	}()
	return &addrConn{ours, at}, nil
}

// An addrConn is a connection to an address.
type addrConn struct {
	net.Conn
	remote netip.AddrPort
}

func (c *addrConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// order returns the addresses that were dialled, and forgets them.
func (n *network) order() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := strings.Join(n.dialled, " ")
	n.dialled = nil
	return s
}

// letters returns what the host has taken.
func (h *host) letters() []letter {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

func (h *host) note(verb string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verbs = append(h.verbs, verb)
}

// said returns the verbs of the commands that the host has got, and forgets them.
func (h *host) said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := strings.Join(h.verbs, " ")
	h.verbs = nil
	return s
}

// A talk is a session of a host.
type talk struct {
	host *host
	conn net.Conn
	r    *bufio.Reader
	tls  bool
	now  letter
}

func (h *host) serve(conn net.Conn) {
	if h.greeting == "-" {
		io.Copy(io.Discard, conn)
		return
	}
	t := &talk{host: h, conn: conn, r: bufio.NewReader(conn)}
	greeting := h.greeting
	if greeting == "" {
		greeting = "220 mx.example ready"
	}
	for ok := t.say(greeting); ok; {
		line, err := t.r.ReadString('\n')
		if err != nil {
			return
		}
		verb, args, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		verb = strings.ToUpper(verb)
		h.note(verb)
		if h.hangup == verb {
			return
		}
		ok = t.obey(verb, args)
	}
}

func (t *talk) say(reply string) bool {
	time.Sleep(t.host.tarpit)
	_, err := io.WriteString(t.conn, reply+"\r\n")
	return err == nil && (t.host.stays || !strings.HasPrefix(reply, "421"))
}

func (t *talk) obey(verb, args string) bool {
	h := t.host
	if h.ehlo != "" && (verb == "EHLO" || verb == "HELO") {
		return t.say(h.ehlo)
	}
	switch verb {
	case "EHLO":
		keywords := slices.Clone(h.keywords)
		if h.cert != nil && !t.tls || h.broken || h.stalls {
			keywords = append(keywords, "STARTTLS")
		}
		if t.tls {
			keywords = append(keywords, h.secured...)
		}
		reply := "250-mx.example"
		for _, k := range keywords {
			reply += "\r\n250-" + k
		}
		return t.say(reply + "\r\n250 HELP")
	case "STARTTLS":
		if !t.say("220 go ahead") {
			return false
		}
		if h.broken {
			return false
		}
		if h.stalls {
			io.Copy(io.Discard, t.conn)
			return false
		}
		note := func(c *tls.ClientHelloInfo) (*tls.Config, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.names = append(h.names, c.ServerName)
			return nil, nil
		}
		secured := tls.Server(t.conn, &tls.Config{Certificates: []tls.Certificate{*h.cert}, GetConfigForClient: note})
		if secured.Handshake() != nil {
			return false
		}
		t.conn, t.r, t.tls = secured, bufio.NewReader(secured), true
		return true
	case "MAIL":
		path, params, _ := strings.Cut(args, " ")
		t.now = letter{from: path, args: params, tls: t.tls}
		return t.say(or(h.mail, "250 ok"))
	case "RCPT":
		path, _, _ := strings.Cut(args, " ")
		to := strings.Trim(path[len("TO:"):], "<>")
		reply := ""
		if h.rcpt != nil {
			reply = h.rcpt(to)
		}
		if reply == "" {
			t.now.to = append(t.now.to, to)
		}
		return t.say(or(reply, "250 ok"))
	case "DATA":
		if len(t.now.to) == 0 {
			return t.say("503 no recipients")
		}
		return t.say("354 go on") && t.content()
	case "RSET", "NOOP":
		return t.say("250 ok")
	case "QUIT":
		t.say("221 bye")
		return false
	}
	return t.say("500 what")
}

func (t *talk) content() bool {
	var text strings.Builder
	for {
		line, err := t.r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		text.WriteString(strings.TrimPrefix(line, "."))
	}
	t.host.note(".")
	if t.host.hangup == "." {
		return false
	}
	reply := or(t.host.data, "250 taken")
	if reply[0] == '2' && !t.host.forgets {
		t.now.text = text.String()
		t.host.mu.Lock()
		t.host.got = append(t.host.got, t.now)
		t.host.mu.Unlock()
	}
	return t.say(reply)
}

func or(s, standard string) string {
	if s == "" {
		return standard
	}
	return s
}

// An authority issues certificates. They are valid in the past in which a bubble of testing/synctest begins, too.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

var (
	theAuthority = sync.OnceValue(func() *authority { return newAuthority("trusted") })
	aStranger    = sync.OnceValue(func() *authority { return newAuthority("stranger") })
	begins       = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	ends         = time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
)

func newAuthority(name string) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: begins, NotAfter: ends,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	a := &authority{key: key, cert: cert, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// issue returns a certificate for names.
func (a *authority) issue(t testing.TB, names ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: begins, NotAfter: ends,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
}
