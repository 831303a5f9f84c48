package mtasts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// web is the policy hosts of a test, as an http.RoundTripper.
type web struct {
	mu    sync.Mutex
	texts map[string]string // by host; none: the host cannot be reached; "hang": it never answers
	took  time.Duration     // how long an answer takes
	asked []string          // hosts
	most  int               // requests at once
	now   int
}

func (w *web) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.asked = append(w.asked, req.URL.Host)
	w.now++
	w.most = max(w.most, w.now)
	body, ok := w.texts[req.URL.Host]
	took := w.took
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.now--
		w.mu.Unlock()
	}()
	if body == "hang" {
		took = 24 * time.Hour
	}
	select {
	case <-time.After(took):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if !ok {
		return nil, errors.New("connection refused")
	}
	return &http.Response{
		StatusCode: 200,
		Header:     http.Header{"Content-Type": {"text/plain"}},
		Body:       io.NopCloser(strings.NewReader(body)),
	}, nil
}

func (w *web) set(host, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts[host] = text
}

func (w *web) remove(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.texts, host)
}

// fetches returns how often all hosts were asked since the last call.
func (w *web) fetches() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.asked)
	w.asked = nil
	return n
}

const (
	host = "mta-sts.example.org"
	day  = 24 * time.Hour
)

// A bench is a Cache with a DNS and a web of its own.
type bench struct {
	*testing.T
	*Cache
	web *web
	dns *dnstest.Resolver
	log logBuffer
}

// inBubble runs a test with a Cache in a bubble. Example.org has a policy that enforces for a week.
func inBubble(t *testing.T, change func(*Options), run func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, web: &web{texts: map[string]string{host: text("enforce", 604800)}}, dns: dnstest.New(zone)}
		opt := &Options{Resolver: b.dns, RoundTripper: b.web, MaxRefreshes: -1, Logger: slog.New(slog.NewTextHandler(&b.log, nil))}
		if change != nil {
			change(opt)
		}
		b.Cache = newCache(t, opt)
		run(b)
	})
}

// expect looks a domain up. Want is the mode of the policy or "-", the result for reports or "-", and how often hosts
// were asked.
func (b *bench) expect(domain, want string) *Found {
	b.Helper()
	f, err := b.Cache.Lookup(b.Context(), domain)
	if err != nil {
		b.Fatal(err)
	}
	b.compare(f, want)
	return f
}

func (b *bench) refresh(domain, want string) {
	b.Helper()
	f, err := b.Cache.Refresh(b.Context(), domain)
	if err != nil {
		b.Fatal(err)
	}
	b.compare(f, want)
}

func (b *bench) compare(f *Found, want string) {
	b.Helper()
	mode, result := "-", "-"
	if f.Policy != nil {
		mode = string(f.Policy.Mode)
	}
	if f.Problem != nil {
		result = "unreported"
		if r := f.Result(); r != "" {
			result = r
		}
	}
	if got := fmt.Sprintf("%s %s %d", mode, result, b.web.fetches()); got != want {
		b.Errorf("%s: %s, want %s (%v)", f.Domain, got, want, f.Problem)
	}
}

// A logBuffer is what a Cache has logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// logged returns what the Cache has logged, once its goroutines have nothing to do.
func (b *bench) logged() string {
	synctest.Wait()
	return b.log.String()
}

func (b *bench) record(data string) { b.dns.Set("_mta-sts.example.org. 0 TXT " + data) }

