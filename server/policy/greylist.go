package policy

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// Greylist puts off mail from clients that the server does not know (RFC 6647). A mail server tries again, and is known
// from then on. Much of the software that sends spam does not.
//
//	policy.Greylist{}
//
// An attempt is the network of the client, the sender and a recipient. The first one is refused with 451 4.7.1, and a
// text that says when to come back. The same attempt passes when it comes again, not before Delay is over and within
// Window. After that all mail of that network passes for Lifetime, and that time begins again with each message.
//
// Put it last: after Relay and Recipients, so that only mail which would be taken is remembered, and after [DNSList],
// whose allow lists leave clients out.
//
// # Which reply refuses
//
// The reply to RCPT refuses. With the null sender it is the reply to the content, as some servers ask by MAIL FROM:<>
// and RCPT whether a mailbox exists, and send nothing (RFC 6647 section 4.2). What one recipient passes holds for the
// others of the transaction. Mail for postmaster alone always passes.
//
// # What it tells
//
// The method of its verdicts is "greylist". The result is "pass", "defer", or "temperror" if the Store fails: then
// the mail passes.
//
// # Several servers
//
// All mail exchangers of a domain should have one Store (RFC 6647 section 5). Otherwise a client that comes back to
// another one is put off again.
type Greylist struct {
	// Store remembers attempts and networks. Default: one in memory for 100,000 of them, see [NewGreylistMemory]. With
	// it, all clients are put off once more when the program has started again; [OpenGreylistFile] keeps them.
	Store GreylistStore
	// Delay is how long after the first attempt another one may pass. Default: 1 minute. Most servers come back after 5 to
	// 30 minutes, whatever it is.
	Delay time.Duration
	// Window is how long after the first attempt another one may pass at the latest. One that comes later is a first one
	// again. Default: 24 hours.
	Window time.Duration
	// Lifetime is how long what has passed is remembered after its last message. Default: 35 days, so that what is sent
	// once a month is not put off again. RFC 6647 section 5 has a week at least.
	Lifetime time.Duration
	// AllowAfter is how many attempts of a network have to pass before all its mail does. Default: 1, as in RFC 6647
	// section 5. Negative: never, so that each pair of a sender and a recipient is put off once.
	AllowAfter int
	// IPv4Bits and IPv6Bits are how many bits of an address are its network. The servers of a large sender take turns, so
	// one address is seldom enough. Default: 24 and 64.
	IPv4Bits, IPv6Bits int
	// AtContent refuses by the reply to the content for all senders. It costs the transfer of each message, and lets
	// servers that ask about a mailbox with a sender have their answer. Default: for the null sender alone.
	AtContent bool
	// Skip leaves clients out. Default: those of [Trusted] without networks, and those that an allow list of [DNSList]
	// vouches for. To leave out networks as well, and senders known to come back from elsewhere:
	//
	//	trusted := policy.Trusted(networks...)
	//	Skip: func(ctx context.Context, c *server.Conn) bool { return trusted(ctx, c) || policy.Vouched(c) }
	Skip func(ctx context.Context, c *server.Conn) bool
}

// A GreylistStore remembers the attempts and networks of a [Greylist]. Its methods are called concurrently. The context
// ends after 5 seconds at the latest. If one returns an error, or nothing by then, the mail passes, and the verdict has
// the error.
//
// To have one of your own, for several servers, keep the entries in a database under their keys. Get and Put need not
// be one step: if two clients get between, an entry is counted once in place of twice, and nothing worse.
type GreylistStore interface {
	// Get returns the entry that was put under a key, or the zero entry if there is none. The entry may have expired.
	Get(ctx context.Context, key string) (GreylistEntry, error)
	// Put puts an entry under a key, in place of the one that is there. The entry may be dropped once it has expired.
	Put(ctx context.Context, key string, e GreylistEntry) error
}

// MaxGreylistKey is how many octets a key of a GreylistStore has at most. They are letters, digits and "-_.:/".
const MaxGreylistKey = 64

// A GreylistEntry is what a [GreylistStore] remembers under a key: an attempt, or a network. Its times may be rounded
// to milliseconds.
type GreylistEntry struct {
	First   time.Time // when it was seen first
	Passes  int       // how many attempts have passed; 0 is an attempt that is waited for
	Expires time.Time // when it may be forgotten
}

