package mx

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/mx/tlsrpt"
	"smtpkit.example/smtp/ext/ehlo"
)

// A localConn is a connection from 198.51.100.1.
type localConn struct{ net.Conn }

func (localConn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.1:4321"))
}

// withSTS is for lay: with a cache of MTA-STS that serves text for d.example.
func withSTS(t *testing.T, o *Options, text string) *mtasts.Cache {
	cache, err := mtasts.New(&mtasts.Options{Resolver: o.Resolver, RoundTripper: policies{"d.example": text}})
	if err != nil {
		t.Fatal(err)
	}
	o.STS, o.DisableSTS = cache, false
	return cache
}

// events notes what is reported, whole.
type events []tlsrpt.Event

func (e *events) Record(one tlsrpt.Event) { *e = append(*e, one) }

// TestEvents checks what a report has besides its result, and the channel that an attempt tells of.
func TestEvents(t *testing.T) {
	valid, alien := theAuthority().issue(t, "mx.example"), aStranger().issue(t, "mx.example")
	const record, sts = "_25._tcp.mx.example TLSA ", `_mta-sts.d.example TXT "v=STSv1; id=1;"` + "\n"
	trial := strings.Replace(enforced, "enforce", "testing", 1)
	elsewhere := strings.Replace(trial, "mx.example", "mx9.example", 1)
	lines := strings.Split(strings.TrimSpace(enforced), "\n")
	for _, tt := range []struct {
		name, dns, policy string
		host              *host
		channel           Channel
		kind, of          string   // of the policy
		text, hosts       []string // likewise
		failed            bool     // so that there is a code
	}{
		{"DANE", record + tlsa(alien) + "\n", "", &host{cert: alien}, Matched,
			tlsrpt.TypeTLSA, "mx.example", []string{tlsa(alien)}, nil, false},
		{"DANE fails", record + tlsa(valid) + "\n", "", &host{cert: alien}, Clear,
			tlsrpt.TypeTLSA, "mx.example", []string{tlsa(valid)}, nil, true},
		{"DANE cannot be looked up", record + "BOGUS\n", "", &host{cert: alien}, Clear, tlsrpt.TypeTLSA, "", nil, nil, true},
		{"DANE before testing", sts + record + tlsa(alien) + "\n", trial, &host{cert: alien}, Matched,
			tlsrpt.TypeTLSA, "mx.example", []string{tlsa(alien)}, nil, false},
		{"DANE before testing, another host", sts + record + tlsa(alien) + "\n", elsewhere, &host{cert: alien}, Matched,
			tlsrpt.TypeTLSA, "mx.example", []string{tlsa(alien)}, nil, false},
		{"DANE, and no policy to be had", sts + record + tlsa(alien) + "\n", "", &host{cert: alien}, Matched,
			tlsrpt.TypeTLSA, "mx.example", []string{tlsa(alien)}, nil, false},
		{"enforce", sts, enforced, &host{cert: valid}, Verified, tlsrpt.TypeSTS, "", lines, []string{"mx.example"}, false},
		{"testing", sts, trial, &host{cert: valid}, Verified,
			tlsrpt.TypeSTS, "", strings.Split(strings.TrimSpace(trial), "\n"), []string{"mx.example"}, false},
		{"testing, not trusted", sts, trial, &host{cert: alien}, Encrypted,
			tlsrpt.TypeSTS, "", strings.Split(strings.TrimSpace(trial), "\n"), []string{"mx.example"}, true},
		{"testing, another host", sts, elsewhere, &host{cert: valid}, Verified,
			tlsrpt.TypeSTS, "", strings.Split(strings.TrimSpace(elsewhere), "\n"), []string{"mx9.example"}, true},
		{"none", "", "", &host{cert: alien}, Encrypted, tlsrpt.TypeNone, "", nil, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got events
			var cache *mtasts.Cache
			lay(t, oneHost+tt.dns, func(o *Options) {
				cache = withSTS(t, o, tt.policy)
				o.Reports = &got
				dial := o.Client.DialContext
				o.Client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := dial(ctx, network, addr)
					if err != nil {
						return nil, err
					}
					return localConn{conn}, nil
				}
			}, func(t *testing.T, b *bed) {
				defer cache.Close()
				b.dns.Secure(".")
				b.add("192.0.2.1", tt.host)
				began := time.Now()
				_, err := b.Send(t.Context(), message(t, "a@d.example"))
				if a := b.attempts[0]; a.Facts.Channel != tt.channel {
					t.Errorf("the channel is %v, want %v: %v", a.Facts.Channel, tt.channel, err)
				}
				if len(got) != 1 {
					t.Fatalf("reported %+v", got)
				}
				e := got[0]
				p := tlsrpt.Policy{Type: tt.kind, Domain: tt.of, Strings: tt.text, MXHosts: tt.hosts}
				if !strings.EqualFold(fmt.Sprintf("%+v", e.Policy), fmt.Sprintf("%+v", p)) { // hexadecimal digits
					t.Errorf("the policy is\n%+v, want\n%+v", e.Policy, p)
				}
				// A session that failed need not tell its addresses.
				if e.ReceivingIP.IsValid() && e.ReceivingIP.String() != "192.0.2.1" ||
					err == nil && (!e.ReceivingIP.IsValid() || e.SendingIP.String() != "198.51.100.1") {
					t.Errorf("from %v to %v", e.SendingIP, e.ReceivingIP)
				}
				if e.MXHost != "mx.example" || !e.Time.Equal(began) || (e.Result != "") != tt.failed {
					t.Errorf("reported %+v", e)
				}
				if (e.Code != "") != tt.failed {
					t.Errorf("the code is %q", e.Code)
				}
			})
		})
	}
}

