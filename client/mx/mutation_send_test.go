package mx

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/ehlo"
)

// replies returns the replies to RCPT by the local part.
func replies(by map[string]string) func(string) string {
	return func(to string) string {
		local, _, _ := strings.Cut(to, "@")
		return by[local]
	}
}

// TestPort checks that Options.Port is where hosts are, and their TLSA records.
func TestPort(t *testing.T) {
	cert := aStranger().issue(t, "mx.example")
	text := oneHost + "_2525._tcp.mx.example TLSA " + tlsa(cert) + "\n"
	lay(t, text, func(o *Options) { o.Port = 2525 }, func(t *testing.T, b *bed) {
		b.dns.Secure(".")
		b.add("192.0.2.1", &host{cert: cert})
		_, err := b.Send(t.Context(), message(t, "a@d.example"))
		if a := b.attempts[0]; err != nil || a.Addr.String() != "192.0.2.1:2525" || a.Policy != PolicyDANE {
			t.Errorf("at %v by %v: %v", a.Addr, a.Policy, err)
		}
	})
}

// anchor returns the line of a TLSA record that names the authority as the trust anchor of a host.
func anchor(host string) string {
	return fmt.Sprintf("_25._tcp.%s TLSA 2 0 1 %x\n", host, sha256.Sum256(theAuthority().cert.Raw))
}

// TestExpandedName checks that a certificate may be for the domain at the end of the aliases, if a TLSA record names
// its authority (RFC 7672 section 3.2.2).
func TestExpandedName(t *testing.T) {
	authority := theAuthority()
	text := "d.example CNAME real.example\nreal.example MX 10 mx.example\nmx.example A 192.0.2.1\n" + anchor("mx.example")
	for name, want := range map[string]string{
		"mx.example": "ok", "d.example": "ok", "real.example": "ok", "other.example": "4.7.5",
	} {
		lay(t, text, nil, func(t *testing.T, b *bed) {
			b.dns.Secure(".")
			b.add("192.0.2.1", &host{cert: authority.issue(t, name)})
			res, err := b.Send(t.Context(), message(t, "a@d.example"))
			if got := outcomes(res); got != want {
				t.Errorf("a certificate for %s: %s, want %s: %v", name, got, want, err)
			}
		})
	}
}

// TestNotificationParameters checks what is left of the parameters of a notification that is sent without REQUIRETLS.
// The host has TLS and no REQUIRETLS. The message of the caller stays as it is.
func TestNotificationParameters(t *testing.T) {
	cert := theAuthority().issue(t, "mx.example")
	lay(t, oneHost, nil, func(t *testing.T, b *bed) {
		b.dns.Secure(".")
		h := b.add("192.0.2.1", &host{cert: cert, keywords: []string{"DSN"}, secured: []string{"DSN"}})
		m := message(t, "a@d.example")
		m.From = client.Message{}.From
		m.Mail = ehlo.DSNMail{EnvID: "x"}.AddTo(ehlo.AddRequireTLS(m.Mail))
		before := fmt.Sprint(m.Mail)
		if _, err := b.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got := h.letters(); len(got) != 1 || got[0].args != "ENVID=x" || !got[0].tls {
			t.Errorf("arrived: %+v", got)
		}
		if after := fmt.Sprint(m.Mail); after != before {
			t.Errorf("the parameters were %s, and are %s", before, after)
		}
	})
}

// TestDemandsOfSender checks the errors for a sender with REQUIRETLS: what may pass is not for good, and nothing else
// is taken for a lack of REQUIRETLS.
func TestDemandsOfSender(t *testing.T) {
	valid, alien := theAuthority().issue(t, "mx.example"), aStranger().issue(t, "mx.example")
	offers := []string{"REQUIRETLS"}
	for _, tt := range []struct {
		name, dns, to string
		host          *host
		want          string
		policy        bool // whether it is a PolicyError
	}{
		{"V04 broken TLS", "", "a@d.example", &host{broken: true}, "4.7.10", true},
		{"V04 another key", "_25._tcp.mx.example TLSA " + tlsa(valid) + "\n", "a@d.example", &host{cert: alien},
			"5.7.10", true},
		{"V04 REQUIRETLS is lacking", "", "a@d.example", &host{cert: valid}, "5.7.30", true},
		{"V04 SMTPUTF8 is lacking", "", "ä@d.example", &host{cert: valid, secured: offers}, "5.6.7", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, oneHost+tt.dns, nil, func(t *testing.T, b *bed) {
				b.dns.Secure(".")
				b.add("192.0.2.1", tt.host)
				m := message(t, tt.to)
				m.Mail = ehlo.AddRequireTLS(m.Mail)
				res, err := b.Send(t.Context(), m)
				var policy *PolicyError
				if got := outcomes(res); got != tt.want || errors.As(err, &policy) != tt.policy {
					t.Errorf("the outcome is %s, want %s: %v", got, tt.want, err)
				}
				if tt.policy && policy != nil && !strings.HasPrefix(res.Recipients[0].Err.Error(), "smtp: mx.example is not used") {
					t.Errorf("the error of the recipient is %v", res.Recipients[0].Err)
				}
			})
		})
	}
}

