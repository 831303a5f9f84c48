package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Options are the options of a server. For limits and timeouts zero is the default that the comment names and a
// negative value is none, except where a comment says that there must be a limit.
type Options struct {
	// Hostname is what the server calls itself: a fully-qualified domain name or an address literal (RFC 5321
	// section 2.3.5). Default: the name of the machine.
	Hostname string
	// Protocol is SMTP, the default, or LMTP (RFC 2033), which is not served on port 25.
	Protocol proto.Protocol
	// Extensions are what the server offers, in the order of the list; nil means ehlo.Default(), or ehlo.LMTP() if that is
	// the protocol. An empty list that is not nil makes a server without any. A submission server needs those of
	// ehlo.Submission, which bring its rules with them; for a relay there are those of ehlo.Relay.
	Extensions []ext.Extension

	// TLSConfig is what TLS is used with; without it there is none. It needs Certificates, or GetCertificate if they
	// are to be renewed while the server runs, and GetConfigForClient if keys of session tickets are: what is changed in it
	// after New has no effect. Versions before TLS 1.2 are not used (RFC 8314 section 4). If it has no NextProtos, the
	// server accepts of the protocols in a client's ALPN only "smtp", so that a browser cannot be led to it (ALPACA).
	TLSConfig *tls.Config
	// RequireTLS refuses mail on connections in clear with 530. A server that receives mail from anywhere must not
	// do so (RFC 3207 section 4).
	RequireTLS bool
	// RequireAuth refuses mail from clients that have not authenticated with 530. It needs sessions that can authenticate;
	// see package ext. A submission server has the rule already, among those of ehlo.SubmissionPolicy.
	RequireAuth bool
	// AllowInsecureAuth permits clients to send passwords over connections in clear.
	AllowInsecureAuth bool

	// Lax permits mistakes in MAIL and RCPT that are common and harmless: a space behind the colon, missing angle
	// brackets, dots in odd places of a local part, underscores in domains. Default: they are refused with 501.
	Lax bool

	// MaxSize is the largest message accepted, in octets of content. Larger ones are refused with 552. Default 64
	// MiB.
	MaxSize int64
	// MaxRcpts is how many recipients a transaction may have; more are refused with 452, to be sent in another one
	// (RFC 5321 section 4.5.3.1.10). Default 1000; there must be a limit. It should be 100 at least.
	MaxRcpts int
	// MaxConns is how many connections there may be at a time; more are told 421. Default 1000.
	MaxConns int
	// MaxConnsPerHost is how many of them may come from one IPv4 address or one /64 of IPv6 addresses. Default 100.
	MaxConnsPerHost int
	// MaxErrors is how many commands may be refused with 5yz, those of recipients apart, since a message was
	// accepted. The one too many is answered 421 and the connection closed. Default 20.
	MaxErrors int
	// MaxRefusedRcpts is how many recipients may be refused since a message was accepted, likewise. Default 100.
	MaxRefusedRcpts int
	// MaxJunk is how many commands that do nothing to transfer mail, such as NOOP and RSET, may come since a message
	// was accepted, likewise. Default 1000.
	MaxJunk int

	// CommandTimeout is how long a client may take to send a whole command line. Default 5 minutes (RFC 5321
	// section 4.5.3.2.7).
	CommandTimeout time.Duration
	// ContentTimeout is how long a client may take to send the next octets of a message. Default 5 minutes.
	ContentTimeout time.Duration
	// MinRate is how many octets of a message have to come in a second, on the average over the time that the server
	// has waited for them, once that is more than MinRateGrace. Defaults 100 octets and 10 minutes.
	MinRate      int
	MinRateGrace time.Duration
	// WriteTimeout is how long a client may take to accept replies. Default 5 minutes.
	WriteTimeout time.Duration
	// HandshakeTimeout is how long TLS handshakes, and other ways to hand a connection over, may take. Default 1
	// minute.
	HandshakeTimeout time.Duration
	// SessionTimeout is how long a connection may last. Default: no limit, since the other limits bound what it can
	// cost.
	SessionTimeout time.Duration

	// Trace has functions that are told what happens.
	Trace *Trace
	// Logger is told of errors that sessions return, of panics and of failures of the server. Default slog.Default().
	Logger *slog.Logger
}

// withDefaults returns o with defaults in place of zeros, and zeros in place of negative values.
func (o Options) withDefaults() (Options, error) {
	if err := o.check(); err != nil {
		return o, err
	}
	if o.Hostname == "" {
		o.Hostname, _ = os.Hostname()
		if !isName(o.Hostname) {
			o.Hostname = "localhost"
		}
	}
	if o.Extensions == nil {
		o.Extensions = ehlo.DefaultFor(o.Protocol)
	}
	if o.TLSConfig != nil {
		o.TLSConfig = hardened(o.TLSConfig)
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
	orDefault(&o.MaxSize, defaultMaxSize)
	orDefault(&o.MaxRcpts, defaultMaxRcpts)
	orDefault(&o.MaxConns, defaultMaxConns)
	orDefault(&o.MaxConnsPerHost, defaultMaxConnsPerHost)
	orDefault(&o.MaxErrors, defaultMaxErrors)
	orDefault(&o.MaxRefusedRcpts, defaultMaxRefusedRcpts)
	orDefault(&o.MaxJunk, defaultMaxJunk)
	orDefault(&o.CommandTimeout, defaultCommandTimeout)
	orDefault(&o.ContentTimeout, defaultContentTimeout)
	orDefault(&o.MinRate, defaultMinRate)
	orDefault(&o.MinRateGrace, defaultMinRateGrace)
	orDefault(&o.WriteTimeout, defaultWriteTimeout)
	orDefault(&o.HandshakeTimeout, defaultHandshakeTimeout)
	orDefault(&o.SessionTimeout, 0)
	return o, nil
}

func orDefault[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
	*v = max(*v, 0)
}

// check returns an error for options that contradict each other or cannot work.
func (o *Options) check() error {
	switch {
	case o.Protocol > proto.LMTP:
		return fmt.Errorf("smtp: Options.Protocol is %d: use proto.SMTP or proto.LMTP", o.Protocol)
	case o.Hostname != "" && !isName(o.Hostname):
		return fmt.Errorf("smtp: Options.Hostname is %q: use a domain name such as mail.example.org, "+
			"in ASCII and of at most %d octets", o.Hostname, longestHello)
	case o.RequireTLS && o.TLSConfig == nil:
		return errors.New("smtp: Options.RequireTLS is set and there is no TLSConfig: set TLSConfig")
	case o.RequireTLS && o.AllowInsecureAuth:
		return errors.New("smtp: Options.RequireTLS and AllowInsecureAuth contradict each other: set one of them")
	case o.TLSConfig != nil && len(o.TLSConfig.Certificates) == 0 && o.TLSConfig.GetCertificate == nil &&
		o.TLSConfig.GetConfigForClient == nil:
		return errors.New("smtp: Options.TLSConfig has no certificate, so that TLS can be offered and not used: set " +
			"Certificates or GetCertificate in it")
	case o.MaxRcpts < 0:
		return errors.New("smtp: Options.MaxRcpts is negative: it bounds memory, so there must be a limit")
	}
	return nil
}

// isName reports whether s can stand in a greeting.
func isName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= longestHello
}