// TestPolicyNotToBeHad checks that a report says why a policy could not be fetched.
func TestPolicyNotToBeHad(t *testing.T) {
	var got events
	var cache *mtasts.Cache
	lay(t, oneHost+`_mta-sts.d.example TXT "v=STSv1; id=1;"`+"\n", func(o *Options) {
		cache = withSTS(t, o, "")
		o.Reports = &got
	}, func(t *testing.T, b *bed) {
		defer cache.Close()
		b.add("192.0.2.1", &host{cert: aStranger().issue(t, "mx.example")})
		if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
			t.Error(err)
		}
		if len(got) != 2 || got[0].Code != "" || got[1].Result != tlsrpt.STSPolicyFetchError || got[1].Code == "" {
			t.Errorf("reported %+v", got)
		}
	})
}

// TestLiteralHasNoPolicy checks that nothing is looked up for an address literal, and nothing is reported.
func TestLiteralHasNoPolicy(t *testing.T) {
	var got events
	var cache *mtasts.Cache
	lay(t, oneHost, func(o *Options) { cache = withSTS(t, o, ""); o.Reports = &got }, func(t *testing.T, b *bed) {
		defer cache.Close()
		h := b.add("192.0.2.1", &host{})
		if _, err := b.Send(t.Context(), message(t, "a@[192.0.2.1]")); err != nil || len(h.letters()) != 1 {
			t.Error(err)
		}
		if b.dns.Total() != 0 || len(got) != 0 {
			t.Errorf("%d questions; reported %+v", b.dns.Total(), got)
		}
	})
}

// TestRecordsChange checks that no connection is used under other TLSA records than those that it was made for.
func TestRecordsChange(t *testing.T) {
	cert, other := aStranger().issue(t, "mx.example"), aStranger().issue(t, "mx.example")
	lay(t, oneHost+"_25._tcp.mx.example TLSA "+tlsa(cert)+"\n", nil, func(t *testing.T, b *bed) {
		b.dns.Secure(".")
		b.add("192.0.2.1", &host{cert: cert})
		for i, want := range []string{"ok", "4.7.5"} {
			res, err := b.Send(t.Context(), message(t, "a@d.example"))
			if got := outcomes(res); got != want {
				t.Errorf("message %d: %s, want %s: %v", i, got, want, err)
			}
			b.dns.Set("_25._tcp.mx.example TLSA " + tlsa(other) + "\n")
		}
	})
}

// TestNamesOfTrustAnchor checks that a connection which is good for one domain, by its name in the certificate, is not
// used for another one (RFC 7672 section 3.2.2).
func TestNamesOfTrustAnchor(t *testing.T) {
	text := oneHost + "e.example MX 10 mx.example\n" + anchor("mx.example")
	lay(t, text, nil, func(t *testing.T, b *bed) {
		b.dns.Secure(".")
		b.add("192.0.2.1", &host{cert: theAuthority().issue(t, "d.example")})
		for _, tt := range [][2]string{{"a@d.example", "ok"}, {"a@e.example", "4.7.5"}, {"b@d.example", "ok"}} {
			if res, err := b.Send(t.Context(), message(t, tt[0])); outcomes(res) != tt[1] {
				t.Errorf("%s: %s, want %s: %v", tt[0], outcomes(res), tt[1], err)
			}
		}
	})
}

// TestAddressesChange checks that a host which has moved is found at its new address.
func TestAddressesChange(t *testing.T) {
	lay(t, oneHost, nil, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{})
		b.add("192.0.2.7", &host{})
		for range 2 {
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
				t.Error(err)
			}
			<-time.After(20 * time.Minute) // no time in the bubble; the connection is gone by then
			b.dns.Set("mx.example A 192.0.2.7\n")
		}
		if got := b.order(); got != "192.0.2.1 192.0.2.7" {
			t.Errorf("dialled %s", got)
		}
	})
}

