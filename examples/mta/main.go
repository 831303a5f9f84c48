// Mta is a mail server: it takes mail for its own domains from strangers, and for any domain from its users. All mail
// goes through a queue, so that what was accepted is not lost, whatever happens to the process or the machine. From
// there it goes into Maildirs, to the mail exchangers of other domains, or back to its sender.
//
//	go run . -hostname mail.example.org -domain example.org -user alice:secret
//
// By default it runs without root, on ports of 127.0.0.1 that need none, and keeps everything below ./mta-data. On the
// open internet it listens on the ports that others expect:
//
//	mta -hostname mail.example.org -domain example.org -dir /var/lib/mta -cert cert.pem -key key.pem \
//	    -mx-addr :25 -submission-addr :587 -submissions-addr :465 -user alice:secret -dkim example.org:2026a:rsa.pem
//
// # What it takes, and from whom
//
// At -mx-addr it takes mail for each -domain, and for those of -on-demand; all else is refused with 550 5.7.1. A user
// has a mailbox at each domain, so that -user joe makes joe@example.org. Other addresses are those of -alias; the rest
// is refused with 550 5.1.1. Mail for postmaster goes to the first user, unless there is an alias for it. The case of
// local parts makes no difference.
//
// At -submission-addr and -submissions-addr users send to anybody, once they have authenticated over TLS. MAIL FROM has
// to be an address of theirs; the From field is not looked at, and may name somebody else. What users send is signed
// with the keys of -dkim. Mail of strangers that an alias forwards is not, and keeps its reverse-path.
//
// The customer of an -on-demand domain fetches its mail at -odmr-addr by ATRN (RFC 2645). ETRN at -mx-addr has the mail
// for a -route sent at once (RFC 1985).
//
// An address of "" is not listened on. Other users of the machine can see the passwords on a command line.
//
// # How it ends
//
// SIGTERM ends it, with the status 0: it takes no more mail, tells clients 421, waits half a minute for what is in
// hand, and keeps the rest in the queue. SIGKILL, or a loss of power, loses nothing that was accepted: mail that was
// being handed over at that moment may come twice.
//
// When the queue cannot be written, mail is refused with 452 4.3.1. If that lasts for two minutes it ends likewise,
// with the status 1: have it started again, since a disk that has failed to write once is trusted again only then. A
// disk that is full does not end it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/dkim"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

// A config is what the command line says.
type config struct {
	hostname, dir, cert, key          string
	mx, submission, submissions, odmr string // addresses to listen on
	http                              string // likewise, "" for none
	domains                           []string
	users                             []user
	aliases                           [][2]string // from and to, as they were written
	maildir, lmtp, queue              string
	smarthost                         *client.Endpoint
	routes                            map[string]string // domain to host:port
	demand                            map[string]string // domain to the user who fetches its mail
	resolver                          dns.Options
	mxPort                            uint16
	policy                            queue.Policy
	dkim                              []dkim.Key
	verbose                           bool

	client client.Options // of the connections to other servers; tests set more of it
	grace  time.Duration  // see grace
	outage time.Duration  // see maxOutage
	open   func(*config) (queue.Store, error)
}

func parse(args []string) (*config, error) {
	c := &config{
		routes: map[string]string{}, demand: map[string]string{}, grace: grace, outage: maxOutage, open: openStore,
	}
	f := flag.NewFlagSet("mta", flag.ContinueOnError)
	c.plainFlags(f)
	c.repeatableFlags(f)
	c.otherFlags(f)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return c, c.complete()
}

// plainFlags adds the flags that have one value each.
func (c *config) plainFlags(f *flag.FlagSet) {
	f.StringVar(&c.hostname, "hostname", "", "the `name` of this host in the DNS (default: that of the machine)")
	f.StringVar(&c.dir, "dir", "mta-data", "`directory` for everything that has to outlive the program")
	f.StringVar(&c.cert, "cert", "",
		"`file` with the certificate, PEM, read again when it is renewed (default: a self-made one)")
	f.StringVar(&c.key, "key", "", "`file` with its private key, PEM (default: it is in -cert)")
	f.StringVar(&c.mx, "mx-addr", "127.0.0.1:2525",
		"`address` for mail from strangers to the domains; \":25\" on the internet")
	f.StringVar(&c.submission, "submission-addr", "127.0.0.1:2587", "`address` for users, with STARTTLS; usually \":587\"")
	f.StringVar(&c.submissions, "submissions-addr", "127.0.0.1:2465", "`address` for users, with TLS; usually \":465\"")
	f.StringVar(&c.odmr, "odmr-addr", "127.0.0.1:2366", "`address` for ATRN, if there is -on-demand; usually \":366\"")
	f.StringVar(&c.http, "http-addr", "",
		"`address` of the operator's page, such as 127.0.0.1:2580; it answers this machine only")
	f.StringVar(&c.maildir, "maildir", "",
		"`directory`: the Maildir of joe@example.org is example.org/joe in it (default: mail in -dir)")
	f.StringVar(&c.lmtp, "lmtp", "",
		"`address` of a server that takes the domains' mail by LMTP, in place of -maildir; also unix:PATH")
	f.StringVar(&c.queue, "queue", "sqlite",
		"`store` of the queue: sqlite or sqlite:FILE; or dir or dir:PATH, which has a file for each message")
	f.DurationVar(&c.policy.Expire, "expire", 5*24*time.Hour, "when mail that cannot be delivered goes back to its sender")
	f.DurationVar(&c.policy.DelayReport, "delay-report", 4*time.Hour,
		"when the sender is told of a delay; negative: never")
	f.BoolVar(&c.verbose, "v", false, "log what is said on each connection")
}

