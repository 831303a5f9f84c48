package ehlo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// ATRN returns the extension ATRN, on-demand mail relay (RFC 2645), by which a customer without a fixed address fetches
// its mail by SMTP. The customer connects to the provider that keeps its mail, authenticates, and reverses the roles:
// the provider becomes the client on that connection and sends what it has.
//
// A server, that of the provider, offers it if the session implements [ATRNSession]. It refuses ATRN with 530 before
// the client has authenticated. Serve it on port 366, which is for ATRN alone. A server with a [SubmissionPolicy]
// cannot use the extension.
//
// On a client, that of the customer, call [SendATRN].
//
// The extension is not in [Default]: add it to the lists of both sides.
func ATRN() ext.Extension {
	return ext.Extension{
		Keyword:    "ATRN",
		Interfaces: []reflect.Type{reflect.TypeFor[ATRNSession]()},
		Role:       ext.NeverSubmission, // RFC 6409 section 7
		Verbs:      []proto.Verb{{Name: "ATRN", In: proto.Ready, Last: true, OK: proto.Handover}},
		MinTimeout: 10 * time.Minute, // RFC 2645 section 5.2.1
		Advertise:  advertiseTo[ATRNSession](),
		Serve:      serveATRN,
	}
}

// An ATRNSession is a session of a provider, which keeps mail for customers.
type ATRNSession interface {
	// Reverse returns a function that sends the mail of the domains, or all mail of the client if domains is empty. The
	// client has authenticated as Identity of server.Conn. The server calls the function after the reply, and the function
	// sends the mail with a client of its own:
	//
	//	func(ctx context.Context, conn net.Conn) error {
	//		c, err := client.NewClient(ctx, conn, "", &client.Options{TLS: ext.TLSInsecureNone})
	//		if err != nil {
	//			return err
	//		}
	//		defer c.Close()
	//		…
	//
	// The client needs no TLS of its own: the connection already has it if the customer wanted it. The function may take
	// as long as it needs. Its context ends when the server is closed, and Shutdown waits for it. When it returns, the
	// server closes the connection, and logs the error.
	//
	// Reverse returns [ErrNoMail] if no mail waits. It returns [ErrNotYours] if the client has no access to one of the
	// domains, or comes too often. A *proto.Error is the reply. After any other error the client gets 451.
	Reverse(ctx context.Context, domains []proto.Domain) (send func(ctx context.Context, conn net.Conn) error, err error)
}

// The refusals of an [ATRNSession] (RFC 2645 section 7), which the errors of [SendATRN] wrap. An [ETRNSession] may
// return ErrNotYours too.
var (
	ErrNoMail   = errors.New("smtp: there is no mail for these domains")
	ErrNotYours = errors.New("smtp: no access to the mail of one of these domains, or not so soon again")
)

func serveATRN(ctx context.Context, x ext.Command) (proto.Reply, error) {
	r, ok := ext.As[ATRNSession](x.Session())
	if !ok {
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "No mail is kept for relay on demand here")
	}
	if x.Identity() == "" {
		return proto.Reply{}, proto.Refuse(530, proto.Status{5, 7, 0}, "Authentication required")
	}
	domains, err := parseDomains(x.Args())
	if err != nil {
		return proto.Reply{}, grammar.BadArgs(err.Error())
	}
	send, err := r.Reverse(ctx, domains)
	switch {
	case errors.Is(err, ErrNoMail):
		return proto.Reply{}, proto.Refuse(453, proto.Status{4, 2, 0}, "You have no mail")
	case errors.Is(err, ErrNotYours):
		// RFC 2645 section 7 has a temporary code, even for a customer who will never have access.
		return proto.Reply{}, proto.Refuse(450, proto.Status{4, 7, 1}, "ATRN request refused")
	case err != nil:
		return proto.Reply{}, err
	case send == nil:
		return proto.Reply{}, errors.New("smtp: the session returned neither a function for ATRN nor an error")
	}
	reversing := proto.Reply{Code: 250, Status: proto.Status{2, 0, 0}, Text: "OK, now reversing the connection"}
	return proto.Reply{}, x.Surrender(ctx, reversing, send)
}

// parseDomains reads domain *("," domain), or nothing. It rejects address literals (RFC 2645 section 5.2.1).
func parseDomains(args string) ([]proto.Domain, error) {
	if args == "" {
		return nil, nil
	}
	var domains []proto.Domain
	for text := range strings.SplitSeq(args, ",") {
		d, err := proto.ParseDomain(text)
		if err != nil || d.Addr().IsValid() || !grammar.Printable(text) {
			return nil, errors.New("ATRN takes domain names, with commas and no spaces between them")
		}
		domains = append(domains, d)
	}
	return domains, nil
}

// SendATRN asks the provider at the other end of c, such as a *client.Client, for the mail of the domains. Empty
// domains ask for all mail of the customer. The client has to have authenticated. It waits for the reply for at least
// 10 minutes.
//
// If the provider has mail, SendATRN calls serve with ctx and the connection, on which the customer is now the server.
// Pass the ServeConn method of a *server.Server. If c had TLS, so has the connection: the server uses it and does not
// offer STARTTLS. SendATRN returns the error of serve, and c is closed.
//
// If the provider refuses, SendATRN returns a *proto.Error, which wraps [ErrNoMail] for code 453 and [ErrNotYours] for
// 450. Then c can be used further.
func SendATRN(
	ctx context.Context, c ext.Client, domains []proto.Domain, serve func(context.Context, net.Conn) error,
) error {
	names := make([]string, len(domains))
	for i, domain := range domains {
		if names[i] = domain.ASCII(); domain.Addr().IsValid() || names[i] == "" {
			return fmt.Errorf("smtp: ATRN cannot ask for the mail of %q: it is not a domain name", domain.String())
		}
	}
	return c.Converse(ctx, func(ctx context.Context, c ext.ClientConn) error {
		causes := map[int]error{453: ErrNoMail, 450: ErrNotYours}
		if _, err := sendCommand(ctx, c, "ATRN", strings.Join(names, ","), causes); err != nil {
			return err
		}
		return reverseRoles(ctx, c, serve)
	})
}

// reverseRoles hands the connection of c to serve, and closes c.
func reverseRoles(ctx context.Context, c ext.ClientConn, serve func(context.Context, net.Conn) error) error {
	state := c.TLS()
	var served error
	ran := false
	err := c.Handover(ctx, func(_ context.Context, conn net.Conn) (net.Conn, error) {
		// The context of a hand-over is for something quick, such as a handshake: serve gets the caller's.
		if state != nil {
			conn = &reversedConn{conn, *state}
		}
		ran, served = true, serve(ctx, conn)
		return nil, errRolesReversed
	})
	if !ran {
		return err
	}
	return served
}

// errRolesReversed is the reason for which a client is closed after ATRN.
var errRolesReversed = errors.New("smtp: ATRN has reversed the roles")

// A reversedConn is a connection that had TLS before the roles were reversed. By its two methods the server recognises
// a connection with TLS.
type reversedConn struct {
	net.Conn
	state tls.ConnectionState
}

func (r *reversedConn) ConnectionState() tls.ConnectionState { return r.state }

func (r *reversedConn) HandshakeContext(context.Context) error { return nil }
