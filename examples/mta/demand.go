package main

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// StartQueue is ETRN: the mail for a domain of -route is sent now. It is not for other domains: nobody is to find out
// what waits for whom.
func (s *session) StartQueue(ctx context.Context, node ehlo.Node) (pending int, err error) {
	d, err := domain(node.Name)
	if _, ok := s.config.routes[d]; err != nil || !ok || node.Below || node.Queue {
		return 0, ehlo.ErrNotYours
	}
	if !s.asked.first(d, time.Now()) {
		return 0, proto.Refuse(458, proto.Status{4, 7, 1}, "Asked a moment ago; ask again in "+askedAgain.String())
	}
	return s.queue.Retry(ctx, queue.Filter{Destination: "=" + d})
}

// askedAgain is how long it takes until ETRN for a domain has the queue go through its mail again. Anyone may ask.
const askedAgain = 5 * time.Second

// An asked knows when somebody has asked for the mail of a domain.
type asked struct {
	mu sync.Mutex
	at map[string]time.Time
}

// first reports whether nobody has asked within askedAgain.
func (a *asked) first(domain string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.at[domain]; ok && now.Sub(at) < askedAgain {
		return false
	}
	if a.at == nil {
		a.at = map[string]time.Time{}
	}
	a.at[domain] = now
	return true
}

// A customer is a session on the port for ATRN, where users fetch the mail of their domains.
type customer struct{ submission }

func (s *customer) Mail(context.Context, proto.Address, proto.Params) error {
	return proto.Refuse(550, proto.Status{5, 7, 1}, "Mail is not taken here, but fetched by ATRN")
}

// Reverse sends what waits for the domains, or for all of the user, over his own connection.
func (s *customer) Reverse(ctx context.Context, domains []proto.Domain) (func(context.Context, net.Conn) error, error) {
	var routes []string
	for d, name := range s.config.demand {
		if name == s.conn.Identity() && (len(domains) == 0 ||
			slices.ContainsFunc(domains, func(a proto.Domain) bool { return a.Key() == d })) {
			routes = append(routes, d)
		}
	}
	if len(routes) == 0 || len(domains) > 0 && len(routes) < len(domains) {
		return nil, ehlo.ErrNotYours
	}
	waits := false
	for _, d := range routes {
		jobs, _, err := s.queue.List(ctx, queue.Filter{Destination: "=" + d}, queue.JobID{}, 1)
		if err != nil {
			return nil, err
		}
		waits = waits || len(jobs) > 0
	}
	if !waits {
		return nil, ehlo.ErrNoMail
	}
	return func(ctx context.Context, conn net.Conn) error {
		c, err := client.NewClient(ctx, conn, "", &client.Options{Hostname: s.config.hostname, TLS: ext.TLSInsecureNone})
		if err != nil {
			return err
		}
		defer c.Close()
		n, err := s.queue.Fetch(ctx, routes, c)
		s.log.Info("fetched", "user", s.conn.Identity(), "domains", routes, "recipients", n)
		return err
	}, nil
}

// ClearPassword is for CRAM-MD5, which RFC 2645 section 5.1 demands.
func (s *customer) ClearPassword(_ context.Context, name string) (string, error) {
	if u := s.config.user(name); u != nil {
		return u.password, nil
	}
	return "", auth.ErrCredentials
}

// FilterMechanisms leaves CRAM-MD5 alone on a connection without TLS.
func (s *customer) FilterMechanisms(names []string) []string {
	if s.conn.TLS() != nil {
		return names
	}
	return slices.DeleteFunc(names, func(name string) bool { return name != "CRAM-MD5" })
}

var (
	_ ehlo.ETRNSession          = (*session)(nil)
	_ ehlo.ATRNSession          = (*customer)(nil)
	_ auth.ClearPasswordSession = (*customer)(nil)
	_ auth.FilterSession        = (*customer)(nil)
)
