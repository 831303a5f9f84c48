package mx

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/mx/tlsrpt"
	"smtpkit.example/smtp/ext/ehlo"
)

// policies serves the policies of MTA-STS over HTTPS.
type policies map[string]string // the text by the domain; "" for a server that fails

func (p policies) RoundTrip(r *http.Request) (*http.Response, error) {
	text := p[strings.TrimPrefix(r.URL.Hostname(), "mta-sts.")]
	if text == "" {
		return nil, errors.New("no policy")
	}
	return &http.Response{
		StatusCode: 200, Header: http.Header{"Content-Type": {"text/plain"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(text)),
	}, nil
}

// recorder notes what is reported.
type recorder []string

func (r *recorder) Record(e tlsrpt.Event) {
	*r = append(*r, fmt.Sprintf("%s %s %s", e.Domain, e.Policy.Type, or(e.Result, "success")))
}

// tlsa returns the record of usage 3 for a certificate.
func tlsa(c *tls.Certificate) string {
	return fmt.Sprintf("3 1 1 %x", sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo))
}

const enforced = "version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 86400\n"

// TestPolicies sends to one host under all kinds of policies, and checks what becomes of the message and what is
// reported. Each row is a complaint of users, or a rule.
func TestPolicies(t *testing.T) {
	valid := theAuthority().issue(t, "mx.example")
	alien := aStranger().issue(t, "mx.example")
	other := theAuthority().issue(t, "other.example")
	const signed = "d.example MX 10 mx.example\nmx.example A 192.0.2.1\n"
	record := func(data string) string { return "_25._tcp.mx.example TLSA " + data + "\n" }
	sts := func(id string) string { return "_mta-sts.d.example TXT \"v=STSv1; id=" + id + ";\"\n" }
	testing := strings.Replace(enforced, "enforce", "testing", 1)
	elsewhere := strings.Replace(enforced, "mx.example", "mx9.example", 1)
	require := func(m *client.Message) { m.Mail = ehlo.AddRequireTLS(m.Mail) }
	requireNull := func(m *client.Message) { require(m); m.From = client.Message{}.From }
	waive := func(m *client.Message) { m.Body = strings.NewReader("Subject: x\r\ntls-required: no\r\n\r\n") }
	local := func(o *Options) { o.RequireTLS = true }
	offers := []string{"REQUIRETLS"}
	tests := []struct {
		name    string
		dns     string
		secure  bool
		policy  string // of MTA-STS
		host    *host
		change  func(*Options)
		message func(*client.Message)
		want    string // the outcome, and how the message went; and then what is reported
	}{
		{"nothing", "", false, "", &host{}, nil, nil, "ok clear none|no-policy-found starttls-not-supported"},
		{"TLS", "", false, "", &host{cert: valid}, nil, nil, "ok TLS none|no-policy-found success"},
		{"TLS with any certificate", "", false, "", &host{cert: alien}, nil, nil, "ok TLS none|no-policy-found success"},
		{"broken TLS", "", false, "", &host{broken: true}, nil, nil,
			"ok clear none|no-policy-found validation-failure"},
		{"TLS that stalls", "", false, "", &host{stalls: true}, nil, nil,
			"ok clear none|no-policy-found validation-failure"},
		{"X12 DANE, TLS that stalls", record(tlsa(valid)), true, "", &host{stalls: true}, nil, nil,
			"4.7.5 - DANE|tlsa validation-failure"},
		{"the program requires TLS", "", false, "", &host{}, local, nil, "4.7.5 - local|no-policy-found starttls-not-supported"},
		{"the program requires TLS, and gets it", "", false, "", &host{cert: valid}, local, nil,
			"ok TLS local|no-policy-found success"},
		{"the program requires TLS of another", "", false, "", &host{cert: other}, local, nil,
			"4.7.5 - local|no-policy-found certificate-host-mismatch"},

		{"X12 DANE", record(tlsa(alien)), true, "", &host{cert: alien}, nil, nil, "ok TLS DANE|tlsa success"},
		{"X12 DANE, another key", record(tlsa(valid)), true, "", &host{cert: alien}, nil, nil,
			"4.7.5 - DANE|tlsa validation-failure"},
		{"X12 DANE, no TLS", record(tlsa(valid)), true, "", &host{}, nil, nil, "4.7.5 - DANE|tlsa starttls-not-supported"},
		{"X12 DANE, broken TLS", record(tlsa(valid)), true, "", &host{broken: true}, nil, nil,
			"4.7.5 - DANE|tlsa validation-failure"},
		{"X12 unusable", record("0 0 1 00"), true, "", &host{cert: alien}, nil, nil, "ok TLS DANE|tlsa success"},
		{"X12 unusable, no TLS", record("0 0 1 00"), true, "", &host{}, nil, nil,
			"4.7.5 - DANE|tlsa starttls-not-supported"},
		{"X10 bogus", record("BOGUS"), true, "", &host{cert: valid}, nil, nil, "4.4.3 - DANE|tlsa dnssec-invalid"},
		{"X10 no answer", record("SERVFAIL"), true, "", &host{cert: valid}, nil, nil, "4.4.3 - DANE|tlsa dnssec-invalid"},
		{"X10 a time-out", record("TIMEOUT"), true, "", &host{cert: valid}, nil, nil,
			"4.4.3 - DANE|tlsa validation-failure"},
		{"X10 insecure", record(tlsa(valid)), false, "", &host{cert: alien}, nil, nil, "ok TLS none|no-policy-found success"},
		{"X10 insecure, no answer", record("SERVFAIL"), false, "", &host{cert: alien}, nil, nil,
			"ok TLS none|no-policy-found success"},
		{"without DANE", record(tlsa(valid)), true, "", &host{cert: alien}, func(o *Options) { o.DisableDANE = true }, nil,
			"ok TLS none|no-policy-found success"},

		{"X05 enforce", sts("1"), false, enforced, &host{cert: valid}, nil, nil, "ok TLS STS|sts success"},
		{"X05 enforce, another name", sts("1"), false, enforced, &host{cert: other}, nil, nil,
			"4.7.5 - STS|sts certificate-host-mismatch"},
		{"X05 enforce, not trusted", sts("1"), false, enforced, &host{cert: alien}, nil, nil,
			"4.7.5 - STS|sts certificate-not-trusted"},
		{"X05 enforce, no TLS", sts("1"), false, enforced, &host{}, nil, nil, "4.7.5 - STS|sts starttls-not-supported"},
		{"X05 enforce, broken TLS", sts("1"), false, enforced, &host{broken: true}, nil, nil,
			"4.7.5 - STS|sts validation-failure"},
		{"X05 enforce, another host", sts("1"), false, elsewhere, &host{cert: valid}, nil, nil,
			"4.7.5 - STS|sts validation-failure"},
		{"testing is not enforced", sts("1"), false, testing, &host{cert: other}, nil, nil,
			"ok TLS none|sts certificate-host-mismatch"},
		{"testing, no TLS", sts("1"), false, testing, &host{}, nil, nil, "ok clear none|sts starttls-not-supported"},
		{"testing, broken TLS", sts("1"), false, testing, &host{broken: true}, nil, nil,
			"ok clear none|sts validation-failure"},
		{"testing, in order", sts("1"), false, testing, &host{cert: valid}, nil, nil, "ok TLS none|sts success"},
		{"mode none", sts("1"), false, strings.Replace(enforced, "enforce", "none", 1), &host{}, nil, nil,
			"ok clear none|no-policy-found starttls-not-supported"},
		{"X06 no policy to be had", sts("1"), false, "", &host{cert: alien}, nil, nil,
			"ok TLS none|no-policy-found success; sts sts-policy-fetch-error"},
		{"the record cannot be looked up", "_mta-sts.d.example TXT SERVFAIL\n", false, enforced, &host{cert: alien}, nil, nil,
			"ok TLS none|no-policy-found success"},

		{"X07 DANE before enforce", sts("1") + record(tlsa(alien)), true, enforced, &host{cert: alien}, nil, nil,
			"ok TLS DANE|tlsa success"},
		{"X07 a failure of DANE", sts("1") + record(tlsa(alien)), true, enforced, &host{cert: valid}, nil, nil,
			"4.7.5 - DANE|tlsa validation-failure"},
		{"X07 a failed look-up", sts("1") + record("SERVFAIL"), true, enforced, &host{cert: valid}, nil, nil,
			"4.4.3 - DANE|tlsa dnssec-invalid"},
		{"unusable, enforce", sts("1") + record("0 0 1 00"), true, enforced, &host{cert: alien}, nil, nil,
			"4.7.5 - STS|tlsa certificate-not-trusted"},

		{"V04 in clear", "", true, "", &host{keywords: offers}, nil, require,
			"5.7.10 - REQUIRETLS|no-policy-found starttls-not-supported"},
		{"V04 proved", "", true, "", &host{cert: valid, secured: offers}, nil, require,
			"ok TLS REQUIRETLS|no-policy-found success"},
		{"V04 another name", "", true, "", &host{cert: other, secured: offers}, nil, require,
			"5.7.10 - REQUIRETLS|no-policy-found certificate-host-mismatch"},
		{"V04 not proved", "", false, "", &host{cert: valid, secured: offers}, nil, require, "5.7.30 - REQUIRETLS|"},
		{"V04 not offered", "", true, "", &host{cert: valid}, nil, require, "5.7.30 TLS! REQUIRETLS|no-policy-found success"},
		{"V04 by MTA-STS", sts("1"), false, enforced, &host{cert: valid, secured: offers}, nil, require,
			"ok TLS REQUIRETLS|sts success"},
		{"V04 by DANE", record(tlsa(alien)), true, "", &host{cert: alien, secured: offers}, nil, require,
			"ok TLS DANE|tlsa success"},
		{"V06 a bounce", "", false, "", &host{}, nil, requireNull, "ok clear none|no-policy-found starttls-not-supported"},
		{"V06 a bounce, DANE", record(tlsa(alien)), true, "", &host{cert: valid}, nil, requireNull,
			"4.7.5 - DANE|tlsa validation-failure; tlsa validation-failure"},

		{"waived, no TLS", sts("1"), false, enforced, &host{}, nil, waive, "ok clear REQUIRETLS|sts starttls-not-supported"},
		{"waived, DANE", record(tlsa(valid)), true, "", &host{cert: alien}, nil, waive, "ok TLS REQUIRETLS|tlsa success"},
		{"waived, another host", sts("1"), false, elsewhere, &host{cert: valid}, nil, waive,
			"ok TLS REQUIRETLS|sts validation-failure"},
		{"waived in a folded field", sts("1"), false, enforced, &host{}, nil,
			func(m *client.Message) {
				m.Body = strings.NewReader("Subject: x\r\n y\r\nTLS-Required:\r\n\t\r\n No\r\n\r\n")
			},
			"ok clear REQUIRETLS|sts starttls-not-supported"},
		{"not waived by another field", sts("1"), false, enforced, &host{}, nil,
			func(m *client.Message) { m.Body = strings.NewReader("Subject: x\r\n TLS-Required: No\r\n\r\n") },
			"4.7.5 - STS|sts starttls-not-supported"},
		{"waived and required", "", true, "", &host{}, nil, func(m *client.Message) { waive(m); require(m) },
			"5.7.10 - REQUIRETLS|no-policy-found starttls-not-supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *T) {
			var reports recorder
			text := signed + tt.dns
			var cache *mtasts.Cache
			lay(t, text, func(o *Options) {
				var err error
				cache, err = mtasts.New(&mtasts.Options{Resolver: o.Resolver, RoundTripper: policies{"d.example": tt.policy}})
				if err != nil {
					t.Fatal(err)
				}
				o.STS, o.DisableSTS, o.Reports = cache, false, &reports
				if tt.change != nil {
					tt.change(o)
				}
			}, func(t *T, b *bed) {
				defer cache.Close()
				if tt.secure {
					b.dns.Secure(".")
				}
				h := b.add("192.0.2.1", tt.host)
				m := message(t, "a@d.example")
				if tt.message != nil {
					tt.message(m)
				}
				res, err := b.Send(t.Context(), m)
				want, reported, _ := strings.Cut(tt.want, "|")
				if got := outcomes(res) + " " + b.last(h); got != want {
					t.Errorf("got %s, want %s: %v", got, want, err)
				}
				fails := tt.dns == sts("1") && tt.policy == "" || strings.Contains(tt.dns, "_mta-sts.d.example TXT SERVFAIL")
				if problem := b.attempts[0].STSProblem; (problem != nil) != fails {
					t.Errorf("the problem with MTA-STS is %v", problem)
				}
				if got := strings.ReplaceAll(strings.Join(reports, "; "), "d.example ", ""); got != reported {
					t.Errorf("reported %s, want %s", got, reported)
				}
				if tt.host.broken && strings.HasPrefix(want, "ok") && strings.Count(b.order(), "192.0.2.1") != 2 {
					t.Error("there was no second connection")
				}
			})
		})
	}
}