// TestWaysAreBounded fills the ways, and checks which one is forgotten.
func TestWaysAreBounded(t *testing.T) {
	var w ways
	made := 0
	get := func(name string) {
		k := wayKey{host: name}
		w.get(k, func() (*way, error) { made++; return &way{key: k}, nil })
	}
	for i := range 2 * maxWays {
		get(fmt.Sprint("h", i))
		get("busy")
	}
	if len(w.all) != maxWays || w.used.Len() != maxWays || made != 2*maxWays+1 {
		t.Errorf("%d ways, %d in the list, %d made", len(w.all), w.used.Len(), made)
	}
}

// TestFamilies checks the families that are used after what has happened.
func TestFamilies(t *testing.T) {
	const no = "550 5.7.25 no PTR"
	dead := func() *host { return &host{refuses: true} }
	t.Run("K13 IPv4 first", func(t *testing.T) {
		lay(t, twoFamilies, func(o *Options) { o.Family = PreferIPv4 }, func(t *testing.T, b *bed) {
			b.add("192.0.2.1", &host{})
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil || b.order() != "192.0.2.1" {
				t.Error(err)
			}
		})
	})
	for _, tt := range []struct{ name, four, want string }{
		{"one refused", "", "192.0.2.1 192.0.2.2"},
		{"both refused", no, "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, twoFamilies, nil, func(t *testing.T, b *bed) {
				b.add("2001:db8::1", &host{mail: no})
				b.add("192.0.2.1", &host{mail: tt.four})
				b.Send(t.Context(), message(t, "a@d.example"))
				<-time.After(time.Hour) // no time in the bubble
				for _, a := range []string{"2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"} {
					b.add(a, dead())
				}
				b.order()
				b.Send(t.Context(), message(t, "a@d.example"))
				if got := b.order(); got != tt.want {
					t.Errorf("dialled %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// TestWaivers checks which headers waive TLS.
func TestWaivers(t *testing.T) {
	long := "X: " + strings.Repeat("x", 10000) + "\r\n"
	cert := aStranger().issue(t, "mx.example")
	for text, want := range map[string]string{
		"TLS-Required: No\r\n\r\n":                                "ok",
		"TLS-Required : no\r\n\r\n":                               "ok",
		"tls-required:NO\n\n":                                     "ok",
		"TLS-Required: Yes\r\n\r\n":                               "4.7.5",
		"X-TLS-Required: No\r\n\r\n":                              "4.7.5",
		"Subject: x\r\n\r\nTLS-Required: No\r\n":                  "4.7.5",
		"Subject: x\n\nTLS-Required: No\n":                        "4.7.5",
		long + "TLS-Required: No\r\n\r\n":                         "ok",
		strings.Repeat("x", 4096) + "TLS-Required: No\r\n\r\n":    "4.7.5",
		strings.Repeat(long, 30) + "TLS-Required: No\r\n\r\n":     "4.7.5", // behind what is looked at
		long + strings.Repeat(" x\r\n", 9) + "Subject: x\r\n\r\n": "4.7.5",
		"Subject: x\r\n" + long[:3] + "TLS-Required: No\r\n\r\n":  "4.7.5",
	} {
		lay(t, oneHost+"_25._tcp.mx.example TLSA "+tlsa(cert)+"\n", nil, func(t *testing.T, b *bed) {
			b.dns.Secure(".")
			b.add("192.0.2.1", &host{})
			m := message(t, "a@d.example")
			m.Body = strings.NewReader(text)
			if res, err := b.Send(t.Context(), m); outcomes(res) != want {
				t.Errorf("%.60q: %s, want %s: %v", text, outcomes(res), want, err)
			}
		})
	}
}

// TestCacheOfPolicies checks who closes a cache of policies, and when it is not used.
func TestCacheOfPolicies(t *testing.T) {
	const sts = `_mta-sts.d.example TXT "v=STSv1; id=1;"` + "\n"
	for _, without := range []bool{false, true} {
		var cache *mtasts.Cache
		lay(t, oneHost+sts, func(o *Options) {
			cache = withSTS(t, o, enforced)
			o.DisableSTS = without
		}, func(t *testing.T, b *bed) {
			defer cache.Close()
			b.add("192.0.2.1", &host{})
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); (err == nil) != without {
				t.Errorf("DisableSTS %v: %v", without, err)
			}
			b.Close(t.Context())
			if found, err := cache.Lookup(t.Context(), "e.example"); err != nil || found.Policy != nil {
				t.Errorf("the cache of the caller is closed: %v", err)
			}
		})
	}
}

// TestDefaultCacheOfPolicies checks that the default cache fetches policies with TLSConfig and DialContext of Client.
func TestDefaultCacheOfPolicies(t *testing.T) {
	cert := theAuthority().issue(t, "mta-sts.d.example")
	text := oneHost + "_mta-sts.d.example TXT \"v=STSv1; id=1;\"\nmta-sts.d.example A 192.0.2.80\n"
	lay(t, text, func(o *Options) {
		dial := o.Client.DialContext
		o.DisableSTS = false
		o.Client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != "192.0.2.80:443" {
				return dial(ctx, network, addr)
			}
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				conn := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{*cert}})
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
						len(enforced), enforced)
				}
				io.Copy(io.Discard, conn)
			}()
			return ours, nil
		}
	}, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{})
		if res, err := b.Send(t.Context(), message(t, "a@d.example")); outcomes(res) != "4.7.5" {
			t.Errorf("the policy is not enforced: %v", err)
		}
	})
}

