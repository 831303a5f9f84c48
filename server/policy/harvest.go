package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// Harvest slows down those who try names until some exist (directory harvest attacks), and then hangs up. Recipients
// that anything inside refuses with 5yz are counted: the first few are free; each further one makes the reply wait
// longer; after too many in a session the client gets 421.
//
//	mw, err := policy.Chain(policy.Harvest{}, policy.Relay{…}, policy.Recipients{…})
//
// So put it in front of what refuses. Recipients that exist are accepted at once, also after others that do not: a
// mailing list with some old addresses is slower, and loses nothing.
//
// The wait grows with what came from the network of the client in the last hour: an IPv4 address, or a /64 of IPv6. To
// connect again does not help. Hanging up depends on the session alone. A reply that waits holds a connection, of which
// Limits.Conns has so many; the wait ends when the client hangs up and when the server is closed.
//
// Its verdicts have the method "harvest", and "fail" as the result.
type Harvest struct {
	// Free is how many refused recipients have no wait. Default: 3. Negative: none is free.
	Free int
	// Delay is how much longer each further refusal waits than the one before. Default: 1 second. Negative: no wait.
	Delay time.Duration
	// MaxDelay is the longest wait. Default: 10 seconds. At most 2 minutes: clients wait 5 for a reply to RCPT.
	MaxDelay time.Duration
	// Limit is how many recipients may be refused in a session. For one more the client gets 421 in place of the refusal,
	// and the connection is closed. Default: 20. Negative: no limit but that of Limits.RefusedRcpts.
	Limit int
	// Skip reports whom to leave out. Default: those that Trusted() reports.
	Skip func(ctx context.Context, c *server.Conn) bool
}

// harvestWindow is the time in which the refusals of a network are forgotten.
const harvestWindow = time.Hour

// Middleware returns the check as middleware. It returns an error if MaxDelay is out of range.
func (h Harvest) Middleware() (server.Middleware, error) {
	if h.MaxDelay < 0 || h.MaxDelay > 2*time.Minute {
		return nil, optionError("Harvest", "MaxDelay", "%v is not between 0 and 2 minutes", h.MaxDelay)
	}
	if h.Free == 0 {
		h.Free = 3
	}
	if h.Delay == 0 {
		h.Delay = time.Second
	}
	if h.MaxDelay == 0 {
		h.MaxDelay = 10 * time.Second
	}
	if h.Limit == 0 {
		h.Limit = 20
	}
	if h.Skip == nil {
		h.Skip = Trusted()
	}
	h.Free, h.Delay = max(h.Free, 0), min(h.Delay, h.MaxDelay) // a longer one would overflow
	a := &harvest{Harvest: h}
	if h.Delay > 0 {
		// With this many the wait is the longest.
		n := min(int64(h.Free)+int64((h.MaxDelay+h.Delay-1)/h.Delay), 1<<20)
		a.networks = newBuckets(int(n), harvestWindow, maxKeys)
	}
	st := &stages[harvested, harvested]{method: "harvest", skip: h.Skip, answered: a.answered}
	return st.middleware(), nil
}

// A harvest is a Harvest at work.
type harvest struct {
	Harvest
	networks *buckets // nil if there is no wait
}

// A harvested is how many recipients were refused, of a client or of a transaction.
type harvested struct{ refused int }

func (a *harvest) answered(ctx context.Context, s *session[harvested, harvested], _ proto.Address, err error) error {
	refusal := (*proto.Error)(nil)
	if !errors.As(err, &refusal) || !refusal.Permanent() {
		return err
	}
	s.client.known.refused++
	n := s.client.known.refused
	if a.Limit > 0 && n > a.Limit {
		s.record("fail", fmt.Sprintf("%d recipients were refused", n), nil)
		return proto.Refuse(421, proto.Status{4, 7, 0}, "Too many recipients that do not exist, closing connection")
	}
	if a.networks == nil {
		return err
	}
	if network := networkOf(clientAddr(s.conn), 32, 64); network.IsValid() {
		n = max(n, a.networks.count(network.String()))
	}
	if n <= a.Free {
		return err
	}
	if s.transaction.known.refused++; s.transaction.known.refused == 1 {
		s.record("fail", fmt.Sprintf("%d recipients were refused, of this client or others of its network", n), nil)
	}
	wait := time.NewTimer(min(time.Duration(n-a.Free)*a.Delay, a.MaxDelay))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	return err
}