// TestX06_Cached: a policy applies until its time is over, whatever else happens (RFC 8461 section 3.3).
func TestX06_Cached(t *testing.T) {
	tests := []struct {
		name  string
		fault func(b *bench)
		want  string
	}{
		{"the same id", func(b *bench) { b.web.set(host, text("testing", 1)) }, "enforce - 0"},
		{"the host is down", func(b *bench) { b.web.remove(host); b.record(`"v=STSv1; id=2"`) }, "enforce sts-policy-fetch-error 1"},
		{"the policy is broken", func(b *bench) { b.web.set(host, "x"); b.record(`"v=STSv1; id=2"`) }, "enforce sts-policy-invalid 1"},
		{"no record", func(b *bench) { b.dns.Delete("_mta-sts.example.org") }, "enforce sts-policy-fetch-error 0"},
		{"other records", func(b *bench) { b.record(`"v=spf1 -all"`) }, "enforce sts-policy-fetch-error 0"},
		{"NXDOMAIN", func(b *bench) { b.record("NXDOMAIN") }, "enforce sts-policy-fetch-error 0"},
		{"a broken record", func(b *bench) { b.record(`"v=STSv1; id=!"`) }, "enforce sts-policy-invalid 0"},
		{"two records", func(b *bench) {
			b.dns.Set("_mta-sts.example.org. 0 TXT \"v=STSv1; id=1\"\n_mta-sts.example.org. 0 TXT \"v=STSv1; id=2\"")
		}, "enforce sts-policy-invalid 0"},
		{"SERVFAIL", func(b *bench) { b.record("SERVFAIL") }, "enforce sts-policy-fetch-error 0"},
		{"bogus", func(b *bench) { b.record("BOGUS") }, "enforce sts-policy-fetch-error 0"},
		{"the DNS is silent", func(b *bench) { b.record("TIMEOUT") }, "enforce - 0"}, // not known yet
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				start := time.Now()
				b.expect("example.org", "enforce - 1")
				test.fault(b)
				b.expect("example.org", test.want)
				time.Sleep(7*day - time.Minute)
				if f := b.expect("example.org", test.want); f.ID != "1" || !f.Fetched.Equal(start) {
					t.Errorf("id %q, fetched at %v", f.ID, f.Fetched)
				}
				time.Sleep(2 * time.Minute) // now it is over
				if f := lookup(b.T, b.Cache, "example.org"); f.Policy != nil && f.Policy.Mode == Enforce {
					t.Errorf("a policy that has expired applies: %s", describe(f.Policy))
				}
			})
		})
	}
}

// TestX06_New: another id makes Lookup fetch, and what it fetches replaces what was there at once.
func TestX06_New(t *testing.T) {
	tests := []struct{ name, text, want, after string }{
		{"testing", text("testing", 86400), "testing - 1", "testing - 0"},
		{"none", text("none", 86400), "- - 1", "- - 0"},
		{"none without life", text("none", 0), "- - 1", "- - 1"},
		{"a life that is shorter", text("enforce", 60), "enforce - 1", "enforce - 0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.expect("example.org", "enforce - 1")
				b.web.set(host, test.text)
				b.record(`"v=STSv1; id=2"`)
				b.expect("example.org", test.want)
				time.Sleep(time.Second)
				b.expect("example.org", test.after)
			})
		})
	}
}

// TestX06_GivenUp: a domain that has given MTA-STS up may remove all of it, and nobody is told of a problem.
func TestX06_GivenUp(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.web.set(host, text("none", 86400))
		b.expect("example.org", "- - 1")
		b.web.remove(host)
		b.dns.Delete("_mta-sts.example.org")
		b.expect("example.org", "- - 0")
		b.record(`"v=STSv1; id=2"`)
		b.expect("example.org", "- sts-policy-fetch-error 1")
		if text := b.logged(); text != "" {
			t.Errorf("the log has %q", text)
		}
		b.record("SERVFAIL")
		b.expect("example.org", "- unreported 0")
	})
}

// TestNothingCached: without a policy that applies mail is delivered as if there were no MTA-STS.
func TestNothingCached(t *testing.T) {
	tests := []struct {
		name  string
		set   func(b *bench)
		want  string
		takes time.Duration
	}{
		{"no record", func(b *bench) { b.dns.Delete("_mta-sts.example.org") }, "- - 0", 0},
		{"NXDOMAIN", func(b *bench) { b.record("NXDOMAIN") }, "- - 0", 0},
		{"NODATA", func(b *bench) { b.record("NODATA") }, "- - 0", 0},
		{"other records", func(b *bench) { b.record(`"v=spf1 -all"`) }, "- - 0", 0},
		{"a broken record", func(b *bench) { b.record(`"v=STSv1; x"`) }, "- unreported 0", 0},
		{"SERVFAIL", func(b *bench) { b.record("SERVFAIL") }, "- unreported 0", 0},
		{"a broken delegation", func(b *bench) { b.record("TIMEOUT") }, "- unreported 0", 10 * time.Second},
		{"the host is down", func(b *bench) { b.web.remove(host) }, "- sts-policy-fetch-error 1", 0},
		{"the host hangs", func(b *bench) { b.web.set(host, "hang") }, "- sts-policy-fetch-error 1", time.Minute},
		{"the policy is broken", func(b *bench) { b.web.set(host, "") }, "- sts-policy-invalid 1", 0},
		{"an alias", func(b *bench) {
			b.dns.Delete("_mta-sts.example.org")
			b.dns.Set("_mta-sts.example.org. CNAME a.provider.example.\na.provider.example. CNAME b.provider.example.\n" +
				`b.provider.example. TXT "v=STS" "v1; id=" "7;"`)
		}, "enforce - 1", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				test.set(b)
				start := time.Now()
				b.expect("example.org", test.want)
				if took := time.Since(start); took != test.takes {
					t.Errorf("it took %v, want %v", took, test.takes)
				}
			})
		})
	}
}