// repeatableFlags adds those that may be given several times.
func (c *config) repeatableFlags(f *flag.FlagSet) {
	each(f, "domain", "`domain` of this server (default: the hostname)", func(s string) error {
		d, err := domain(s)
		c.domains = append(c.domains, d)
		return err
	})
	each(f, "user", "`name:password[:address,…]`, with the addresses from which he may send: \"*\" is any", c.addUser)
	each(f, "alias", "`from=to`: mail for the one goes to the other, here or elsewhere", func(s string) error {
		from, to, ok := strings.Cut(s, "=")
		c.aliases = append(c.aliases, [2]string{from, to})
		return must(ok, "write it as info@example.org=joe@example.org")
	})
	each(f, "route", "`domain=host:port`: a server for its mail, in place of its mail exchangers", func(s string) error {
		return assign(c.routes, s)
	})
	each(f, "on-demand", "`domain=user`: mail that waits here until this user fetches it by ATRN", func(s string) error {
		return assign(c.demand, s)
	})
	each(f, "resolver", "`host:port` of a name server (default: those of the machine)", func(s string) error {
		c.resolver.Servers = append(c.resolver.Servers, s)
		return nil
	})
	each(f, "dkim", "`domain:selector:file` of a key with which mail of users is signed, PEM", c.addKey)
}

// otherFlags adds those whose value has to be parsed.
func (c *config) otherFlags(f *flag.FlagSet) {
	f.Func("smarthost", "`URL` of a server that takes all mail for others, such as smtp://user:password@mail.example.net",
		func(s string) (err error) {
			c.smarthost, err = client.ParseURL(s)
			return err
		})
	f.Func("mx-port", "`port` of mail exchangers (default 25)", func(s string) error {
		n, err := strconv.ParseUint(s, 10, 16)
		c.mxPort = uint16(n)
		return err
	})
	f.Func("retry", "`pauses` between attempts, the last of which repeats (default 5m,15m,30m,1h,2h,4h)",
		func(s string) error {
			for text := range strings.SplitSeq(s, ",") {
				d, err := time.ParseDuration(text)
				if err != nil || d <= 0 {
					return errors.New("write pauses as 5m,30m,2h")
				}
				c.policy.Retry = append(c.policy.Retry, d)
			}
			return nil
		})
}

// each adds a flag that may be given several times.
func each(f *flag.FlagSet, name, usage string, parse func(string) error) {
	f.Func(name, usage+" (repeatable)", parse)
}

// complete fills in what depends on several flags.
func (c *config) complete() error {
	if c.hostname == "" {
		c.hostname, _ = os.Hostname()
	}
	name, err := domain(c.hostname)
	if err != nil {
		return fmt.Errorf("-hostname: %w", err)
	}
	c.hostname = name
	if len(c.domains) == 0 {
		c.domains = []string{name}
	}
	if c.maildir == "" {
		c.maildir = c.dir + "/mail"
	}
	for d, name := range c.demand {
		if c.user(name) == nil {
			return fmt.Errorf("-on-demand %s=%s: there is no -user %s", d, name, name)
		}
	}
	return nil
}

func (c *config) addKey(s string) error {
	part := strings.SplitN(s, ":", 3)
	if len(part) != 3 {
		return errors.New("write it as example.org:2026a:rsa.pem")
	}
	text, err := os.ReadFile(part[2])
	if err != nil {
		return err
	}
	signer, err := dkim.ParsePrivateKey(text)
	c.dkim = append(c.dkim, dkim.Key{Domain: part[0], Selector: part[1], Signer: signer})
	return err
}

// assign adds what is written as domain=value.
func assign(to map[string]string, s string) error {
	name, value, ok := strings.Cut(s, "=")
	d, err := domain(name)
	if err != nil || !ok || value == "" {
		return errors.Join(errors.New("write it as example.net=…"), err)
	}
	to[d] = value
	return nil
}

// domain returns the form of a domain that is compared: in lower case and in ASCII.
func domain(s string) (string, error) {
	d, err := proto.ParseDomain(s)
	return d.Key(), err
}

func must(ok bool, text string) error {
	if ok {
		return nil
	}
	return errors.New(text)
}

func main() {
	c, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	level := slog.LevelInfo
	if err == nil && c.verbose {
		level = slog.LevelDebug
	}
	out := newLogWriter(os.Stderr)
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log)
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(stop, cancel) // a second signal ends it at once
	if err == nil {
		var m *mta
		if m, err = open(c, log); err == nil {
			err = m.run(stop)
		}
	}
	if err != nil {
		log.Error("mta ends", "err", err)
	}
	_ = out.Close() // it does not fail
	if err != nil {
		os.Exit(1)
	}
}
