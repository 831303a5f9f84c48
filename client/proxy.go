package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"
)

// An HTTPProxy makes connections through an HTTP proxy, by the method CONNECT (RFC 9110 section 9.3.6). Its DialContext
// is for Options.DialContext:
//
//	opt := &client.Options{DialContext: (&client.HTTPProxy{Addr: "proxy.example.org:3128"}).DialContext}
//
// It is a ContextDialer of golang.org/x/net/proxy too. That package has SOCKS5, but not CONNECT. Several goroutines may
// use it while nobody changes it.
type HTTPProxy struct {
	Addr string // of the proxy, "host:port"
	// Username and Password are sent to the proxy (RFC 7617), in plaintext unless TLSConfig is set. Default: none.
	Username, Password string
	// TLSConfig is for a proxy that is spoken to over TLS, whose URL begins with https. If it has no ServerName, the
	// certificate has to be for the host in Addr. Default: no TLS to the proxy. TLS with the server is another matter:
	// that goes through the proxy as ever.
	TLSConfig *tls.Config
	// Forward makes the connection to the proxy. Default: a net.Dialer.
	Forward func(ctx context.Context, network, addr string) (net.Conn, error)
}

// maxProxyReply is how many octets a proxy may send before the tunnel begins.
const maxProxyReply = 16 << 10

// DialContext returns a connection to addr through the proxy, which looks up the host. The network has to be "tcp". The
// context bounds the call, and has no effect on the connection.
func (p *HTTPProxy) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fmt.Errorf("smtp: an HTTP proxy leads to TCP ports only, not to %q", network)
	}
	request, err := p.request(addr)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(p.Addr)
	if err != nil {
		return nil, fmt.Errorf("smtp: HTTPProxy.Addr has to be host:port: %w", err)
	}
	dial := p.Forward
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", p.Addr)
	if err != nil {
		return nil, fmt.Errorf("smtp: the proxy: %w", err)
	}
	conn := raw
	if p.TLSConfig != nil {
		config := p.TLSConfig.Clone()
		if config.ServerName == "" {
			config.ServerName = host
		}
		conn = tls.Client(raw, config)
	}
	err = bounded(ctx, raw, func() error {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		return p.tunnel(conn)
	})
	if err != nil {
		return nil, fmt.Errorf("smtp: the proxy %s: %w", p.Addr, err)
	}
	return conn, nil
}

// request returns the request for a tunnel to addr.
func (p *HTTPProxy) request(addr string) ([]byte, error) {
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if _, _, err := net.SplitHostPort(addr); err != nil || strings.ContainsFunc(addr, bad) {
		return nil, fmt.Errorf("smtp: %q is not the address of a server: use host:port", addr)
	}
	b := fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", addr, addr)
	if p.Username != "" || p.Password != "" {
		if strings.Contains(p.Username, ":") {
			return nil, errors.New("smtp: HTTPProxy.Username must not have a colon")
		}
		secret := base64.StdEncoding.EncodeToString([]byte(p.Username + ":" + p.Password))
		b = fmt.Appendf(b, "Proxy-Authorization: Basic %s\r\n", secret)
	}
	return append(b, "\r\n"...), nil
}

// tunnel reads the reply of the proxy, and not an octet of what follows it: that may be the server's greeting.
func (p *HTTPProxy) tunnel(conn net.Conn) error {
	left := maxProxyReply
	for {
		head, err := readHead(conn, &left)
		if err != nil {
			return err
		}
		version, status, _ := strings.Cut(head, " ")
		code, _, _ := strings.Cut(status, " ")
		n, err := strconv.Atoi(code)
		switch {
		case err != nil || len(code) != 3 || !strings.HasPrefix(version, "HTTP/1."):
			return fmt.Errorf("this is not HTTP/1.1: %q", head)
		case n/100 == 2:
			return nil
		case n/100 == 1 && n != 101: // another reply follows (RFC 9110 section 15.2)
		case n == 407:
			return fmt.Errorf("it wants other credentials, see HTTPProxy.Username: %q", status)
		default:
			return fmt.Errorf("it refuses the connection: %q", status)
		}
	}
}

// readHead reads up to an empty line, and returns the first line. Left is how many octets it may take.
func readHead(conn net.Conn, left *int) (string, error) {
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) && !bytes.HasSuffix(head, []byte("\n\n")) {
		if *left--; *left < 0 {
			return "", errors.New("its reply is too long")
		}
		var one [1]byte
		n, err := conn.Read(one[:])
		if head = append(head, one[:n]...); n == 0 && err != nil {
			return "", fmt.Errorf("no reply: %w", err)
		}
	}
	return textproto.NewReader(bufio.NewReader(bytes.NewReader(head))).ReadLine()
}

// ProxyHeader returns a function for Options.DialContext that begins each connection with a header of the PROXY
// protocol of HAProxy, before TLS and before the greeting. It is for a program that sends on behalf of its own clients,
// to a server that trusts it to tell their addresses; and for a proxy that is told by the header which address to send
// from.
//
// Dial makes the connections, with [HTTPProxy] for instance; nil stands for a net.Dialer. Header returns the octets for
// a connection: use AppendV1 or AppendV2 of package smtpkit.example/smtp/server/proxyproto, which do not need the
// server. It is called once for each connection.
func ProxyHeader(
	dial func(ctx context.Context, network, addr string) (net.Conn, error), header func(conn net.Conn) []byte,
) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		err = bounded(ctx, conn, func() error {
			_, err := conn.Write(header(conn))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("smtp: sending the PROXY header: %w", err)
		}
		return conn, nil
	}
}

// bounded calls f, which uses conn, and ends it when the context does. If there is an error, conn is closed.
func bounded(ctx context.Context, conn net.Conn, f func() error) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err := f()
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
	}
	return err
}
