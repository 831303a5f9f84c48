package mx

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/mtasts"
)

// A kind is a sort of domain, with the fault that it has.
type kind struct {
	name  string
	dns   string        // lines for the domain; D is its name, and A the address that is its own
	host  func() *host  // at the address; nil: there is none
	want  string        // the outcome
	after time.Duration // when it is known at the latest
}

// kinds are what the domains of the simulation are, in turns.
func kinds(cert *tls.Certificate) []kind {
	const plain = "D MX 10 mx.D\nmx.D A A\n"
	const soon = time.Second
	return []kind{
		{"good", plain, func() *host { return &host{} }, "ok", soon},
		{"good", plain, func() *host { return &host{takes: 200 * time.Millisecond, tarpit: 20 * time.Millisecond} }, "ok", soon},
		{"TLS", plain, func() *host { return &host{cert: cert} }, "ok", soon},
		{"implicit", "D A A\n", func() *host { return &host{} }, "ok", soon},
		{"broken TLS", plain, func() *host { return &host{broken: true} }, "ok", soon},
		{"a dead host", plain, func() *host { return &host{blackout: true} }, "4.4.1", time.Minute},
		{"refuses connections", plain, func() *host { return &host{refuses: true} }, "4.4.1", soon},
		{"a backup", "D MX 10 gone.D\nD MX 20 mx.D\nmx.D A A\n", func() *host { return &host{} }, "ok", soon},
		{"does not greet", plain, func() *host { return &host{greeting: "-"} }, "4.4.2", 6 * time.Minute},
		{"a tarpit", plain, func() *host { return &host{tarpit: 100 * time.Second} }, "ok", 15 * time.Minute},
		{"greylists", plain, func() *host { return &host{rcpt: func(string) string { return "450 4.7.1 later" }} }, "450", soon},
		{"no such user", plain, func() *host { return &host{rcpt: func(string) string { return "550 5.1.1 nobody" }} }, "550", soon},
		{"busy", plain, func() *host { return &host{greeting: "421 4.3.2 busy"} }, "421", soon},
		{"says no", plain, func() *host { return &host{greeting: "554 5.7.1 no"} }, "554", soon},
		{"in doubt", plain, func() *host { return &host{hangup: "."} }, "4.4.2?", soon},
		{"null MX", "D MX 0 .\n", nil, "5.1.10", soon},
		{"no such domain", "", nil, "5.1.2", soon},
		{"lame DNS", "D MX TIMEOUT\n", nil, "4.4.3", time.Minute},
		{"SERVFAIL", "D MX SERVFAIL\n", nil, "4.4.3", soon},
		{"lame host", "D MX 10 mx.D\nmx.D A TIMEOUT\nmx.D AAAA TIMEOUT\n", nil, "4.4.3", time.Minute},
		{"lame TLSA", plain + "_25._tcp.mx.D TLSA TIMEOUT\n", func() *host { return &host{cert: cert} }, "4.4.3", time.Minute},
		{"bogus TLSA", plain + "_25._tcp.mx.D TLSA BOGUS\n", func() *host { return &host{cert: cert} }, "4.4.3", soon},
		{"TLS that stalls", plain, func() *host { return &host{stalls: true} }, "ok", 6 * time.Minute},
		{"no policy to be had", plain + "_mta-sts.D TXT \"v=STSv1; id=1;\"\n", func() *host { return &host{} }, "ok", soon},
		{"a policy", plain + "_mta-sts.D TXT \"v=STSv1; id=1;\"\n", func() *host { return &host{} }, "4.7.5", soon},
	}
}

// TestThousandDomains sends to a thousand domains with all kinds of faults. It is one message, but for the race
// detector several, one after another. Each recipient has one outcome, the true one. No domain waits for another: what
// has no fault is delivered at once, in the time of the bubble.
func TestThousandDomains(t *testing.T) {
	list := kinds(aStranger().issue(t, "mx.example"))
	if domainsAtOnce%len(list) != 0 {
		t.Fatalf("not all of the %d kinds are together", len(list))
	}
	for from := 0; from < 1000; from += domainsAtOnce {
		sendToMany(t, list, from, from+domainsAtOnce)
	}
}

// sendToMany sends one message to the domains from one number up to another. Each is of one of the kinds, in turns.
func sendToMany(t *testing.T, list []kind, from, end int) {
	var text strings.Builder
	served := policies{}
	of := func(i int) *kind { return &list[i%len(list)] }
	name := func(i int) string { return fmt.Sprintf("d%d.example", i) }
	address := func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, i%250+1) }
	for i := from; i < end; i++ {
		line := strings.ReplaceAll(of(i).dns, " A A\n", " A "+address(i)+"\n")
		text.WriteString(strings.ReplaceAll(line, "D", name(i)))
		if of(i).name == "a policy" {
			served[name(i)] = strings.Replace(enforced, "mx.example", "mx."+name(i), 1)
		}
	}
	var cache *mtasts.Cache
	var mu sync.Mutex
	known := map[string]time.Duration{}
	var began time.Time
	lay(t, text.String(), func(o *Options) {
		var err error
		cache, err = mtasts.New(&mtasts.Options{Resolver: o.Resolver, RoundTripper: served})
		if err != nil {
			t.Fatal(err)
		}
		o.STS, o.DisableSTS = cache, false
	}, func(t *testing.T, b *bed) {
		defer cache.Close()
		b.dns.Latency = 30 * time.Millisecond
		b.dns.Secure(".")
		hosts := map[int]*host{}
		var to []string
		for i := from; i < end; i++ {
			if of(i).host != nil {
				hosts[i] = b.add(address(i), of(i).host())
			}
			to = append(to, "x@"+name(i))
		}
		began = time.Now()
		m := message(t, to...)
		one := &watched{Deliverer: b.Deliverer, known: func(domain string) {
			mu.Lock()
			defer mu.Unlock()
			known[domain] = time.Since(began)
		}}
		res, err := one.Send(t, m)
		if err == nil || len(res.Recipients) != end-from {
			t.Fatalf("%d outcomes: %v", len(res.Recipients), err)
		}
		for at, o := range res.Recipients {
			i := from + at
			k := of(i)
			if got := told(o.Err); got != k.want {
				t.Errorf("%s: the outcome is %s, want %s: %v", k.name, got, k.want, o.Err)
			}
			if after, ok := known[name(i)]; !ok || after > k.after {
				t.Errorf("%s: the outcome came after %v, and not within %v", k.name, after, k.after)
			}
			if hosts[i] == nil {
				continue
			}
			n := len(hosts[i].letters())
			if want := map[bool]int{true: 1}[o.Err == nil]; n != want {
				t.Errorf("%s: the host has %d messages, want %d", k.name, n, want)
			}
		}
		if b.most > defaultMaxConns || b.ways.used.Len() > maxWays || len(b.memory.sites) > maxSites {
			t.Errorf("%d connections, %d ways, %d sites", b.most, b.ways.used.Len(), len(b.memory.sites))
		}
	})
}

// watched notes when the outcome of each domain is known.
type watched struct {
	*Deliverer
	known func(domain string)
}

// Send is that of the Deliverer, step by step.
func (w *watched) Send(t *testing.T, m *client.Message) (*client.Result, error) {
	shared, err := client.Share(m)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	jobs := w.split(m)
	for _, j := range jobs {
		j.shared, j.m, j.waives = shared, m, func() bool { return false }
	}
	each(jobs, func(j *job) {
		j.run(t.Context())
		w.known(j.domain.Key())
	})
	return collect(m, jobs)
}