// A boundedStore is a store whose methods return when their context ends.
type boundedStore struct {
	store GreylistStore
	calls calls
}

func (b *boundedStore) Get(ctx context.Context, key string) (GreylistEntry, error) {
	return within(ctx, &b.calls, greylistTimeout, func(ctx context.Context) (GreylistEntry, error) {
		return b.store.Get(ctx, key)
	})
}

func (b *boundedStore) Put(ctx context.Context, key string, e GreylistEntry) error {
	_, err := within(ctx, &b.calls, greylistTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, b.store.Put(ctx, key, e)
	})
	return err
}

// IsZero reports whether there is no entry.
func (e GreylistEntry) IsZero() bool { return e == GreylistEntry{} }

const (
	greylistTimeout  = 5 * time.Second // for a store
	greylistRecorded = 10              // how many first attempts of a transaction are remembered
)

// Middleware returns greylisting as middleware. It returns an error if an option is negative or too large, and if Delay
// is not shorter than Window.
func (g Greylist) Middleware() (server.Middleware, error) {
	for _, d := range []struct {
		field    string
		value    *time.Duration
		standard time.Duration
	}{
		{"Delay", &g.Delay, time.Minute},
		{"Window", &g.Window, 24 * time.Hour},
		{"Lifetime", &g.Lifetime, 35 * 24 * time.Hour},
	} {
		if *d.value < 0 {
			return nil, optionError("Greylist", d.field, "%v is negative; leave it 0 for %v", *d.value, d.standard)
		}
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	if g.Delay >= g.Window {
		return nil, optionError("Greylist", "Window", "%v ends before the Delay of %v; make it longer", g.Window, g.Delay)
	}
	var err error
	if g.IPv4Bits, err = prefixBits("Greylist", "IPv4Bits", g.IPv4Bits, 24, 32); err != nil {
		return nil, err
	}
	if g.IPv6Bits, err = prefixBits("Greylist", "IPv6Bits", g.IPv6Bits, 64, 128); err != nil {
		return nil, err
	}
	if g.AllowAfter == 0 {
		g.AllowAfter = 1
	}
	if g.Store == nil {
		g.Store = NewGreylistMemory(0)
	}
	g.Store = &boundedStore{store: g.Store}
	if g.Skip == nil {
		trusted := Trusted()
		g.Skip = func(ctx context.Context, c *server.Conn) bool { return trusted(ctx, c) || Vouched(c) }
	}
	st := &stages[struct{}, greylisted]{method: "greylist", skip: g.Skip}
	st.mail = func(_ context.Context, s *session[struct{}, greylisted], from proto.Address, _ proto.Params) error {
		s.transaction.known = greylisted{from: from, network: g.network(s.conn)}
		return nil
	}
	st.rcpt = func(ctx context.Context, s *session[struct{}, greylisted], to proto.Address, _ proto.Params) error {
		return g.rcpt(ctx, s, to)
	}
	st.content = func(_ context.Context, s *session[struct{}, greylisted], r io.Reader) (io.Reader, error) {
		if t := &s.transaction.known; !t.passed && t.refusal != nil {
			return nil, t.refusal
		}
		return r, nil
	}
	return st.middleware(), nil
}

// prefixBits returns how many bits of an address are its network.
func prefixBits(part, field string, bits, standard, most int) (int, error) {
	if bits == 0 {
		return standard, nil
	}
	if bits < 0 || bits > most {
		return 0, optionError(part, field, "%d is not between 1 and %d", bits, most)
	}
	return bits, nil
}

// A greylisted is what is known of a transaction.
type greylisted struct {
	from     proto.Address
	network  string
	passed   bool  // for all further recipients
	recorded int   // first attempts that were put into the store
	refusal  error // for the content
}

// rcpt decides about a recipient.
func (g *Greylist) rcpt(ctx context.Context, s *session[struct{}, greylisted], to proto.Address) error {
	t := &s.transaction.known
	if t.passed || isPostmaster(to) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, greylistTimeout)
	defer cancel()
	pass, wait, err := g.attempt(ctx, t, to)
	if err != nil {
		t.passed = true
		return failure{fmt.Errorf("smtp: the store of the greylist: %w", err)}
	}
	if pass != "" {
		t.passed = true
		s.record("pass", pass, nil)
		return nil
	}
	seconds := int64((wait + time.Second - 1) / time.Second)
	unit := "seconds"
	if seconds == 1 {
		unit = "second"
	}
	s.record("defer", fmt.Sprintf("%d %s to wait", seconds, unit), nil)
	refusal := proto.Refuse(451, proto.Status{4, 7, 1}, fmt.Sprintf("Greylisted, try again in %d %s", seconds, unit))
	if g.AtContent || t.from.IsNull() {
		t.refusal = refusal
		return nil
	}
	return refusal
}