// T is testing.T, where the package has another meaning.
type T = testing.T

// last writes how the host has got the message, and the policy that decided.
func (b *bed) last(h *host) string {
	way := "-"
	a := b.attempts[len(b.attempts)-1]
	for _, l := range h.letters() {
		way = "clear"
		if l.tls {
			way = "TLS"
		}
	}
	if way == "-" && a.TLS != nil {
		way = "TLS!" // a session, and no message
	}
	return way + " " + a.Policy.String()
}

// A slow is policies that take a while.
type slow struct {
	policies
	takes time.Duration
}

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(s.takes)
	return s.policies.RoundTrip(r)
}

// TestPolicyHasChanged checks that a message is not kept back by a policy when the domain has another one by now (RFC
// 8461 section 5.1): the first look does not wait for it, and the one after the failure does.
func TestPolicyHasChanged(t *testing.T) {
	t.Run("X09", func(t *T) {
		var cache *mtasts.Cache
		lay(t, oneHost+"_mta-sts.d.example TXT \"v=STSv1; id=2;\"\n", func(o *Options) {
			store := mtasts.MemoryStore(0)
			old := &mtasts.Policy{Mode: mtasts.Enforce, MX: []string{"mx9.example"}, MaxAge: 24 * time.Hour}
			err := store.Save(t.Context(), &mtasts.Entry{Domain: "d.example", ID: "1", Policy: old, Fetched: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			cache, err = mtasts.New(&mtasts.Options{
				Resolver: o.Resolver, Store: store, RoundTripper: slow{policies{"d.example": enforced}, 10 * time.Second},
			})
			if err != nil {
				t.Fatal(err)
			}
			o.STS, o.DisableSTS = cache, false
		}, func(t *T, b *bed) {
			defer cache.Close()
			h := b.add("192.0.2.1", &host{cert: theAuthority().issue(t, "mx.example")})
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
				t.Error(err)
			}
			if got := h.letters(); len(got) != 1 || !got[0].tls || len(b.attempts) != 2 {
				t.Errorf("%d messages in %d attempts", len(got), len(b.attempts))
			}
		})
	})
}

// TestPolicyIsUnknown checks that nothing is sent if it cannot be known what the domain demands.
func TestPolicyIsUnknown(t *testing.T) {
	lay(t, oneHost, func(o *Options) {
		cache, err := mtasts.New(&mtasts.Options{Resolver: o.Resolver})
		if err != nil {
			t.Fatal(err)
		}
		cache.Close()
		o.STS, o.DisableSTS = cache, false
	}, func(t *T, b *bed) {
		b.add("192.0.2.1", &host{})
		if _, err := b.Send(t.Context(), message(t, "a@d.example")); !client.Temporary(err) || b.order() != "" {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestServerName checks the name that a client asks for in TLS.
func TestServerName(t *testing.T) {
	cert := theAuthority().issue(t, "mx.example", "base.example")
	for _, tt := range []struct {
		name   string
		dns    string
		change func(*Options)
		want   string
	}{
		{"K12 no policy", "mx.example A 192.0.2.1\n", nil, "mx.example"},
		{"K12 verified", "mx.example A 192.0.2.1\n", func(o *Options) { o.RequireTLS = true }, "mx.example"},
		{"K12 an alias", "mx.example CNAME base.example\nbase.example A 192.0.2.1\n",
			func(o *Options) { o.RequireTLS = true }, "mx.example"},
		{"K12 the TLSA base domain", "mx.example CNAME base.example\nbase.example A 192.0.2.1\n" +
			"_25._tcp.base.example TLSA " + tlsa(cert) + "\n", nil, "base.example"},
		{"K12 the TLSA records of the alias", "mx.example CNAME base.example\nbase.example A 192.0.2.1\n" +
			"_25._tcp.mx.example TLSA " + tlsa(cert) + "\n", nil, "mx.example"},
	} {
		t.Run(tt.name, func(t *T) {
			lay(t, "d.example MX 10 mx.example\n"+tt.dns, tt.change, func(t *T, b *bed) {
				b.dns.Secure(".")
				h := b.add("192.0.2.1", &host{cert: cert})
				if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(h.names, " "); got != tt.want {
					t.Errorf("the client asks for %s, want %s", got, tt.want)
				}
			})
		})
	}
}
