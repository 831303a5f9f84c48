package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// Options are the options of a server. The zero value is a server that receives mail from anywhere, safely: limits and
// timeouts have the defaults that their comments name. [New] copies the options; what is changed in them afterwards has
// no effect.
type Options struct {
	// Hostname is the name of the server: a fully-qualified domain name such as "mail.example.org", or an address literal
	// such as "[192.0.2.1]" (RFC 5321 section 2.3.5). It is sent in the greeting and in the reply to EHLO. A U-label is
	// sent as an A-label. Default: the name of the machine.
	Hostname string
	// Protocol is proto.SMTP, the default, or proto.LMTP (RFC 2033). LMTP is not served on TCP port 25.
	Protocol proto.Protocol
	// Extensions are the extensions that the server advertises, in the order of the list. Nil means ehlo.Default(), or
	// ehlo.LMTP() for LMTP; an empty list that is not nil means none. A submission server uses ehlo.Submission, which
	// brings the rules of submission along, and a relay ehlo.Relay.
	Extensions []ext.Extension

	// TLSConfig turns TLS on: STARTTLS on connections in plaintext, and ServeTLS. It must have Certificates or
	// GetCertificate. New copies it; to renew certificates while the server runs use GetCertificate. No version below
	// TLS 1.2 is used (RFC 8314 section 4), unless AllowObsoleteTLS is set. No session tickets are sent, unless
	// SessionTickets is set. Without NextProtos, a client that sends ALPN has to name "smtp", so that no browser can be
	// led to the server (ALPACA). What GetConfigForClient returns is treated in the same way. Default: no TLS.
	TLSConfig *tls.Config
	// SessionTickets lets clients resume their TLS sessions, which saves part of a handshake. To rotate the keys of the
	// tickets, use GetConfigForClient of TLSConfig. A TLSConfig with WrapSession asks for tickets too.
	//
	// Default: no tickets. The servers of outlook.com were seen to hang up when a server in Go sent a ticket in TLS 1.3,
	// and to deliver nothing (Go issue 70232). Set it on a server for users, who connect often.
	SessionTickets bool
	// AllowObsoleteTLS permits TLS 1.0 and TLS 1.1, down to TLSConfig.MinVersion. RFC 8996 forbids both. They are for
	// printers and alarm panels that know nothing newer: give those a listener and a [Service] of their own. Such a client
	// may need a cipher suite that package crypto/tls has switched off; TLSConfig.CipherSuites switches it on. Default:
	// TLS 1.2 or newer.
	AllowObsoleteTLS bool
	// RequireTLS refuses mail on connections in plaintext with 530. A server that receives mail from anywhere must not
	// require TLS (RFC 3207 section 4).
	RequireTLS bool
	// RequireAuth refuses mail with 530 until the client has authenticated. It needs sessions that can authenticate
	// clients, by an interface of package auth, and TLS unless AllowInsecureAuth is set. New returns an error if nobody
	// can authenticate, or the server logs one for the first session. The extensions of ehlo.Submission require it
	// already.
	RequireAuth bool
	// AllowInsecureAuth permits clients to send passwords on connections in plaintext, where others can read them.
	AllowInsecureAuth bool

	// Lax tolerates mistakes that are common and harmless: in MAIL and RCPT, missing angle brackets, dots in odd places
	// of a local part, and underscores in domains; HELO and EHLO without a name, or with one that is not ASCII. In
	// [Conn.Hello], such a name has A-labels, or "?" in place of what is not ASCII. Default: the server refuses all this
	// with 501. It always takes a space behind the colon in MAIL and RCPT, unless Strict is set.
	Lax bool
	// Strict refuses with 501 a space behind the colon in MAIL and RCPT, which RFC 5321 section 3.3 forbids and nearly
	// every server takes. It is for servers against which clients are tested. It cannot be set together with Lax.
	Strict bool

	// NormalizeNewlines accepts text in which a line ends with LF alone, with CR alone, or with CR CR LF. Scripts and
	// printers send such text. The session gets CRLF in place of each. Nothing but CRLF, dot, CRLF ends a message, so no
	// message can be hidden in another ("SMTP smuggling"). A signature of DKIM may not match any more. Command lines have
	// to end with CRLF, and binary content stays as it is. Default: text with a bare CR or LF is refused with 554.
	NormalizeNewlines bool

	// EarlyTalkers says what happens to clients that send before they may. Default: it is noted.
	EarlyTalkers EarlyTalkers
	// GreetingDelay is how long the server waits before the greeting, so that clients which do not wait for it show. A few
	// seconds are usual on port 25; at most 1 minute. The connection counts for Limits.Conns meanwhile. Default: no delay.
	GreetingDelay time.Duration

	// Limits bound what a client may send.
	Limits Limits
	// Exempt are networks to whose clients Limits.ConnsPerHost and the rates of Limits do not apply: your own, and
	// proxies in front of the server. Clients on the same machine have no rates anyway. Default: none.
	Exempt []netip.Prefix
	// Timeouts bound how long a client may take.
	Timeouts Timeouts
	// Stress returns the timeouts and limits that hold under a load, nil for those of Timeouts and Limits. Without it,
	// clients that say nothing for minutes could hold all connections. It is asked for each connection, handshake, MAIL
	// and RCPT, once a second under stress, and concurrently. It must be quick, and not call the server. Stress is over
	// when it has returned nil for 10 seconds. Clients in Exempt, and those on the same machine, feel no stress. Default:
	// [DefaultStress].
	Stress func(Load) *Stress

	// BaseContext returns the context from which those of the connections of a listener are derived. Its values reach
	// sessions and the Trace. When it ends, nothing happens to connections: that is for Shutdown and Close. Default:
	// [context.Background].
	BaseContext func(l net.Listener) context.Context
	// ConnContext returns the context of a connection, which has to be ctx or derived from it. Its values reach sessions,
	// extensions and the Trace. It is called once for each connection that is not over a limit, before anything else; with
	// XCLIENT and the PROXY protocol, c does not yet know the client. Default: ctx.
	ConnContext func(ctx context.Context, c *Conn) context.Context

	// Trace has functions that the server calls for what happens on connections. Default: none.
	Trace *Trace
	// Logger gets records of what goes wrong:
	//
	//   - at level Error, errors of sessions and extensions that are not a *proto.Error, mistakes of theirs such as a
	//     reply that cannot be sent, panics with their stack, and failures of Accept;
	//   - at level Warn, options that require authentication while there is no TLS for it; that the server comes under
	//     stress, and at level Info that this is over;
	//   - at level Info, a *proto.Error that has a cause in Err or is wrapped in another error, with the whole text of the
	//     outermost error; connections and commands over a limit; TLS handshakes that failed, and other failures of what
	//     an extension did with a connection; a [Verdict] with an error;
	//   - at level Debug, connections and their end, and each transaction with its outcome.
	//
	// A plain *proto.Error is not logged: use Trace.Reply for that. Each record about a connection has Conn.ID as
	// "conn", the address of the client as "remote", and that of the proxy in between, if there is one, as "peer".
	// Passwords and messages are never logged. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns o with defaults in place of zeros, and zeros in place of negative values.
func (o Options) withDefaults() (Options, error) {
	if err := o.check(); err != nil {
		return o, err
	}
	if o.Hostname == "" {
		o.Hostname = machineName()
	}
	if o.Extensions == nil {
		o.Extensions = ehlo.DefaultFor(o.Protocol)
	}
	if o.TLSConfig != nil {
		o.TLSConfig = o.harden(o.TLSConfig)
	}
	if o.Trace == nil {
		o.Trace = &Trace{}
	} else {
		trace := *o.Trace
		o.Trace = &trace
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Stress == nil {
		o.Stress = DefaultStress
	}
	o.Limits.setDefaults()
	o.Timeouts.setDefaults()
	return o, nil
}

// check returns an error for options that contradict each other or cannot work. It normalizes Hostname.
func (o *Options) check() error {
	if o.Hostname != "" {
		name, err := checkHostname(o.Hostname)
		if err != nil {
			return err
		}
		o.Hostname = name
	}
	switch {
	case o.Protocol > proto.LMTP:
		return fmt.Errorf("smtp: Options.Protocol is %d: use proto.SMTP or proto.LMTP", o.Protocol)
	case o.Lax && o.Strict:
		return errors.New("smtp: Options.Lax and Strict contradict each other: set one of them")
	case o.EarlyTalkers > RefuseEarly:
		return fmt.Errorf("smtp: Options.EarlyTalkers is %d: use NoteEarly, DelayEarly or RefuseEarly", o.EarlyTalkers)
	case o.GreetingDelay > maxGreetingDelay:
		return fmt.Errorf("smtp: Options.GreetingDelay is %v, and clients do not wait for ever: use at most %v",
			o.GreetingDelay, maxGreetingDelay)
	case o.RequireTLS && o.TLSConfig == nil:
		return errors.New("smtp: Options.RequireTLS is set and there is no TLSConfig: set TLSConfig")
	case o.RequireTLS && o.AllowInsecureAuth:
		return errors.New("smtp: Options.RequireTLS and AllowInsecureAuth contradict each other: set one of them")
	case o.TLSConfig != nil && len(o.TLSConfig.Certificates) == 0 && o.TLSConfig.GetCertificate == nil &&
		o.TLSConfig.GetConfigForClient == nil:
		return errors.New("smtp: Options.TLSConfig has no certificate, so that TLS can be offered and not used: set " +
			"Certificates or GetCertificate in it")
	}
	return errors.Join(o.Limits.check(), checkExempt(o.Exempt))
}

// checkHostname returns the name as it is sent, or an error that says what to do.
func checkHostname(name string) (string, error) {
	d, err := proto.ParseDomain(name)
	hint := "use a domain name such as mail.example.org, or an address literal such as [192.0.2.1]"
	switch {
	case strings.HasSuffix(name, "."):
		hint = "leave the dot at the end out"
	case isAddr(name):
		err = errors.New("smtp: an address is no domain name")
		hint = "write the address as a literal, such as [192.0.2.1] or [IPv6:2001:db8::1]"
	case err == nil:
		return d.ASCII(), nil
	case hasPort(name):
		hint = "leave the port out"
	}
	return "", fmt.Errorf("smtp: Options.Hostname is %q: %s (%s)", name, hint, strings.TrimPrefix(err.Error(), "smtp: "))
}

// isAddr reports whether name is an IP address without the brackets of a literal.
func isAddr(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// hasPort reports whether name ends with a port.
func hasPort(name string) bool {
	_, port, err := net.SplitHostPort(name)
	return err == nil && port != ""
}

// machineName returns the name of the machine, "localhost" if it cannot be sent. It is less strict than checkHostname:
// the name is often not the operator's choice.
func machineName() string {
	name, _ := os.Hostname()
	if !isGreetable(name) {
		return "localhost"
	}
	return name
}

// isGreetable reports whether name can stand in a greeting, and in EHLO: it is printable ASCII without spaces.
func isGreetable[T string | []byte](name T) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return len(name) > 0 && len(name) <= maxHello
}