// TestX08_Parent: a policy is that of one domain (RFC 8461 section 3.4).
func TestX08_Parent(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.expect("mail.example.org", "- - 0")
		if n := b.dns.Asked("_mta-sts.mail.example.org", dns.TXT); n != 1 {
			t.Errorf("%d questions for the domain itself", n)
		}
		asked := b.dns.Total()
		for _, domain := range []string{"[192.0.2.1]", "[IPv6:2001:db8::1]", "", ".", "a..b", "a b", "../x", "*.example.org", "a/b",
			strings.Repeat("a.", 122) + "aa", "-a.example"} {
			b.expect(domain, "- - 0")
		}
		if n := b.dns.Total() - asked; n != 0 {
			t.Errorf("%d questions for what can have no policy", n)
		}
	})
}

// TestX09_Refresh: a caller who is about to give a message up sees a new policy, and learns if it cannot be seen.
func TestX09_Refresh(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		b.refresh("example.org", "enforce - 0") // the same id: there is no other policy
		b.record("SERVFAIL")
		b.expect("example.org", "enforce sts-policy-fetch-error 0")
		b.web.set(host, text("testing", 86400))
		b.record(`"v=STSv1; id=2"`)
		b.expect("example.org", "enforce sts-policy-fetch-error 0") // the DNS is left alone for a while
		b.refresh("example.org", "testing - 1")                     // but not before a message is given up
		b.expect("example.org", "testing - 0")

		b.web.set(host, "hang")
		b.record(`"v=STSv1; id=3"`)
		start := time.Now()
		b.refresh("example.org", "testing sts-policy-fetch-error 1")
		if took := time.Since(start); took != time.Minute {
			t.Errorf("Refresh waited for %v", took)
		}
	})
}

// TestClose: nobody learns from a Cache that is being closed that there is no policy.
func TestClose(t *testing.T) {
	inBubble(t, func(o *Options) { o.MaxRefreshes = 1 }, func(b *bench) {
		b.web.set(host, "hang")
		var all sync.WaitGroup
		all.Go(func() {
			if f, err := b.Lookup(b.Context(), "example.org"); f != nil || err != errClosed {
				t.Errorf("%v, %v", f, err)
			}
		})
		synctest.Wait()
		b.Close()
		all.Wait()
		if f, err := b.Lookup(b.Context(), "example.org"); f != nil || err != errClosed {
			t.Errorf("%v, %v", f, err)
		}
		b.Close()
	})
}

// A brokenStore fails.
type brokenStore struct{}

var errStore = errors.New("disk on fire")

func (brokenStore) Load(context.Context, string) (*Entry, error) { return nil, errStore }
func (brokenStore) Save(context.Context, *Entry) error           { return errStore }
func (brokenStore) Domains(context.Context) ([]string, error)    { return nil, errStore }

func TestBrokenStore(t *testing.T) {
	inBubble(t, func(o *Options) { o.Store = brokenStore{}; o.MaxRefreshes = 1 }, func(b *bench) {
		b.expect("example.org", "enforce - 1")
		for _, want := range []string{"not loaded", "not saved", "not listed"} {
			if !strings.Contains(b.logged(), want) {
				t.Errorf("the log does not say %q", want)
			}
		}
	})
}
