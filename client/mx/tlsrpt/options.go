package tlsrpt

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

// Options are the options of a [Collector]. Organization and Contact are required, and Resolver for [Collector.Run].
type Options struct {
	// Organization is the name of the organization that reports, such as "Example Ltd".
	Organization string
	// Contact is the mail address of those who answer questions about the reports, such as "tls-reports@example.org". Its
	// domain is the one that is said to have sent the reports, so it has to be the one that DKIM signs for.
	Contact string
	// From is the sender of reports by mail, in the header and in the envelope. The default is Contact. Bounces go there.
	From string

	// Sender sends reports by mail. It has to sign them with DKIM for the domain of Contact, since a receiver must ignore
	// a report without that (RFC 8460 section 3). Without a Sender, nothing is sent to destinations of the form mailto.
	// Each report has one recipient. It has the header field TLS-Required, by which it gets through although TLS fails.
	Sender client.Sender
	// Resolver finds out who asks for reports, and finds the hosts to which they go by HTTPS.
	Resolver dns.Resolver
	// RoundTripper sends reports by HTTPS. It follows no redirects. The default is a transport without a proxy, which asks
	// Resolver for addresses, and does not send to addresses that are loopback, private or link-local: the URI comes from
	// a stranger. The certificate is verified.
	RoundTripper http.RoundTripper
	// The default RoundTripper connects with DialContext, to addresses that are IP addresses and a port, and uses
	// TLSConfig. The defaults are those of a net.Dialer and of crypto/tls. AllowPrivate lets it send to all addresses.
	DialContext  func(ctx context.Context, network, addr string) (net.Conn, error)
	TLSConfig    *tls.Config
	AllowPrivate bool

	// Store keeps what is counted, so that it outlasts the process. The default is to keep it in memory alone.
	// [FileStore] makes one.
	Store Store
	// SaveInterval is how often Run saves to the Store. Default 5 minutes. This much is lost if the process is killed.
	SaveInterval time.Duration

	// MaxDelay is how long after the end of a day the reports on it are sent at the latest: each at a random time before.
	// Default 4 hours (RFC 8460 section 4.1). Negative is no delay.
	MaxDelay time.Duration
	// Timeout is how long it may take to send a report to one destination. Default 5 minutes.
	Timeout time.Duration
	// Concurrency is how many reports are sent at once. Default 4.
	Concurrency int

	// These bound the memory. They hold for each of the three days that may be kept. Zero and negative values stand for
	// the default.

	// MaxDomains is how many domains are counted. Events of more domains are dropped: see [Stats]. Default 50,000.
	MaxDomains int
	// MaxFailures is how many different failures of a domain are kept. More are counted by their result type alone.
	// Default 200.
	MaxFailures int
	// MaxMemory is about how many octets all of it takes. Then no more domains are counted, and no more policies and
	// failures kept apart. Default 64 MiB.
	MaxMemory int

	// Trace has functions that are called when something happens.
	Trace *Trace
}

// A Trace has functions that are called when something happens in a [Collector]. Each may be nil. They are called by
// several goroutines at once.
type Trace struct {
	// Sent is called when a report was sent to a destination, or could not be: then err says why. A [client.Temporary]
	// error may be tried again.
	Sent func(ctx context.Context, r *Report, destination string, err error)
	// Dropped is called when a report is given up. Err is nil if the domain does not ask for reports.
	Dropped func(ctx context.Context, r *Report, err error)
	// Saved is called when the Store has saved what is counted, or has failed to.
	Saved func(err error)
}

// An OptionError says what is wrong with the options of a [Collector].
type OptionError struct {
	Field string // of Options
	Err   error
}

func (e *OptionError) Error() string {
	return "smtp: tlsrpt.Options." + e.Field + ": " + strings.TrimPrefix(e.Err.Error(), "smtp: ")
}

// Unwrap returns the reason.
func (e *OptionError) Unwrap() error { return e.Err }

var (
	errOrganization = errors.New("it is empty: give the name of the organization that reports")
	errNoContact    = errors.New("it is empty: give a mail address, such as tls-reports@example.org")
	errContact      = errors.New("a domain name has to be behind the @, and nothing in UTF-8 in front of it")
	errResolver     = errors.New("it is nil: without it nobody knows who asks for reports")
)

// A settings has the options with defaults, and what is parsed of them.
type settings struct {
	Options
	from      proto.Address
	submitter string // the domain of Contact
	limits    limits
}

func (o *Options) settings() (*settings, error) {
	s := &settings{}
	if o != nil {
		s.Options = *o
	}
	if strings.TrimSpace(s.Organization) == "" {
		return nil, &OptionError{"Organization", errOrganization}
	}
	if s.Contact == "" {
		return nil, &OptionError{"Contact", errNoContact}
	}
	contact, err := proto.ParseAddress(s.Contact)
	if err == nil && (!isDomain(contact.Domain.Key()) || !isASCII(contact.Local)) {
		err = errContact
	}
	if err != nil {
		return nil, &OptionError{"Contact", err}
	}
	s.submitter = contact.Domain.Key()
	s.Contact, s.from = ascii(contact), contact
	if s.From != "" {
		if s.from, err = proto.ParseAddress(s.From); err == nil && !isASCII(s.from.Local) {
			err = errContact
		}
		if err != nil {
			return nil, &OptionError{"From", err}
		}
	}
	s.SaveInterval = positive(s.SaveInterval, 5*time.Minute)
	s.MaxDelay = max(cmp.Or(s.MaxDelay, 4*time.Hour), 0)
	s.Timeout = positive(s.Timeout, 5*time.Minute)
	s.Concurrency = positive(s.Concurrency, 4)
	s.limits = limits{
		domains: positive(s.MaxDomains, 50000),
		details: positive(s.MaxFailures, 200),
		memory:  positive(s.MaxMemory, 64<<20),
	}
	if s.Trace == nil {
		s.Trace = &Trace{}
	}
	if s.RoundTripper == nil && s.Resolver != nil {
		s.RoundTripper = s.transport()
	}
	return s, nil
}

// positive returns n, or the default if n is not positive.
func positive[T int | time.Duration](n, otherwise T) T {
	if n > 0 {
		return n
	}
	return otherwise
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// ascii returns a as an addr-spec with the domain in A-labels. The local part is in ASCII.
func ascii(a proto.Address) string {
	path, err := a.AppendPath(nil, false)
	if err != nil {
		return ""
	}
	return strings.Trim(string(path), "<>")
}
