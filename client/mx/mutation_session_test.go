package mx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/dane"
	"smtpkit.example/smtp/client/mx/tlsrpt"
	"smtpkit.example/smtp/ext/dns"
)

// TestFarewell checks what becomes of a message in whose transaction the host says 421, and goes on to listen. That is
// a farewell: the connection is not used again. The next host is tried, and 421 is no outcome of a recipient if there
// is a word of another host (RFC 5321 sections 3.8, 4.2.2).
func TestFarewell(t *testing.T) {
	const bye = "421 4.3.2 shutting down"
	for _, tt := range []struct {
		name          string
		first, second *host
		want          string // the outcomes for a and b
		said          string // what the first host has got of both messages
	}{
		{"at MAIL", &host{mail: bye}, &host{}, "ok ok", "EHLO MAIL EHLO MAIL"},
		{"at RCPT", &host{rcpt: replies(map[string]string{"a": bye, "b": bye})}, &host{}, "ok ok",
			"EHLO MAIL RCPT EHLO MAIL RCPT"},
		{"at the second RCPT", &host{rcpt: replies(map[string]string{"b": bye})}, &host{}, "ok ok",
			"EHLO MAIL RCPT RCPT EHLO MAIL RCPT RCPT"},
		{"behind the content", &host{data: bye}, &host{}, "ok ok",
			"EHLO MAIL RCPT RCPT DATA . EHLO MAIL RCPT RCPT DATA ."},
		{"and nobody else", &host{mail: bye}, &host{refuses: true}, "421 421", "EHLO MAIL EHLO MAIL"},
		{"and the next host refuses", &host{mail: bye}, &host{mail: "550 5.7.1 no"}, "550 550", "EHLO MAIL EHLO MAIL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
				tt.first.stays = true
				first, second := b.add("192.0.2.1", tt.first), b.add("192.0.2.2", tt.second)
				for range 2 {
					res, err := b.Send(t.Context(), message(t, "a@d.example", "b@d.example"))
					if got := outcomes(res); got != tt.want || err != nil && client.Temporary(err) != (tt.want == "421 421") {
						t.Errorf("the outcomes are %s, want %s: %v", got, tt.want, err)
					}
				}
				if got := first.said(); got != tt.said {
					t.Errorf("the first host has got %s, want %s", got, tt.said)
				}
				if n, want := len(second.letters()), 2*strings.Count(tt.want, "ok ok"); n != want {
					t.Errorf("the second host has %d messages, want %d", n, want)
				}
				if n := len(first.letters()); n != 0 {
					t.Errorf("the first host has %d messages", n)
				}
			})
		})
	}
	t.Run("the error tells all hosts", func(t *testing.T) {
		lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
			b.add("192.0.2.1", &host{mail: bye})
			b.add("192.0.2.2", &host{greeting: "554 5.7.1 no"})
			res, _ := b.Send(t.Context(), message(t, "a@d.example"))
			const want = "smtp: no mail exchanger of d.example could be used: mx.example: MAIL: 421 4.3.2 shutting down; " +
				"mx2.example: greeting: 554 5.7.1 no"
			if err := res.Recipients[0].Err; err == nil || err.Error() != want {
				t.Errorf("the error is\n%v, want\n%s", err, want)
			}
		})
	})
}

// always returns the reply to each RCPT.
func always(reply string) func(string) string { return func(string) string { return reply } }