// TestOneTransaction checks that the case of a domain makes no second transaction.
func TestOneTransaction(t *testing.T) {
	calls := 0
	trace := &client.Trace{Message: func(context.Context, *client.Client, *client.Message) func(*client.Result, error) {
		calls++
		return nil
	}}
	lay(t, oneHost, func(o *Options) { o.Client.Trace = trace }, func(t *testing.T, b *bed) {
		h := b.add("192.0.2.1", &host{})
		if _, err := b.Send(t.Context(), message(t, "a@D.Example", "b@d.example", "c@D.EXAMPLE")); err != nil {
			t.Error(err)
		}
		if n := len(h.letters()); n != 1 || calls != 1 {
			t.Errorf("%d messages, %d by the trace of the caller", n, calls)
		}
	})
}

// TestFailsBefore checks the outcomes when there is nothing to send, or no time.
func TestFailsBefore(t *testing.T) {
	bad := errors.New("the disk is gone")
	lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{})
		m := message(t, "a@d.example", "b@e.example")
		m.Body = iotest.ErrReader(bad)
		res, err := b.Send(t.Context(), m)
		if res == nil || len(res.Recipients) != 2 || !errors.Is(err, bad) || b.order() != "" {
			t.Fatalf("%+v: %v", res, err)
		}
		for _, o := range res.Recipients {
			if !errors.Is(o.Err, bad) {
				t.Errorf("%v: %v", o.Address, o.Err)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(bad)
		if _, err = b.Send(ctx, message(t, "a@[192.0.2.1]")); !errors.Is(err, bad) || client.Temporary(err) || b.order() != "" {
			t.Errorf("temporary %v: %v", client.Temporary(err), err)
		}
	})
}

// TestLiteral checks that mail goes to the address in an address literal.
func TestLiteral(t *testing.T) {
	for _, at := range []string{"192.0.2.1", "2001:db8::1"} {
		lay(t, "", nil, func(t *testing.T, b *bed) {
			b.add(at, &host{cert: aStranger().issue(t, "mx.example")})
			to := "a@[" + strings.Replace(at, "2001", "IPv6:2001", 1) + "]"
			if _, err := b.Send(t.Context(), message(t, to)); err != nil || b.order() != at {
				t.Errorf("%s: %v", to, err)
			}
		})
	}
}

// TestNotificationWaitsForHost checks that a notification keeps REQUIRETLS if one host lacks it, and another cannot be
// reached now: that one may have it.
func TestNotificationWaitsForHost(t *testing.T) {
	lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
		b.dns.Secure(".")
		h := b.add("192.0.2.1", &host{cert: theAuthority().issue(t, "mx.example")})
		b.add("192.0.2.2", &host{refuses: true})
		m := message(t, "a@d.example")
		m.From, m.Mail = client.Message{}.From, ehlo.AddRequireTLS(m.Mail)
		res, err := b.Send(t.Context(), m)
		if outcomes(res) != "4.4.1" || len(h.letters()) != 0 {
			t.Errorf("%s, %d messages: %v", outcomes(res), len(h.letters()), err)
		}
	})
}

// TestNotificationError checks that the error tells of the attempt without REQUIRETLS alone.
func TestNotificationError(t *testing.T) {
	lay(t, oneHost, nil, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{refuses: true})
		m := message(t, "a@d.example")
		m.From, m.Mail = client.Message{}.From, ehlo.AddRequireTLS(m.Mail)
		res, err := b.Send(t.Context(), m)
		if outcomes(res) != "4.4.1" || strings.Contains(err.Error(), "REQUIRETLS") {
			t.Errorf("%s: %v", outcomes(res), err)
		}
	})
}
