package ehlo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// ATRN returns the extension ATRN, on-demand mail relay (RFC 2645): a host without a fixed address, the customer,
// connects to the provider that keeps its mail, authenticates, and has the roles reversed. From then on the provider
// is the client on that connection, and sends what it has.
//
// A server offers it if the session is a [ATRNSession]. It is not among the extensions of [Default], and belongs on port
// 366, which is for it alone. A customer calls [SendATRN].
func ATRN() ext.Extension {
	return ext.Extension{
		Keyword:    "ATRN",
		Role:       ext.NeverSubmission, // RFC 6409 section 7
		Verbs:      []proto.Verb{{Name: "ATRN", In: proto.Ready, Last: true, OK: proto.Handover}},
		MinTimeout: 10 * time.Minute, // RFC 2645 section 5.2.1
		Advertise:  advertiseTo[ATRNSession](),
		Serve:      serveATRN,
	}
}

// A ATRNSession is a session of a provider, which relays mail on demand.
type ATRNSession interface {
	// Reverse is asked for the mail of the domains, or of all that the client has access to if there are none. It
	// returns a function that sends it, with a client of its own:
	//
	//	func(ctx context.Context, conn net.Conn) error {
	//		c, err := client.NewClient(ctx, conn, "", &client.Options{TLS: ext.TLSInsecureNone})
	//		if err != nil {
	//			return err
	//		}
	//		defer c.Close()
	//		…
	//
	// That the client asks for no TLS is because the connection has it already if the customer wanted it. The
	// function may take its time. Its context ends when the server is closed; Shutdown waits for it. The connection is
	// closed when it returns, and an error is logged.
	//
	// Instead Reverse returns [ErrNoMail] if there is none, and [ErrNotYours] if the client has no access to one of the
	// domains or has come too often. With any other error nobody can tell: the client is told 451, unless it is a
	// *proto.Error. The client has authenticated; ServerConn.Identity tells as whom.
	Reverse(ctx context.Context, domains []proto.Domain) (send func(ctx context.Context, conn net.Conn) error, err error)
}

// What a [ATRNSession] refuses with, and what the errors of [SendATRN] wrap if a provider does (RFC 2645 section 7).
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
		// Temporary, as the RFC has it, although it may be for ever.
		return proto.Reply{}, proto.Refuse(450, proto.Status{4, 7, 1}, "ATRN request refused")
	case err != nil:
		return proto.Reply{}, err
	case send == nil:
		return proto.Reply{}, errors.New("smtp: the session returned neither a function for ATRN nor an error")
	}
	reversing := proto.Reply{Code: 250, Status: proto.Status{2, 0, 0}, Text: "OK, now reversing the connection"}
	return proto.Reply{}, x.Surrender(ctx, reversing, send)
}

// parseDomains reads domain *("," domain), or nothing. Address literals are not domains here (RFC 2645 section 5.2.1).
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

// SendATRN asks the provider at the other end of c, such as a *client.Client, for the mail of the domains, or of all that
// the customer has access to if there are none. If the provider has any, it calls serve with the connection, on which
// the customer is now the server; the ServeConn of a *server.Server fits. Its context is ctx.
//
// SendATRN returns what serve returned once that is done, and c is closed. If the provider refuses, it returns the
// *proto.Error, and c can be used on; it wraps [ErrNoMail] for the code 453 and [ErrNotYours] for 450. The client has
// to have authenticated, and waits for the reply for 10 minutes at least.
//
// The connection that serve is given has TLS if c had; then the server takes it as it is and does not offer STARTTLS.
func SendATRN(ctx context.Context, c ext.Client, domains []proto.Domain, serve func(context.Context, net.Conn) error) error {
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

// reverse hands the connection of c to serve, and closes c.
func reverseRoles(ctx context.Context, c ext.ClientConn, serve func(context.Context, net.Conn) error) error {
	state := c.TLS()
	var served error
	ran := false
	err := c.Handover(ctx, func(_ context.Context, conn net.Conn) (net.Conn, error) {
		// Not the context of a hand-over, which bounds something quick such as a handshake.
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

// errRolesReversed is why a client is closed after ATRN.
var errRolesReversed = errors.New("smtp: ATRN has reversed the roles")

// reversed is a connection on which TLS was started before the roles were reversed. The two methods are those by which
// a server knows such a connection.
type reversedConn struct {
	net.Conn
	state tls.ConnectionState
}

func (r *reversedConn) ConnectionState() tls.ConnectionState { return r.state }

func (r *reversedConn) HandshakeContext(context.Context) error { return nil }
