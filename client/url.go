package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

// An Endpoint is a server and how to send to it, as a URL says it; see [ParseURL]. Addr and Options are what [Dial] and
// a pool take. All fields may be changed, for instance Options.Trace set, until the endpoint is in use. Its methods may
// be called by several goroutines at once.
type Endpoint struct {
	Addr string // "host:port", or "unix:" and a path
	// User and Mechanisms are those in the URL, from which ParseURL has made Options.Credentials. They are there for a
	// password that is not in the URL: set Options.Credentials to auth.Password(e.User, secret, e.Mechanisms...).
	User       string
	Mechanisms []string // in upper case; nil means all
	Options    Options
}

// Dial is the function [Dial] with the endpoint's Addr and Options.
func (e *Endpoint) Dial(ctx context.Context) (*Client, error) { return Dial(ctx, e.Addr, &e.Options) }

// Send connects, sends a message, and says QUIT, as the function [Send] does. The result tells the outcome for each
// recipient, also if no connection came about: then each has the error of [Dial].
func (e *Endpoint) Send(ctx context.Context, m *Message) (*Result, error) {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	c, err := e.Dial(ctx)
	if err != nil {
		return unsent(m, err)
	}
	defer func() { c.conn.quit(ctx) }()
	return c.Send(ctx, m)
}

// Verify is the function [Verify] with the endpoint's Addr and Options.
func (e *Endpoint) Verify(ctx context.Context) error { return Verify(ctx, e.Addr, &e.Options) }

// String returns the URL, without the password. ParseURL makes the same endpoint of it, but for the password, if e came
// from ParseURL. Options that a URL cannot have are left out.
func (e *Endpoint) String() string {
	var b strings.Builder
	e.printServer(&b)
	sep := byte('?')
	for _, p := range urlParams {
		if v := p.get(e); v != "" {
			b.WriteByte(sep)
			b.WriteString(p.name + "=" + strings.ReplaceAll(url.QueryEscape(v), "+", "%20"))
			sep = '&'
		}
	}
	return b.String()
}

// printServer prints what precedes the parameters of the URL.
func (e *Endpoint) printServer(b *strings.Builder) {
	path, unix := strings.CutPrefix(e.Addr, "unix:")
	switch {
	case e.Options.Protocol == proto.LMTP:
		b.WriteString("lmtp")
	case e.Options.TLS == ext.TLSImplicit && !unix:
		b.WriteString("smtps")
	default:
		b.WriteString("smtp")
	}
	if unix {
		b.WriteString("+unix")
	}
	b.WriteByte(':')
	if !unix || e.User != "" || strings.HasPrefix(path, "//") {
		b.WriteString("//")
	}
	if e.User != "" {
		b.WriteString(url.User(e.User).String())
		b.WriteByte('@')
	}
	host, port, err := net.SplitHostPort(e.Addr)
	switch {
	case unix:
		b.WriteString(strings.ReplaceAll((&url.URL{Path: path}).EscapedPath(), "@", "%40"))
	case err != nil:
		b.WriteString(url.PathEscape(e.Addr)) // not an address: somebody else has made it
	default:
		if i := strings.IndexByte(host, '%'); i >= 0 {
			host = host[:i] + "%25" + host[i+1:] // the zone of an address (RFC 6874 section 2)
		}
		b.WriteString(net.JoinHostPort(host, port))
	}
}

// A urlScheme says what the scheme of a URL stands for.
type urlScheme struct {
	name     string
	protocol proto.Protocol
	unix     bool
	tls      ext.TLSMode
	fixed    bool // the scheme names the mode: the parameter tls can do no more than repeat it
}

var urlSchemes = []urlScheme{
	{name: "smtp"},
	{name: "smtps", tls: ext.TLSImplicit, fixed: true},
	{name: "smtp+starttls", tls: ext.TLSRequired, fixed: true},
	{name: "smtp+unix", unix: true},
	{name: "lmtp", protocol: proto.LMTP},
	{name: "lmtp+unix", protocol: proto.LMTP, unix: true},
	// Names of others, see ParseURL.
	{name: "submission", tls: ext.TLSRequired, fixed: true},
	{name: "submissions", tls: ext.TLSImplicit, fixed: true},
	{name: "smtp+tls", tls: ext.TLSRequired, fixed: true},
	{name: "smtp+ssl", tls: ext.TLSImplicit, fixed: true},
}

// badURL returns an error of ParseURL. None of them has the password in it: what may be a part of the password, because
// a character in it is not percent-encoded, is not shown.
func badURL(format string, args ...any) error {
	return fmt.Errorf("smtp: the URL of the server: "+format, args...)
}

var (
	errURLScheme = badURL("it has to begin with smtp://, smtps://, smtp+starttls://, lmtp://, lmtp+unix: or smtp+unix:")
	errURLSpace  = badURL("it has a space, a control character, or what is not UTF-8: write a space as %%20")
	errURLEscape = badURL("a user name or a password with one of the characters / ? # has to be percent-encoded: " +
		"%%2F %%3F %%23")
	errURLPercent = badURL("two hexadecimal digits have to follow each %%: write %%25 for the character itself")
	errURLPort    = badURL("the port has to be a number from 1 to 65535")
	errURLHost    = badURL("there is no host: write it as in smtp://mail.example.org:587")
	errURLUnix    = badURL("a unix socket is an absolute path, and has no host: write three slashes or one, " +
		"as in lmtp+unix:/run/dovecot/lmtp")
	errURLPath     = badURL("only unix sockets have a path: leave it out, or write %%2F if it is in a password")
	errURLUser     = badURL("in front of the @ has to be a user, or user:password: neither can be empty")
	errURLPassword = errors.New("smtp: the URL of the server has a user and no password: write user:password@ there, " +
		"or set Options.Credentials")
)

