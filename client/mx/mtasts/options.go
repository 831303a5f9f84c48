package mtasts

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// Options are the options of a [Cache]. The zero value is ready to use, and nil stands for it.
type Options struct {
	// Resolver looks up the TXT records of domains, and the addresses of the hosts that serve policies. It should have a
	// cache: Lookup asks it each time. Default: dns.New(nil), which asks the system's name servers.
	Resolver dns.Resolver
	// Store keeps the policies. Default: MemoryStore(0), which forgets them when the program ends. A program that does
	// not run for ever should have a [DirStore], since a policy protects only those who remember it.
	Store Store
	// TLSConfig is for the connections to hosts that serve policies. RootCAs and Time are what it is for. The name to
	// verify is always that of the host, the version at least TLS 1.2, and InsecureSkipVerify is an error.
	TLSConfig *tls.Config
	// DialContext makes these connections. The network is "tcp", addr has an IP address and the port 443. It is called
	// by several goroutines at once. Default: that of a net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// RoundTripper fetches policies in place of the Cache's own, for instance through a proxy. TLSConfig and
	// DialContext are not used then. It must verify the host, must not follow redirects and must not cache, as an
	// http.Transport does. It must stop when the request's context ends.
	RoundTripper http.RoundTripper
	// Timeout bounds a fetch, from the look-up of addresses to the last octet. Default 1 minute, as RFC 8461 section
	// 3.3 suggests. A negative value means the default too.
	Timeout time.Duration
	// Wait is for how long Lookup waits for news if it has a policy that applies. Default 5 seconds. A negative value
	// means that it does not wait.
	Wait time.Duration
	// MaxFetches is how many hosts are asked for a policy at once. Others wait for their turn, and look in the DNS before
	// that. Where all hosts hang, one that has been asked for five seconds gives way to the next: its fetch fails. Default
	// 2048. A negative value means the default too.
	MaxFetches int
	// MaxRefreshes is how many domains beside those are asked at once to refresh a policy before it expires. Default 4.
	// A negative value means that policies are not refreshed ahead.
	MaxRefreshes int
	// MaxDomains is for how many domains the Cache remembers failures and when to refresh. Default 10000. A negative
	// value means the default too.
	MaxDomains int
	// Logger is told when a policy could not be refreshed that still applies, which may be an attack (RFC 8461 section
	// 10.2), and when the Store fails. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns a copy with the defaults filled in.
func (o *Options) withDefaults() (Options, error) {
	var with Options
	if o != nil {
		with = *o
	}
	if with.Resolver == nil {
		stub, err := dns.New(nil)
		if err != nil {
			return with, err
		}
		with.Resolver = stub
	}
	if with.Store == nil {
		with.Store = MemoryStore(0)
	}
	with.Timeout = positive(with.Timeout, time.Minute)
	with.Wait = cmp.Or(with.Wait, 5*time.Second)
	with.MaxFetches = positive(with.MaxFetches, 2048)
	with.MaxRefreshes = cmp.Or(with.MaxRefreshes, 4)
	with.MaxDomains = positive(with.MaxDomains, 10000)
	if with.Logger == nil {
		with.Logger = slog.Default()
	}
	if with.DialContext == nil {
		with.DialContext = new(net.Dialer).DialContext
	}
	if with.RoundTripper != nil {
		return with, nil
	}
	cfg := with.TLSConfig.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	if cfg.InsecureSkipVerify {
		return with, errors.New("smtp: mtasts.Options.TLSConfig has InsecureSkipVerify, but a policy from a host that was " +
			"not verified protects nobody; set RootCAs")
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"}
	with.RoundTripper = &transport{dialer{with.Resolver, with.DialContext}, cfg}
	return with, nil
}

func positive[T int | time.Duration](n, otherwise T) T {
	if n <= 0 {
		return otherwise
	}
	return n
}
