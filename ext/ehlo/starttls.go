package ehlo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// StartTLS returns the extension STARTTLS (RFC 3207), by which a connection in plaintext changes to TLS.
//
// A server offers it in plaintext if its options have a TLS configuration. After the handshake the session begins
// again, and the server has forgotten all that the client said before. A command injected behind STARTTLS becomes part
// of the handshake, which fails.
//
// A client uses it as the mode in its policy demands. In TLSRequired and TLSIfOffered, any reply but 220 ends the
// session with an [ext.TLSError]. In TLSOpportunistic, the client goes on in plaintext if the server refuses. A failed
// handshake ends the session in all modes, since neither side can tell where plaintext would begin again. In
// TLSOpportunistic the error is temporary then, and [ext.TLSError] has Optional set. The client uses TLS 1.2 or later
// (RFC 8314 section 4).
//
// The extension is in [Default].
func StartTLS() ext.Extension {
	return ext.Extension{
		Keyword: "STARTTLS",
		Verbs: []proto.Verb{{
			Name: "STARTTLS", In: proto.Ready, Last: true, BeforeAuth: true, OK: proto.Handover,
		}},
		Advertise: func(x ext.ServerConn) (string, bool) { return "", x.TLS() == nil && x.TLSConfig() != nil },
		Serve:     serveStartTLS,
		Negotiate: negotiateStartTLS,
	}
}

func serveStartTLS(ctx context.Context, x ext.Command) (proto.Reply, error) {
	config := x.TLSConfig()
	switch {
	case x.Args() != "":
		return proto.Reply{}, grammar.BadArgs("STARTTLS takes no arguments")
	case x.TLS() != nil:
		return proto.Reply{}, proto.Refuse(503, proto.Status{5, 5, 1}, "TLS is active already")
	case config == nil:
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "TLS is not available here")
	}
	ready := proto.Reply{Code: 220, Status: proto.Status{2, 0, 0}, Text: "Ready to start TLS"}
	return proto.Reply{}, x.Handover(ctx, ready, func(ctx context.Context, conn net.Conn) (net.Conn, error) {
		return handshake(ctx, tls.Server(conn, config))
	})
}

func negotiateStartTLS(ctx context.Context, c ext.Negotiation) error {
	p := c.Policy()
	if c.TLS() != nil || p.TLS != ext.TLSRequired && p.TLS != ext.TLSOpportunistic && p.TLS != ext.TLSIfOffered {
		return nil
	}
	r, err := c.Do(ctx, "STARTTLS", "")
	if err != nil {
		return err
	}
	attempt := startTLSAttempt{optional: p.TLS == ext.TLSOpportunistic}
	if r.Code != 220 {
		if attempt.optional && r.Code >= 400 {
			return nil
		}
		if r.Code < 400 {
			return attempt.fail(ctx, fmt.Errorf("the server answered STARTTLS with %d; only 220 is an answer (RFC 3207 "+
				"section 4)", r.Code))
		}
		return attempt.fail(ctx, r.Err())
	}
	config := p.TLSConfig.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	if attempt.optional {
		config.InsecureSkipVerify = true
		attempt.watch(config)
	}
	err = c.Handover(ctx, func(ctx context.Context, conn net.Conn) (net.Conn, error) {
		return handshake(ctx, tls.Client(conn, config))
	})
	if err != nil {
		return attempt.fail(ctx, explainPlaintext(err))
	}
	return nil
}

// A startTLSAttempt is a client's attempt to start TLS.
type startTLSAttempt struct {
	optional bool // the policy permits to go on without TLS
	rejected bool // a function of the user's has rejected the server
}

// watch notes whether the functions in config that verify the server reject it.
func (a *startTLSAttempt) watch(config *tls.Config) {
	if verify := config.VerifyConnection; verify != nil {
		config.VerifyConnection = func(s tls.ConnectionState) error {
			err := verify(s)
			a.rejected = a.rejected || err != nil
			return err
		}
	}
	if verify := config.VerifyPeerCertificate; verify != nil {
		config.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
			err := verify(raw, chains)
			a.rejected = a.rejected || err != nil
			return err
		}
	}
}

// fail returns the error for an attempt that failed because of err. The context is that of the whole call: a handshake
// that took too long has one of its own.
func (a *startTLSAttempt) fail(ctx context.Context, err error) error {
	return &ext.TLSError{Err: err, Optional: a.optional && !a.rejected && ctx.Err() == nil}
}

// explainPlaintext adds to the error of a handshake what the server sent if it went on in plaintext, as one does that
// answers 220 and then finds that it has no certificate. What it sent may be the beginning of a reply.
func explainPlaintext(err error) error {
	e, ok := grammar.AsType[tls.RecordHeaderError](err)
	if !ok {
		return err
	}
	return fmt.Errorf("%w: the server went on with %q after it had agreed to TLS", err, e.RecordHeader[:])
}

func handshake(ctx context.Context, c *tls.Conn) (net.Conn, error) {
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c, nil
}