// attempt returns why the attempt may pass, or for how long it has to wait.
func (g *Greylist) attempt(ctx context.Context, t *greylisted, to proto.Address) (string, time.Duration, error) {
	now := time.Now().Round(0) // by the clock on the wall, which goes on while a machine sleeps
	var network GreylistEntry
	var err error
	if g.AllowAfter > 0 {
		if network, err = g.get(ctx, t.network, now); err != nil {
			return "", 0, err
		}
		if network.Passes >= g.AllowAfter {
			return "the network " + t.network + " is known", 0, g.renew(ctx, t.network, network, now)
		}
	}
	key := greylistKey(t.network, t.from, to)
	e, err := g.get(ctx, key, now)
	if err != nil {
		return "", 0, err
	}
	if e.Passes > 0 {
		return "the sender and the recipient are known", 0, g.renew(ctx, key, e, now)
	}
	if e.IsZero() || e.First.After(now) { // the clock may have been put back
		if t.recorded++; t.recorded > greylistRecorded {
			return "", g.Delay, nil
		}
		e = GreylistEntry{First: now, Expires: now.Add(g.Window)}
		return "", g.Delay, g.Store.Put(ctx, key, e)
	}
	after := now.Sub(e.First)
	if after < g.Delay {
		return "", g.Delay - after, nil
	}
	e.Passes, e.Expires = 1, now.Add(g.Lifetime)
	err = g.Store.Put(ctx, key, e)
	if g.AllowAfter > 0 {
		if network.IsZero() {
			network.First = now
		}
		network.Passes++
		network.Expires = now.Add(g.Lifetime)
		err = errors.Join(err, g.Store.Put(ctx, t.network, network))
	}
	return "it has come again after " + after.Round(time.Second).String(), 0, err
}

// get returns an entry that has not expired, or the zero entry.
func (g *Greylist) get(ctx context.Context, key string, now time.Time) (GreylistEntry, error) {
	e, err := g.Store.Get(ctx, key)
	if err != nil || !now.Before(e.Expires) {
		return GreylistEntry{}, err
	}
	return e, nil
}

// renew lets an entry live for another Lifetime. It spares a busy network's Put for each message.
func (g *Greylist) renew(ctx context.Context, key string, e GreylistEntry, now time.Time) error {
	expires := now.Add(g.Lifetime)
	if expires.Sub(e.Expires) < min(time.Hour, g.Lifetime/8) {
		return nil
	}
	e.Expires = expires
	return g.Store.Put(ctx, key, e)
}

// network returns the key of the client's network.
func (g *Greylist) network(c *server.Conn) string {
	return networkKey(clientAddr(c), g.IPv4Bits, g.IPv6Bits)
}

// networkKey returns the network of an address, such as "192.0.2.0/24", or "local" for none.
func networkKey(a netip.Addr, bits4, bits6 int) string {
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "local"
	}
	return p.String()
}

// greylistKey returns the key of an attempt, which has one length whatever the client sends, and tells nobody who
// writes to whom.
func greylistKey(network string, from, to proto.Address) string {
	h := sha256.New()
	for _, text := range []string{network, from.Key(), to.Key()} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(text)))
		h.Write(n[:])
		io.WriteString(h, text)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// Vouched reports whether an allow list of a [DNSList] has vouched for the client: it has a verdict with the method
// "dnswl" and the result "pass". It is for the Skip of parts further inside.
func Vouched(c *server.Conn) bool {
	for _, v := range c.Verdicts() {
		if v.Method == "dnswl" && v.Result == "pass" {
			return true
		}
	}
	return false
}
