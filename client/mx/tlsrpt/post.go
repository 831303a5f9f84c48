package tlsrpt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

// A DeliveryError says why a report was not sent to a destination: by HTTPS, or by mail without a Sender.
type DeliveryError struct {
	Destination string       // the URI
	HTTPStatus  int          // the status of the response, or 0 if there was none
	Code        proto.Status // class 4 if it may be accepted later
	Err         error
}

func (e *DeliveryError) Error() string {
	return "smtp: a report on TLS to " + quote(e.Destination) + ": " + strings.TrimPrefix(e.Err.Error(), "smtp: ")
}

// Unwrap returns the reason.
func (e *DeliveryError) Unwrap() error { return e.Err }

// Status returns Code, by which client.Temporary tells whether to try again.
func (e *DeliveryError) Status() proto.Status { return e.Code }

var (
	temporary = proto.Status{4, 4, 0}
	permanent = proto.Status{5, 4, 0}
)

var (
	errNoSender    = errors.New("Options.Sender is nil, so nothing is sent by mail")
	errNoTransport = errors.New("Options.RoundTripper and Options.Resolver are nil, so nothing is sent by HTTPS")
	errPrivate     = errors.New("all addresses of the host are private: set Options.AllowPrivate if they may get reports")
	errNoAddress   = errors.New("the host has no address")
)

// post sends a report by HTTPS (RFC 8460 section 5.4). Redirects are not followed: a receiver has to accept the report
// at the URI that the domain names.
func (c *Collector) post(ctx context.Context, u *url.URL, body io.Reader) error {
	fail := func(status int, code proto.Status, err error) error {
		return &DeliveryError{Destination: u.String(), HTTPStatus: status, Code: code, Err: err}
	}
	ctx = context.WithValue(ctx, requestKey{}, ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return fail(0, permanent, err)
	}
	if c.RoundTripper == nil {
		return fail(0, permanent, errNoTransport)
	}
	req.Header.Set("Content-Type", MediaType)
	resp, err := c.RoundTripper.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil { // or the error is that of the connection, which was closed for this reason
			err = ctx.Err()
		}
		code := temporary
		if errors.Is(err, errPrivate) {
			code = permanent
		}
		return fail(0, code, err)
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxResponse)
	if resp.StatusCode/100 == 2 {
		return nil
	}
	code := permanent
	switch s := resp.StatusCode; {
	case s/100 == 5, s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == http.StatusTooManyRequests:
		code = temporary
	}
	return fail(resp.StatusCode, code, fmt.Errorf("the server answers %d", resp.StatusCode))
}

// maxResponse is how much of a response is read, in octets. Nobody looks at it.
const maxResponse = 4 << 10

// transport returns the default RoundTripper.
func (s *settings) transport() http.RoundTripper {
	return &http.Transport{
		DialContext:            s.dial,
		TLSClientConfig:        s.TLSConfig.Clone(),
		TLSHandshakeTimeout:    s.Timeout,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true, // one report a day
	}
}

// requestKey is that of the context of a request. A http.Transport dials with another context, which does not end,
// since it would keep the connection for other requests. Here a connection is for one request.
type requestKey struct{}

// dial connects to a host for a request. The connection is closed when the context of that ends, whatever it is used
// for then.
func (s *settings) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if ofRequest, ok := ctx.Value(requestKey{}).(context.Context); ok {
		ctx = ofRequest
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addrs, err := s.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	connect := s.DialContext
	if connect == nil {
		connect = (&net.Dialer{}).DialContext
	}
	for i, a := range addrs {
		var conn net.Conn
		if conn, err = connectFor(ctx, connect, network, net.JoinHostPort(a.String(), port), len(addrs)-i); err == nil {
			context.AfterFunc(ctx, func() { conn.Close() })
			return conn, nil
		}
	}
	return nil, err
}

// connectFor connects to an address, in a fair part of the time that is left for n.
func connectFor(ctx context.Context, connect func(context.Context, string, string) (net.Conn, error),
	network, addr string, n int) (net.Conn, error) {
	if end, ok := ctx.Deadline(); ok {
		limited, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(n+1))
		defer cancel()
		ctx = limited
	}
	return connect(ctx, network, addr)
}

// maxAddresses is how many addresses of a host are tried.
const maxAddresses = 4

// addresses returns the addresses of a host to which reports may go, one at least.
func (s *settings) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var found []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		found = []netip.Addr{a}
	} else {
		a, err := dns.LookupAddrs(ctx, s.Resolver, host)
		if err != nil {
			return nil, err
		}
		for i := range max(len(a.IPv6), len(a.IPv4)) { // by turns, so that a family that does not work costs one attempt
			found = append(found, at(a.IPv6, i)...)
			found = append(found, at(a.IPv4, i)...)
		}
	}
	if len(found) == 0 {
		return nil, errNoAddress
	}
	var may []netip.Addr
	for _, a := range found {
		if (s.AllowPrivate || isPublic(a)) && len(may) < maxAddresses {
			may = append(may, a)
		}
	}
	if len(may) == 0 {
		return nil, errPrivate
	}
	return may, nil
}

// at returns what is at i in list, if there is something.
func at(list []netip.Addr, i int) []netip.Addr {
	if i < len(list) {
		return list[i : i+1]
	}
	return nil
}

// isPublic reports whether a can be the address of a stranger's server.
func isPublic(a netip.Addr) bool {
	a = plain(a)
	return a.IsGlobalUnicast() && !a.IsPrivate() && !shared.Contains(a)
}

// shared is the address space between providers and their customers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")