// again checks to which of two addresses a second message goes, when the first address was dead at first, and the host
// at the second one is h.
func again(t *testing.T, h *host, want string, messages ...[]string) {
	t.Helper()
	lay(t, "d.example A 192.0.2.1\nd.example A 192.0.2.2\n", nil, func(t *testing.T, b *bed) {
		first := b.add("192.0.2.1", &host{refuses: true})
		b.add("192.0.2.2", h)
		for _, to := range messages {
			b.order()
			b.Send(t.Context(), message(t, to...))
			first.refuses = false
			<-time.After(20 * time.Minute) // no time in the bubble; no address is taken for dead any longer
		}
		if got := b.order(); got != want {
			t.Errorf("dialled %s, want %s", got, want)
		}
	})
}

// TestGreylistedAgain checks what ends greylisting, and that it is noted in clear as well.
func TestGreylistedAgain(t *testing.T) {
	waited := false
	once := func(to string) string {
		switch {
		case strings.HasPrefix(to, "b@"):
			return "550 5.1.1 nobody"
		case waited:
			return ""
		}
		waited = true
		return "450 4.7.1 greylisted"
	}
	a, both := []string{"a@d.example"}, []string{"b@d.example", "a@d.example"}
	again(t, &host{rcpt: once}, "192.0.2.1", a, both, a)
	waited = false
	again(t, &host{rcpt: once}, "192.0.2.2", a, a)
	waited = false
	again(t, &host{rcpt: once, broken: true}, "192.0.2.2 192.0.2.2", a, a)
}

// TestRefusedFamilyOnce checks what is sent when a host refuses the address of this host.
func TestRefusedFamilyOnce(t *testing.T) {
	const no = "550 5.7.25 the address has no PTR record"
	t.Run("both families", func(t *testing.T) {
		lay(t, twoFamilies, nil, func(t *testing.T, b *bed) {
			b.add("2001:db8::1", &host{mail: no})
			b.add("192.0.2.1", &host{})
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil || len(b.attempts) != 2 {
				t.Fatalf("%d attempts: %v", len(b.attempts), err)
			}
			six, four := b.attempts[0], b.attempts[1]
			if told(six.Err) != "550" || six.Addr.Addr().Is4() || four.Err != nil || !four.Addr.Addr().Is4() {
				t.Errorf("the attempts are %+v and %+v", six, four)
			}
		})
	})
	t.Run("and the message cannot be prepared again", func(t *testing.T) {
		calls := 0
		prepare := func(_ context.Context, m *client.Message) (*client.Message, error) {
			if calls++; calls > 1 {
				return nil, errors.New("no key")
			}
			return m, nil
		}
		lay(t, twoFamilies, func(o *Options) { o.Prepare = prepare }, func(t *testing.T, b *bed) {
			b.add("2001:db8::1", &host{mail: no})
			b.Send(t.Context(), message(t, "a@d.example"))
			if n := len(b.attempts); n != 2 || b.attempts[1].Addr.IsValid() {
				t.Errorf("%d attempts, the last at %v", n, b.attempts[n-1].Addr)
			}
		})
	})
	t.Run("one family", func(t *testing.T) {
		lay(t, "d.example AAAA 2001:db8::1\nd.example AAAA 2001:db8::2\n", nil, func(t *testing.T, b *bed) {
			b.add("2001:db8::1", &host{mail: no})
			if res, err := b.Send(t.Context(), message(t, "a@d.example")); outcomes(res) != "550" || len(b.attempts) != 1 {
				t.Errorf("%d attempts: %v", len(b.attempts), err)
			}
		})
	})
	t.Run("another reason for one of three", func(t *testing.T) {
		lay(t, twoFamilies, nil, func(t *testing.T, b *bed) {
			b.add("2001:db8::1", &host{rcpt: replies(map[string]string{"a": no, "b": "550 5.1.1 nobody", "c": no})})
			b.add("192.0.2.1", &host{})
			res, err := b.Send(t.Context(), message(t, "a@d.example", "b@d.example", "c@d.example"))
			if outcomes(res) != "550 550 550" || len(b.attempts) != 1 {
				t.Errorf("%s in %d attempts: %v", outcomes(res), len(b.attempts), err)
			}
		})
	})
	t.Run("one recipient of two", func(t *testing.T) {
		lay(t, twoFamilies, nil, func(t *testing.T, b *bed) {
			six := b.add("2001:db8::1", &host{rcpt: replies(map[string]string{"b": no})})
			four := b.add("192.0.2.1", &host{})
			res, err := b.Send(t.Context(), message(t, "a@d.example", "b@d.example"))
			if outcomes(res) != "ok 550" || len(six.letters()) != 1 || len(four.letters()) != 0 {
				t.Errorf("%s, %d and %d messages: %v", outcomes(res), len(six.letters()), len(four.letters()), err)
			}
		})
	})
}

