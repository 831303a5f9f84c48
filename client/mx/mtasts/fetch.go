package mtasts

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
)

// What is read of a response at most, in octets: its header, and the body with the sizes of its chunks.
const (
	maxHeader = 64 << 10
	maxBody   = 1 << 20
)

// A transport asks one host one thing over one connection, and leaves nothing behind when the context ends. An
// http.Transport would go on with the handshake. There are no redirects, no cookies, no proxy that the environment
// names, and no HTTP cache.
type transport struct {
	dialer    dialer
	tlsConfig *tls.Config
}

// RoundTrip sends a request to port 443 of its host.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	conn, err := t.dialer.DialContext(ctx, "tcp", net.JoinHostPort(req.URL.Host, "443"))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	resp, err := t.exchange(conn, req)
	if err != nil {
		stop()
		conn.Close()
		return nil, err
	}
	resp.Body = &body{resp.Body, conn, stop}
	return resp, nil
}

// exchange makes a connection secure, sends a request, and reads the header of the response.
func (t *transport) exchange(conn net.Conn, req *http.Request) (*http.Response, error) {
	cfg := t.tlsConfig.Clone()
	cfg.ServerName = req.URL.Host
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(req.Context()); err != nil {
		return nil, err
	}
	if err := req.Write(secure); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: secure, N: maxHeader}
	r := bufio.NewReader(limited)
	for {
		resp, err := http.ReadResponse(r, req)
		if err != nil && limited.N <= 0 {
			return nil, fmt.Errorf("the header of the response has more than %d octets", maxHeader)
		}
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			limited.N = maxBody
			return resp, nil
		}
	}
}

// A body closes its connection.
type body struct {
	io.ReadCloser
	conn net.Conn
	stop func() bool
}

func (b *body) Close() error {
	b.stop()
	return b.conn.Close()
}

// fetch fetches the policy of a domain, as RFC 8461 section 3.3 says.
func fetch(ctx context.Context, rt http.RoundTripper, domain string) (*Policy, error) {
	req := &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Scheme: "https", Host: policyHost(domain), Path: "/.well-known/mta-sts.txt"},
		Header: http.Header{"Accept": {"text/plain"}, "User-Agent": {"mta-sts"}},
		Close:  true,
	}
	resp, err := rt.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, timedOut(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the host answered with HTTP status %d, and must answer with 200", resp.StatusCode)
	}
	// An error here is about the parameters, which are ignored.
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "text/plain" {
		return nil, fmt.Errorf("the host sends the media type %q, and must send text/plain", kind)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, MaxPolicySize+1))
	if err != nil {
		return nil, timedOut(ctx, err)
	}
	if len(text) > MaxPolicySize {
		return nil, fmt.Errorf("the host sends more than %d octets", MaxPolicySize)
	}
	policy, err := Parse(text)
	if err != nil {
		return nil, invalidError{err}
	}
	return policy, nil
}

// timedOut says so if err is due to the end of ctx.
func timedOut(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the host took too long: %w", ctx.Err())
	}
	return err
}