// TestNoProtocol checks that a host which does not keep to the protocol, or states a limit that leaves somebody out, is
// of no use for those who are left: they go to the next host. If there is none, the error tells both hosts, and is
// temporary.
func TestNoProtocol(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, tt := range []struct {
		name  string
		host  func() *host
		doubt bool // the message may have arrived, so that there is no next host
	}{
		{"nonsense for MAIL", func() *host { return &host{mail: "yes, please"} }, false},
		{"nonsense for RCPT", func() *host { return &host{rcpt: always("2x0 ok")} }, false},
		{"354 for RCPT", func() *host { return &host{rcpt: always("354 ok")} }, false},
		{"a line without end", func() *host { return &host{mail: "250 " + long} }, false},
		{"lines without end", func() *host { return &host{mail: strings.Repeat("250-ok\r\n", 5000) + "250 ok"} }, false},
		{"a long greeting", func() *host { return &host{greeting: "220 " + long} }, false},
		{"nonsense behind the content", func() *host { return &host{data: "yes"} }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, second := range []*host{{}, {refuses: true}} {
				lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
					b.add("192.0.2.1", tt.host())
					b.add("192.0.2.2", second)
					res, err := b.Send(t.Context(), message(t, "a@d.example"))
					o := res.Recipients[0].Err
					var broken *client.ProtocolError
					told := b.attempts[0].Err
					if !errors.As(told, &broken) || client.SafeToRetry(told) == tt.doubt {
						t.Errorf("the first attempt has %v", told)
					}
					if tt.doubt {
						if !client.Temporary(o) || client.SafeToRetry(o) || b.order() != "192.0.2.1" {
							t.Errorf("in doubt, the outcome is %v", o)
						}
						return
					}
					if got := b.order(); got != "192.0.2.1 192.0.2.2" {
						t.Errorf("dialled %s", got)
					}
					if !second.refuses {
						if err != nil || len(second.letters()) != 1 {
							t.Errorf("%d messages: %v", len(second.letters()), err)
						}
						return
					}
					const both = "smtp: no mail exchanger of d.example could be used: "
					if o == nil || !client.Temporary(o) || !client.SafeToRetry(o) || !strings.HasPrefix(o.Error(), both) ||
						!strings.Contains(o.Error(), "; connecting to mx2.example:25: ") {
						t.Errorf("the outcome is %v", o)
					}
				})
			}
		})
	}
	t.Run("a limit", func(t *testing.T) {
		for _, second := range []*host{{}, {refuses: true}} {
			lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
				first := &host{keywords: []string{"LIMITS RCPTMAX=1 MAILMAX=1"}}
				first.rcpt = func(string) string { first.refuses = true; return "" } // each further connection
				b.add("192.0.2.1", first)
				b.add("192.0.2.2", second)
				res, err := b.Send(t.Context(), message(t, "a@d.example", "b@d.example"))
				var limit *client.LimitError
				if o := b.attempts[0].Result.Recipients; o[0].Err != nil || !errors.As(o[1].Err, &limit) {
					t.Errorf("the first attempt has %v", b.attempts[0].Err)
				}
				if n := len(first.letters()); n != 1 || res.Recipients[0].Err != nil {
					t.Errorf("the first host has %d messages: %v", n, res.Recipients[0].Err)
				}
				if !second.refuses {
					if err != nil || len(second.letters()) != 1 {
						t.Errorf("the second host has %d messages: %v", len(second.letters()), err)
					}
					return
				}
				if o := res.Recipients[1].Err; o == nil || !client.Temporary(o) || !client.SafeToRetry(o) ||
					!strings.Contains(o.Error(), "could be used: the server takes") || !strings.Contains(o.Error(), "mx2.example:25: ") {
					t.Errorf("the outcome is %v", o)
				}
			})
		}
	})
}

// TestReset checks what ends a transaction between two messages on one connection: RSET where the host has taken MAIL
// and no content, and nothing where the transaction is over by itself (RFC 5321 sections 3.3, 4.1.1.4, 4.1.1.5).
func TestReset(t *testing.T) {
	for _, tt := range []struct {
		name string
		host *host
		said string
	}{
		{"accepted", &host{}, "EHLO MAIL RCPT DATA . MAIL RCPT DATA ."},
		{"the content is refused", &host{data: "451 4.3.0 later"}, "EHLO MAIL RCPT DATA . MAIL RCPT DATA ."},
		{"MAIL is refused", &host{mail: "451 4.3.0 later"}, "EHLO MAIL MAIL"},
		{"all recipients are refused", &host{rcpt: always("450 4.2.0 later")}, "EHLO MAIL RCPT RSET MAIL RCPT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, oneHost, nil, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", tt.host)
				for range 2 {
					b.Send(t.Context(), message(t, "a@d.example"))
				}
				<-time.After(time.Second) // no time in the bubble
				if got := tt.host.said(); got != tt.said || b.order() != "192.0.2.1" {
					t.Errorf("the host has got %s, want %s", got, tt.said)
				}
			})
		})
	}
}