// TestSessions checks which hosts count for MaxSessions: those to which there was a connection.
func TestSessions(t *testing.T) {
	var text strings.Builder
	for i := range 4 {
		fmt.Fprintf(&text, "d.example MX %d h%d.example\nh%d.example A 192.0.2.%d\n", i, i, i, i)
	}
	for _, tt := range []struct {
		name string
		host func() *host
		want string
	}{
		{"no connection", func() *host { return &host{refuses: true} }, "0 1 2 3"},
		{"554", func() *host { return &host{greeting: "554 5.7.1 no"} }, "0 1"},
		{"no greeting", func() *host { return &host{greeting: "-"} }, "0 1"},
		{"EHLO is refused", func() *host { return &host{ehlo: "550 5.7.1 no"} }, "0 1"},
		{"HELO is refused", func() *host { return &host{ehlo: "502 5.5.1 what"} }, "0 1"},
		{"lost at EHLO", func() *host { return &host{hangup: "EHLO"} }, "0 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, text.String(), nil, func(t *testing.T, b *bed) {
				for i := range 4 {
					b.add(fmt.Sprintf("192.0.2.%d", i), tt.host())
				}
				b.Send(t.Context(), message(t, "a@d.example"))
				if got := strings.ReplaceAll(b.order(), "192.0.2.", ""); got != tt.want {
					t.Errorf("dialled %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// TestResult checks what the result and the error tell of the message as a whole.
func TestResult(t *testing.T) {
	octets := int64(len("Subject: x\r\n\r\nHello\r\n.\r\n"))
	for _, tt := range []struct {
		name          string
		first, second *host
		reply         string
		octets        int64
		unknown       bool
	}{
		{"one host", &host{data: "250 2.0.0 queued as 1"}, &host{}, "queued as 1", octets, false},
		{"two contents", &host{data: "451 4.3.0 later"}, &host{data: "250 2.0.0 queued as 2"},
			"queued as 2", 2 * octets, false},
		{"a part, then nobody", &host{data: "250 2.0.0 queued as 1", rcpt: replies(map[string]string{"b": "450 later"})},
			&host{refuses: true}, "queued as 1", octets, false},
		{"in doubt", &host{hangup: "."}, &host{}, "", octets, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", tt.first)
				b.add("192.0.2.2", tt.second)
				began := time.Now()
				res, err := b.Send(t.Context(), message(t, "a@d.example", "b@d.example"))
				if !strings.HasSuffix(res.Reply.Text, tt.reply) || (res.Reply.Code == 0) != (tt.reply == "") {
					t.Errorf("the reply is %v, want %q", res.Reply, tt.reply)
				}
				var failed *client.SendError
				if res.Octets != tt.octets || (errors.As(err, &failed) && failed.Unknown) != tt.unknown {
					t.Errorf("%d octets, want %d: %v", res.Octets, tt.octets, err)
				}
				if !b.attempts[0].Began.Equal(began) {
					t.Errorf("the attempt began at %v", b.attempts[0].Began)
				}
			})
		})
	}
}

// TestAllOrNoneInPart checks that no host gets a message to all or none when it is settled that one recipient does not
// get it.
func TestAllOrNoneInPart(t *testing.T) {
	for _, by := range []map[string]string{
		{"a": "450 4.2.0 later", "b": "550 5.1.1 nobody"}, {"a": "550 5.1.1 nobody", "b": "450 4.2.0 later"},
	} {
		for _, keywords := range [][]string{nil, {"PIPELINING"}} {
			lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", &host{rcpt: replies(by), keywords: keywords})
				b.add("192.0.2.2", &host{keywords: keywords})
				m := message(t, "a@d.example", "b@d.example")
				m.AllOrNone = true
				res, err := b.Send(t.Context(), m)
				for _, h := range b.hosts {
					for _, l := range h.letters() {
						if len(l.to) != 2 || err != nil {
							t.Errorf("%v %v: a part has got the message: %s: %v", by, keywords, outcomes(res), err)
						}
					}
				}
				for _, o := range res.Recipients {
					if (o.Err == nil) != (err == nil) || errors.Is(o.Err, errUntried) {
						t.Errorf("%v %v: %v: %v", by, keywords, o.Address, o.Err)
					}
				}
			})
		}
	}
}