// urlParts are the parts of a URL, as they stand in it.
type urlParts struct {
	scheme   urlScheme
	userinfo string
	hasUser  bool
	host     string // with the port; empty for a unix socket
	path     string
	query    string
}

// splitURL takes a URL apart. It is stricter than url.Parse, and its errors do not have the URL in them.
func splitURL(s string) (p urlParts, err error) {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f }
	if strings.ContainsFunc(s, bad) || !utf8.ValidString(s) {
		return p, errURLSpace
	}
	name, rest, _ := strings.Cut(s, ":")
	i := slices.IndexFunc(urlSchemes, func(u urlScheme) bool { return strings.EqualFold(u.name, name) })
	if i < 0 {
		return p, errURLScheme
	}
	p.scheme = urlSchemes[i]
	rest, _, fragment := strings.Cut(rest, "#")
	if fragment {
		return p, badURL("it has a #: it has no fragment, and in a password the character is written %%23")
	}
	rest, p.query, _ = strings.Cut(rest, "?")
	authority, found := strings.CutPrefix(rest, "//")
	switch slash := strings.IndexByte(authority, '/'); {
	case !found && !p.scheme.unix:
		return p, errURLScheme
	case !found:
		authority, p.path = "", rest
	case slash >= 0:
		authority, p.path = authority[:slash], authority[slash:]
	}
	if authority != "" && strings.Contains(p.path, "@") || strings.Contains(p.query, "@") {
		return p, errURLEscape
	}
	p.host = authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		p.userinfo, p.host, p.hasUser = authority[:at], authority[at+1:], true
	}
	if p.scheme.name == "lmtp" && p.host == "" && len(p.path) > 1 {
		p.scheme.unix = true
	}
	return p, nil
}

// hostPort takes the host and the port apart. Port is "" if the URL has none.
func (p *urlParts) hostPort() (host, port string, err error) {
	host = p.host
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, port = host[:i], host[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", "", errURLPort
		}
		port = strconv.FormatUint(n, 10)
	}
	switch {
	case host == "":
		return "", "", errURLHost
	case host[0] == '[':
		host, err = urlAddress(host)
		return host, port, err
	case strings.Contains(host, ":"):
		return "", "", badURL("an IPv6 address stands in brackets, as in smtp://[2001:db8::1]:587")
	}
	host, err = url.PathUnescape(host)
	if err != nil {
		return "", "", errURLPercent
	}
	if has8bit([]byte(host)) {
		d, err := proto.ParseDomain(host)
		if err != nil {
			return "", "", badURL("%q is not the name of a host: %s", host, cause(err))
		}
		return d.ASCII(), port, nil
	}
	if strings.ContainsFunc(host, func(r rune) bool { return !isUnreserved(r) || r == '~' }) || host[0] == '.' {
		return "", "", badURL("%q is not the name of a host", host)
	}
	return host, port, nil
}

// urlAddress returns the IPv6 address that stands in brackets, with its zone (RFC 6874 section 2).
func urlAddress(s string) (string, error) {
	inner, closed := strings.CutSuffix(s[1:], "]")
	inner, zone, zoned := strings.Cut(inner, "%")
	a, err := netip.ParseAddr(inner)
	if !closed || err != nil || !a.Is6() {
		return "", badURL("in brackets has to be an IPv6 address, as in smtp://[2001:db8::1]:587")
	}
	if !zoned {
		return a.String(), nil
	}
	zone, encoded := strings.CutPrefix(zone, "25")
	if !encoded || zone == "" || strings.ContainsFunc(zone, func(r rune) bool { return !isUnreserved(r) }) {
		return "", badURL("the zone of an IPv6 address follows %%25, as in smtp://[fe80::1%%25eth0]:587")
	}
	return a.WithZone(zone).String(), nil
}

// isUnreserved reports whether r needs no percent-encoding anywhere in a URL (RFC 3986 section 2.3).
func isUnreserved(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune("-._~", r)
}

// user returns the user and the password, which is "" if there is none.
func (p *urlParts) user() (user, password string, err error) {
	if !p.hasUser {
		return "", "", nil
	}
	user, password, secret := strings.Cut(p.userinfo, ":")
	for _, s := range []*string{&user, &password} {
		if *s, err = url.PathUnescape(*s); err != nil {
			return "", "", errURLPercent
		}
		if !utf8.ValidString(*s) || strings.ContainsFunc(*s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", "", badURL("a user name or a password has to be UTF-8 without control characters")
		}
	}
	if user == "" || secret && password == "" {
		return "", "", errURLUser
	}
	return user, password, nil
}

// credentials returns what to authenticate with. A user without a password must not go unnoticed.
func (e *Endpoint) credentials(password string) ext.Credentials {
	switch {
	case e.User == "":
		return nil
	case password == "":
		return func(context.Context, ext.ClientConn) ([]sasl.Client, error) { return nil, errURLPassword }
	}
	return auth.Password(e.User, password, e.Mechanisms...)
}