// TestBaseIsPartOfWay checks that a host with the same TLSA records at another TLSA base domain is reached by another
// connection, for which the client asks for that name (RFC 7672 section 8.1).
func TestBaseIsPartOfWay(t *testing.T) {
	cert := aStranger().issue(t, "one.example")
	record := tlsa(cert)
	text := "d.example MX 10 mx.example\nmx.example CNAME one.example\n" +
		"one.example A 192.0.2.1\ntwo.example A 192.0.2.1\n" +
		"_25._tcp.one.example TLSA " + record + "\n_25._tcp.two.example TLSA " + record + "\n"
	lay(t, text, nil, func(t *testing.T, b *bed) {
		b.dns.Secure(".")
		h := b.add("192.0.2.1", &host{cert: cert})
		for _, end := range []string{"one", "one", "two", "two", "one"} {
			b.dns.Set("mx.example CNAME " + end + ".example\n")
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
				t.Error(err)
			}
		}
		if got := strings.Join(h.names, " "); got != "one.example two.example" {
			t.Errorf("the client has asked for %s", got)
		}
	})
}

// TestFingerprint checks that whatever differs in a policy makes another fingerprint.
func TestFingerprint(t *testing.T) {
	base := func() *dane.Policy {
		return &dane.Policy{Base: "a.example", Names: []string{"a.example", "b.example"}, Records: []dns.Association{
			{Usage: 2, Selector: 0, Matching: 1, Data: []byte{1}}, {Usage: 3, Selector: 1, Matching: 2, Data: []byte{2, 3}},
		}}
	}
	seen := map[string]string{fingerprint(base()): "as it is"}
	if len(seen) != 1 || seen[fingerprint(base())] == "" {
		t.Error("the same policy has two")
	}
	for name, change := range map[string]func(*dane.Policy){
		"base":          func(p *dane.Policy) { p.Base = "b.example" },
		"names":         func(p *dane.Policy) { p.Names[1] = "c.example" },
		"a name less":   func(p *dane.Policy) { p.Names = p.Names[:1] },
		"names, joined": func(p *dane.Policy) { p.Names = []string{`a.example" "b.example`} },
		"usage":         func(p *dane.Policy) { p.Records[0].Usage = 3 },
		"selector":      func(p *dane.Policy) { p.Records[0].Selector = 1 },
		"matching":      func(p *dane.Policy) { p.Records[0].Matching = 2 },
		"data":          func(p *dane.Policy) { p.Records[1].Data = []byte{2, 4} },
		"a record less": func(p *dane.Policy) { p.Records = p.Records[:1] },
	} {
		p := base()
		change(p)
		f := fingerprint(p)
		if other, ok := seen[f]; ok {
			t.Errorf("%s: the same as %s", name, other)
		}
		seen[f] = name
	}
}

// TestNoReportsOnReports delivers reports by a Deliverer that tells the collector of its sessions. What happens with
// TLS on the way of a report is not reported on, or two hosts would write to each other for ever (RFC 8460 section 3).
func TestNoReportsOnReports(t *testing.T) {
	var collector *tlsrpt.Collector
	var d *Deliverer
	text := oneHost + "_smtp._tls.d.example TXT \"v=TLSRPTv1; rua=mailto:tls@d.example\"\n"
	lay(t, text, func(o *Options) {
		var err error
		collector, err = tlsrpt.New(&tlsrpt.Options{
			Organization: "Sender", Contact: "tls@sender.example", Resolver: o.Resolver, MaxDelay: -1,
			Sender: client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
				return d.Send(ctx, m)
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		o.Reports = collector
	}, func(t *testing.T, b *bed) {
		d = b.Deliverer
		h := b.add("192.0.2.1", &host{}) // without TLS, which is a failure
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- collector.Run(ctx) }()
		if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
			t.Error(err)
		}
		<-time.After(5 * 24 * time.Hour) // no time in the bubble
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		var got []string
		for _, l := range h.letters() {
			got = append(got, strings.Join(l.to, " "))
		}
		if want := "[a@d.example tls@d.example]"; fmt.Sprint(got) != want || collector.Stats().Domains != 0 {
			t.Errorf("arrived for %v, want %s; counted %+v", got, want, collector.Stats())
		}
		if a := b.attempts; len(a) != 2 || a[1].Addr != netip.MustParseAddrPort("192.0.2.1:25") {
			t.Errorf("%d attempts", len(a))
		}
	})
}