// TestErrors checks the texts of errors that tell of hosts, and who gets them.
func TestErrors(t *testing.T) {
	lay(t, oneHost+"null.example MX 0 .\n", nil, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{refuses: true})
		res, _ := b.Send(t.Context(), message(t, "a@d.example", "b@d.example", "a@null.example", "b@null.example"))
		const nobody = "smtp: no mail exchanger of d.example could be used: connecting to mx.example:25: 192.0.2.1:25: " +
			"connection refused"
		const null = "smtp: no route to null.example: the domain takes no mail (RFC 7505): ask for another address"
		for i, want := range []string{nobody, nobody, null, null} {
			if got := res.Recipients[i].Err; got == nil || got.Error() != want {
				t.Errorf("the error is\n%v, want\n%s", got, want)
			}
		}
	})
	lay(t, oneHost, nil, func(t *testing.T, b *bed) {
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		m := message(t, "a@d.example", "b@e.example")
		res, _ := b.Send(t.Context(), m)
		for i, o := range res.Recipients {
			if o.Address != m.To[i].Address {
				t.Errorf("recipient %d is %v", i, o.Address)
			}
		}
	})
	lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{greeting: "-"})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("the shop closes"))
		defer cancel()
		_, err := b.Send(ctx, message(t, "a@d.example"))
		if len(b.attempts) != 1 || strings.Contains(b.order(), "192.0.2.2") {
			t.Errorf("%d attempts: %v", len(b.attempts), err)
		}
	})
}

// TestRouted checks that the trace tells the hosts of each domain, or why there are none.
func TestRouted(t *testing.T) {
	var got []string
	routed := func(_ context.Context, domain string, r *Route, err error) {
		if err != nil {
			got = append(got, domain+" "+told(err))
			return
		}
		got = append(got, domain+" "+describe(r))
	}
	lay(t, oneHost+"null.example MX 0 .\n", func(o *Options) { o.Trace.Routed = routed }, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{})
		for _, to := range []string{"a@D.example", "a@null.example"} {
			b.Send(t.Context(), message(t, to))
		}
		if got, want := strings.Join(got, "; "), "d.example 10 mx.example 192.0.2.1; null.example 5.1.10"; got != want {
			t.Errorf("the trace tells %s, want %s", got, want)
		}
	})
}

// TestOwnHost checks that Options tell who this host is, and which addresses are used.
func TestOwnHost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"K06 a name", func(o *Options) { o.Names = []string{"mx.example"} }, "5.4.6"},
		{"K06 the name of the client", func(o *Options) { o.Client.Hostname = "mx.example" }, "5.4.6"},
		{"K06 an address", func(o *Options) { o.Addrs = addrs("192.0.2.2") }, "5.4.6"},
		{"K13 a family", func(o *Options) { o.Family = OnlyIPv4 }, "ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, twoFamilies, tt.change, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", &host{})
				res, err := b.Send(t.Context(), message(t, "a@d.example"))
				if got, at := outcomes(res), b.order(); got != tt.want || got == "ok" && at != "192.0.2.1" {
					t.Errorf("dialled %q, the outcome is %s, want %s: %v", at, got, tt.want, err)
				}
			})
		})
	}
}
