package mx

import (
	"container/list"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/dane"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext"
)

// maxWays bounds how many ways are kept. One that is forgotten is made anew, and shares no connection with the old one.
const maxWays = 10000

// A way is how a host is reached under one demand. All messages to the host under this demand share its connections,
// whatever their domain. Those under another demand do not: what is good enough for one domain is not for every other.
type way struct {
	key   wayKey
	pool  *pool.Pool
	addrs atomic.Pointer[[]netip.Addr] // of the host, as the last route had them
}

// A wayKey tells ways apart.
type wayKey struct {
	host    string
	channel Channel // the weakest that will do; Clear stands for TLS if it is to be had
	plain   bool    // TLS is not tried, since it has failed
	family  Family  // the zero value stands for both
	dane    string  // the TLSA records
}

// ways are the ways in use. The one that was not used for the longest time is forgotten.
type ways struct {
	mu   sync.Mutex
	all  map[wayKey]*list.Element // of *way
	used list.List
}

// get returns the way for k, which make makes if there is none.
func (w *ways) get(k wayKey, make func() (*way, error)) (*way, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.all[k]; e != nil {
		w.used.MoveToFront(e)
		return e.Value.(*way), nil
	}
	made, err := make()
	if err != nil {
		return nil, err
	}
	if w.all == nil {
		w.all = map[wayKey]*list.Element{}
	}
	w.all[k] = w.used.PushFront(made)
	if w.used.Len() > maxWays {
		oldest := w.used.Back()
		w.used.Remove(oldest)
		delete(w.all, oldest.Value.(*way).key)
	}
	return made, nil
}

// way returns the way to h for a demand. Records are the TLSA records, or nil.
func (d *Deliverer) way(h *Host, channel Channel, records *dane.Policy, plain bool) (*way, error) {
	k := wayKey{host: h.Name, channel: channel, plain: plain, family: d.family(h)}
	if records != nil && (channel == Matched || channel == Encrypted) {
		k.dane = fingerprint(records)
	}
	w, err := d.ways.get(k, func() (*way, error) {
		w := &way{key: k}
		var err error
		w.pool, err = d.group.Pool(net.JoinHostPort(target(h), strconv.Itoa(int(d.opt.Port))), d.options(w, h, records))
		return w, err
	})
	if err != nil {
		return nil, err
	}
	addrs := slices.Clone(h.Addrs)
	w.addrs.Store(&addrs)
	return w, nil
}

// target is the host as the client dials it.
func target(h *Host) string {
	if strings.HasPrefix(h.Name, "[") {
		return h.Addrs[0].String()
	}
	return h.Name
}

// fingerprint returns what tells one set of TLSA records from another.
func fingerprint(p *dane.Policy) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %q", p.Base, p.Names)
	for _, r := range p.Records {
		fmt.Fprintf(h, " %d %d %d %x", r.Usage, r.Selector, r.Matching, r.Data)
	}
	return string(h.Sum(nil))
}

// options returns the options of the connections of a way.
func (d *Deliverer) options(w *way, h *Host, records *dane.Policy) *client.Options {
	k, opt := w.key, *d.opt.Client
	config := opt.TLSConfig.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	switch {
	case k.plain:
		opt.TLS = ext.TLSInsecureNone
	case k.channel == Clear:
		opt.TLS = ext.TLSOpportunistic
	case k.dane != "":
		config = records.Config(config)
	}
	opt.TLSConfig = config
	name := h.Name
	opt.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) {
		return d.addresses(name, *w.addrs.Load(), k.family), nil
	}
	opt.DialContext = d.dial(name)
	opt.Trace = client.JoinTraces(opt.Trace, &client.Trace{Message: observe})
	return &opt
}

// addresses returns those of a host in the order in which they are tried now.
func (d *Deliverer) addresses(name string, known []netip.Addr, f Family) []netip.Addr {
	if f != PreferIPv6 {
		known = f.arrange(known)
	}
	return d.memory.order(name, known, max(2, d.opt.MaxAddresses/2))
}

// dial returns a function that dials an address of a host, and has the memory know what came of it.
func (d *Deliverer) dial(name string) func(context.Context, string, string) (net.Conn, error) {
	dial, patience := d.opt.Client.DialContext, d.opt.Client.AttemptDelay
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		began := time.Now()
		conn, err := dial(ctx, network, addr)
		// An attempt that was given up for another address counts if it had as much time as the other one waited.
		given := ctx.Err() == context.Canceled && (patience < 0 || time.Since(began) < patience)
		if at, bad := netip.ParseAddrPort(addr); bad == nil && (err == nil || !given) {
			d.memory.dialled(name, at.Addr().Unmap(), err == nil)
		}
		return conn, err
	}
}

// family returns which addresses of h are used: those of one family alone if the host has lately refused what comes
// from this host's address of the other one.
func (d *Deliverer) family(h *Host) Family {
	f := PreferIPv6
	isFour := func(a netip.Addr) bool { return a.Is4() }
	isSix := func(a netip.Addr) bool { return a.Is6() }
	if !slices.ContainsFunc(h.Addrs, isFour) || !slices.ContainsFunc(h.Addrs, isSix) {
		return f
	}
	d.memory.site(h.Name, func(s *site) {
		switch four, six := s.isRefused(0), s.isRefused(1); {
		case four && !six:
			f = OnlyIPv6
		case six && !four:
			f = OnlyIPv4
		}
	})
	return f
}

// A flight is how the goroutine of a connection tells over which one a message is sent.
type flight struct {
	check bool // a certificate that does not have to verify is looked at too

	mu   sync.Mutex
	over link
}

// A link is the connection over which a message was sent. The zero value is none.
type link struct {
	addr     netip.AddrPort // of the host
	local    netip.Addr     // of this host
	tls      *tls.ConnectionState
	verified bool
	weakness error // what is wrong with the certificate, if that was looked at
}

type flightKey struct{}

// observe notes over which connection a message is sent.
func observe(ctx context.Context, c *client.Client, _ *client.Message) func(*client.Result, error) {
	f, ok := ctx.Value(flightKey{}).(*flight)
	if !ok {
		return nil
	}
	l := link{addr: addrPort(c.RemoteAddr()), local: addrPort(c.LocalAddr()).Addr(), tls: c.TLS(), verified: c.Verified()}
	if f.check {
		l.weakness = c.CertificateError()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = l
	return nil
}

// link returns the connection over which the message was sent last.
func (f *flight) link() link {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(t.AddrPort().Addr().Unmap(), t.AddrPort().Port())
}

// channel returns what the connection was, if checked says that its certificate was looked at in any case.
func (l *link) channel(demanded Channel, checked bool) Channel {
	switch {
	case l.tls == nil:
		return Clear
	case demanded == Matched:
		return Matched
	case l.verified || checked && l.weakness == nil:
		return Verified
	}
	return Encrypted
}
