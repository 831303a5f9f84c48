package policy

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// zones is what the DNS has in these tests: 192.0.2.N and 2001:db8::N are listed.
var zones = `
	2.0.0.127.bl.example.  A 127.0.0.2
	2.2.0.192.bl.example.  A 127.0.0.2
	2.2.0.192.bl.example.  TXT "see https://bl.example/192.0.2.2"
	3.2.0.192.bl.example.  A 127.0.0.3
	3.2.0.192.bl.example.  A 127.0.0.10
	3.2.0.192.bl.example.  TXT SERVFAIL
	4.2.0.192.bl.example.  A 127.255.255.254
	5.2.0.192.bl.example.  A 127.0.0.2
	5.2.0.192.bl.example.  A 198.51.100.1
	6.2.0.192.bl.example.  A 127.0.0.1
	7.2.0.192.bl.example.  A SERVFAIL
	8.2.0.192.bl.example.  A TIMEOUT
	9.2.0.192.bl.example.  A 127.0.0.2
	9.2.0.192.bl.example.  TXT "tab\009bell\007 line\013\010250 ok \195\182 ` + longText + `"
	10.2.0.192.bl.example. A 127.255.0.2
	b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example. A 127.0.0.2

	2.0.0.127.other.example. A 127.0.0.2
	2.2.0.192.other.example. A 127.0.0.4
	3.2.0.192.other.example. A 127.0.0.4

	2.0.0.127.wl.example.  A 127.0.0.2
	2.2.0.192.wl.example.  A 127.0.5.0
	3.2.0.192.wl.example.  A 127.0.5.2

	*.dead.example.        A 127.0.0.2
	*.parked.example.      A 203.0.113.80
	*.down.example.        A SERVFAIL
	2.2.0.192.half.example. A 127.0.0.2
	1.0.0.127.half.example. A SERVFAIL

	test.dbl.example.              A 127.0.1.2
	spam.example.dbl.example.      A 127.0.1.2
	xn--bcher-kva.example.dbl.example. A 127.0.1.3
`

var longText = strings.Repeat("x", 250)

// TestDNSList checks what lists say about clients, in dialogues with a server.
func TestDNSList(t *testing.T) {
	bl, other := List{Zone: "bl.example"}, List{Zone: "Other.Example."}
	wl := List{Zone: "wl.example", Allow: true, Answers: []ListAnswer{{Addrs: "127.0.0-255.1-3"}}}
	dbl := List{Zone: "dbl.example", Subject: ListHello | ListSender}
	lists := func(l ...List) DNSList { return DNSList{Lists: l} }
	listed := func(list, client, answer string) string {
		return fmt.Sprintf("dnsbl=listed (%s is listed by %s with %s)", client, list, answer)
	}
	with := func(l List, f func(*List)) List { f(&l); return l }
	answers := func(a ...ListAnswer) func(*List) { return func(l *List) { l.Answers = a } }
	const passes, refused = "250", "554 5.7.1 "
	tests := []struct {
		name   string
		part   DNSList
		client string
		hello  string
		from   string
		reply  string
		found  string
	}{
		{"Y10 listed", lists(bl), "192.0.2.2", "", "", refused +
			"192.0.2.2 is listed by bl.example: see https://bl.example/192.0.2.2",
			listed("bl.example", "192.0.2.2", "127.0.0.2")},
		{"Y10 listed, IPv6", lists(bl), "2001:db8::567:89ab", "", "", refused +
			"2001:db8::567:89ab is listed by bl.example\r",
			listed("bl.example", "2001:db8::567:89ab", "127.0.0.2")},
		{"IPv4 in IPv6", lists(bl), "::ffff:192.0.2.2", "", "", refused, listed("bl.example", "192.0.2.2", "127.0.0.2")},
		{"no reason", lists(bl), "192.0.2.3", "", "", refused + "192.0.2.3 is listed by bl.example\r",
			listed("bl.example", "192.0.2.3", "127.0.0.3")},
		{"a reason from a stranger", lists(bl), "192.0.2.9", "", "", refused +
			"192.0.2.9 is listed by bl.example: tab?bell? " +
			"line??250 ok ?? " + strings.Repeat("x", 200-len("tab.bell. line..250 ok .. ")) + "\r",
			listed("bl.example", "192.0.2.9", "127.0.0.2")},
		{"not listed", lists(bl), "192.0.2.1", "", "", passes, "dnsbl=none"},
		{"not listed by two", lists(bl, wl), "192.0.2.1", "", "", passes, "dnsbl=none, dnswl=none"},
		{"of 127.255 that is no failure", lists(bl), "192.0.2.10", "", "", refused,
			listed("bl.example", "192.0.2.10", "127.255.0.2")},

		{"Y11 the list refuses to answer", lists(bl), "192.0.2.4", "", "", passes, "dnsbl=temperror (bl.example)"},
		{"Y11 not in 127/8 beside one that is", lists(bl), "192.0.2.5", "", "", passes, "dnsbl=temperror (bl.example)"},
		{"Y11 127.0.0.1", lists(bl), "192.0.2.6", "", "", passes, "dnsbl=temperror (bl.example)"},
		{"Y11 SERVFAIL", lists(bl), "192.0.2.7", "", "", passes, "dnsbl=temperror (bl.example)"},
		{"Y11 no answer", lists(bl), "192.0.2.8", "", "", passes, "dnsbl=temperror (bl.example)"},
		{"Y11 a wildcard", lists(List{Zone: "dead.example"}), "192.0.2.1", "", "", passes, "dnsbl=temperror (dead.example)"},
		{"Y11 a wildcard elsewhere", lists(List{Zone: "parked.example"}), "192.0.2.1", "", "", passes,
			"dnsbl=temperror (parked.example)"},
		{"Y11 a wildcard in favour", lists(List{Zone: "dead.example", Allow: true}, bl), "192.0.2.2", "", "", refused,
			"dnswl=temperror (dead.example), " + listed("bl.example", "192.0.2.2", "127.0.0.2")},
		{"Y11 unknown whether it is a wildcard", lists(List{Zone: "half.example"}), "192.0.2.2", "", "", passes,
			"dnsbl=temperror (half.example)"},
		{"one fails, one lists", lists(List{Zone: "down.example"}, bl), "192.0.2.2", "", "", refused,
			"dnsbl=temperror (down.example), " + listed("bl.example", "192.0.2.2", "127.0.0.2")},

		{"Y12 an answer that does not count", lists(with(bl, answers(ListAnswer{Addrs: "127.0.0.3-9"}))), "192.0.2.2", "", "",
			passes, "dnsbl=none"},
		{"Y12 one of two answers counts", lists(with(bl, answers(ListAnswer{Addrs: "127.0.0.10"}))), "192.0.2.3", "", "",
			refused, listed("bl.example", "192.0.2.3", "127.0.0.10")},
		{"the heaviest answer", DNSList{Threshold: 5, Lists: []List{with(bl, answers(ListAnswer{"127.0.0.3", 2},
			ListAnswer{"127.0.0.10-11", 5}))}}, "192.0.2.3", "", "", refused, listed("bl.example", "192.0.2.3", "127.0.0.10")},
		{"answers are not added up", DNSList{Threshold: 6, Lists: []List{with(bl, answers(ListAnswer{"127.0.0.3", 2},
			ListAnswer{"127.0.0.10-11", 5}))}}, "192.0.2.3", "", "", passes, listed("bl.example", "192.0.2.3", "127.0.0.10")},
		{"below the threshold", DNSList{Threshold: 3, Lists: []List{bl, other}}, "192.0.2.2", "", "", passes,
			listed("bl.example", "192.0.2.2", "127.0.0.2") + ", " + listed("other.example", "192.0.2.2", "127.0.0.4")},
		{"at the threshold", DNSList{Threshold: 3, Lists: []List{bl, with(other, func(l *List) { l.Weight = 2 })}},
			"192.0.2.2", "", "", refused + "192.0.2.2 is listed by other.example", listed("bl.example", "192.0.2.2",
				"127.0.0.2") + ", " + listed("other.example", "192.0.2.2", "127.0.0.4")},
		{"the first of two", lists(other, bl), "192.0.2.2", "", "", refused + "192.0.2.2 is listed by other.example\r",
			listed(
				"other.example", "192.0.2.2", "127.0.0.4") + ", " + listed("bl.example", "192.0.2.2", "127.0.0.2")},

		{"Y13 vouched for", lists(bl, wl, other), "192.0.2.3", "", "", passes, listed("bl.example", "192.0.2.3",
			"127.0.0.3") +
			", dnswl=pass (192.0.2.3 is listed by wl.example with 127.0.5.2), " + listed("other.example", "192.0.2.3",
			"127.0.0.4")},
		{"in favour, without trust", lists(bl, wl), "192.0.2.2", "", "", refused, listed("bl.example", "192.0.2.2",
			"127.0.0.2") +
			", dnswl=none"},
		{"in favour, too light", lists(bl, other, with(wl, func(l *List) { l.Weight = 1 })), "192.0.2.3", "", "", refused,
			listed("bl.example", "192.0.2.3", "127.0.0.3") + ", " + listed("other.example", "192.0.2.3", "127.0.0.4") +
				", dnswl=pass (192.0.2.3 is listed by wl.example with 127.0.5.2)"},

		{"Y14 name of the client", lists(dbl), "192.0.2.2", "SPAM.example", "", refused +
			"spam.example is listed by dbl.example\r",
			listed("dbl.example", "spam.example", "127.0.1.2")},
		{"Y14 name with a dot at its end", lists(dbl), "192.0.2.2", "spam.example.", "", refused + "spam.example is listed",
			listed("dbl.example", "spam.example", "127.0.1.2")},
		{"Y14 domain of the sender", lists(dbl), "192.0.2.2", "", "joe@Spam.Example", refused + "spam.example is listed",
			listed("dbl.example", "spam.example", "127.0.1.2")},
		{"domain in U-labels", lists(dbl), "192.0.2.2", "", "joe@bücher.example", refused +
			"xn--bcher-kva.example is listed",
			listed("dbl.example", "xn--bcher-kva.example", "127.0.1.3")},
		{"both the same", DNSList{Threshold: 2, Lists: []List{dbl}}, "192.0.2.2", "spam.example", "joe@spam.example", passes,
			listed("dbl.example", "spam.example", "127.0.1.2")},
		{"another name", lists(dbl), "192.0.2.2", "", "joe@ham.example", passes, "dnsbl=none"},
		{"the sender alone", lists(with(dbl, func(l *List) { l.Subject = ListSender })), "192.0.2.2", "spam.example", "",
			passes, "dnsbl=none"},
		{"an address literal", lists(with(dbl, func(l *List) { l.Subject = ListHello })), "192.0.2.2", "[192.0.2.2]", "",
			passes, ""},
		{"a name that is an address in reverse", lists(with(bl, func(l *List) { l.Subject = ListHello })), "192.0.2.1",
			"2.2.0.192", "", passes, ""},
		{"a name of one label", lists(with(dbl, func(l *List) { l.Subject = ListHello })), "192.0.2.2", "test", "", passes,
			""},

		{"another text", lists(with(bl, func(l *List) {
			l.Name, l.Text = "our list", "{list} has {subject} ({answer}) since {reason}; mail postmaster {x}"
		})), "192.0.2.2", "", "", refused + "our list has 192.0.2.2 (127.0.0.2) since see https://bl.example/192.0.2.2; " +
			"mail postmaster {x}\r", listed("our list", "192.0.2.2", "127.0.0.2")},
		{"note only", DNSList{Lists: []List{bl}, NoteOnly: true}, "192.0.2.2", "", "", passes,
			listed("bl.example", "192.0.2.2", "127.0.0.2")},
		{"loopback", lists(bl), "127.0.0.2", "", "", passes, ""},
		{"loopback is not asked about", DNSList{Lists: []List{bl}, Skip: Nobody}, "127.0.0.2", "", "", passes, ""},
		{"a private network", lists(bl), "10.0.0.2", "", "", passes, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				resolver := dnstest.New(zones)
				tt.part.Resolver = resolver
				w := newWorld(t, nil, nil, tt.part)
				p := w.dial(tt.client)
				if tt.hello == "" {
					tt.hello = "client.example"
				}
				if tt.from == "" {
					tt.from = "ann@example.com"
				}
				p.ask("EHLO "+tt.hello, "250", "MAIL FROM:<"+tt.from+"> SMTPUTF8", "250", "RCPT TO:<joe@example.org>", tt.reply,
					"RCPT TO:<Postmaster@example.org>", "250", "QUIT", "221")
				p.closed()
				if got := w.found(); got != tt.found {
					t.Errorf("verdicts\n%s, want\n%s", got, tt.found)
				}
				if tt.found == "" && resolver.Total() > 0 {
					t.Errorf("%d questions", resolver.Total())
				}
			})
		})
	}
	t.Run("Y15 authenticated", func(t *testing.T) {
		resolver := dnstest.New(zones)
		w := newWorld(t, &inner{}, &server.Options{AllowInsecureAuth: true}, DNSList{Resolver: resolver, Lists: []List{bl}})
		p := w.dial("192.0.2.2")
		p.ask("EHLO c.example", "250", authPlain, "235", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<a@b.example>", "250",
			"QUIT", "221")
		p.closed()
		if resolver.Total() > 0 {
			t.Errorf("%d questions", resolver.Total())
		}
	})
}

// TestDNSListTime checks that lists are asked at once, how long they are waited for, and that a dead one is left out.
func TestDNSListTime(t *testing.T) {
	mail := func(w *world, p *peer, reply string) (took time.Duration) {
		begin := time.Now()
		p.ask("MAIL FROM:<a@b.example>", "250", "RCPT TO:<a@b.example>", reply, "RSET", "250")
		return time.Since(begin)
	}
	t.Run("at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			resolver := dnstest.New(zones)
			resolver.Latency = time.Second
			w := newWorld(t, nil, nil, DNSList{Resolver: resolver, Lists: []List{{Zone: "bl.example"}, {Zone: "other.example"},
				{Zone: "wl.example"}}})
			p := w.dial("192.0.2.1")
			p.ask("EHLO c.example", "250")
			if took := mail(w, p, "250"); took != time.Second {
				t.Errorf("it took %v", took)
			}
		})
	})
	t.Run("a dead list", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			resolver := dnstest.New(zones)
			resolver.Set("1.2.0.192.dead.example. A TIMEOUT")
			w := newWorld(t, nil, nil, DNSList{Resolver: resolver, Timeout: 3 * time.Second,
				Lists: []List{{Zone: "dead.example"}, {Zone: "bl.example"}}})
			p := w.dial("192.0.2.1")
			p.ask("EHLO c.example", "250")
			visits := func(n int, want time.Duration, found string) {
				t.Helper()
				for range n {
					if took := mail(w, p, "250"); took != want {
						t.Errorf("it took %v, want %v", took, want)
					}
					if got := w.found(); got != found {
						t.Errorf("verdicts %s, want %s", got, found)
					}
				}
			}
			const failed = "dnsbl=temperror (dead.example)"
			const resting = "dnsbl=temperror (dead.example has failed, and is not asked for a while)"
			visits(5, 3*time.Second, failed)
			visits(3, 0, resting)
			time.Sleep(time.Minute - time.Millisecond)
			visits(1, 0, resting)
			time.Sleep(time.Millisecond)
			visits(1, 3*time.Second, failed)
			visits(1, 0, resting)
			if n := resolver.Asked("1.2.0.192.dead.example", dnstest.Any); n != 6 {
				t.Errorf("asked %d times", n)
			}
			resolver.Set("1.2.0.192.dead.example. A NXDOMAIN")
			time.Sleep(time.Minute)
			visits(1, 0, "dnsbl=none")
			resolver.Set("1.2.0.192.dead.example. A SERVFAIL")
			visits(4, 0, failed)
			resolver.Set("1.2.0.192.dead.example. A NXDOMAIN")
			visits(1, 0, "dnsbl=none")
			resolver.Set("1.2.0.192.dead.example. A SERVFAIL")
			visits(5, 0, failed)
			visits(1, 0, resting)
		})
	})
	t.Run("clients that hang up", func(t *testing.T) {
		resolver := dnstest.New("1.2.0.192.bl.example. A TIMEOUT")
		l := &dnsList{List: List{Zone: "bl.example"}}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 {
			r := listResult{list: l, query: "1.2.0.192.bl.example"}
			if r.look(ctx, resolver); r.err == nil || r.resting {
				t.Fatalf("the error is %v", r.err)
			}
		}
	})
}

// A badResolver panics, or does not end with its context.
type badResolver struct {
	dns.Resolver
	panics bool
}

func (r badResolver) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	if r.panics {
		panic("a mistake")
	}
	time.Sleep(time.Hour)
	return r.Resolver.Lookup(ctx, name, t)
}

// TestDNSListBadResolver checks that mail passes, whatever the resolver does.
func TestDNSListBadResolver(t *testing.T) {
	for _, panics := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil, nil, DNSList{Resolver: badResolver{dnstest.New(zones), panics},
				Lists: []List{{Zone: "bl.example"}}})
			begin := time.Now()
			p := w.dial("192.0.2.2")
			p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<a@b.example>", "250", "QUIT", "221")
			p.closed()
			if got := w.found(); got != "dnsbl=temperror (bl.example)" || time.Since(begin) > 5*time.Second {
				t.Errorf("verdicts %s after %v", got, time.Since(begin))
			}
			time.Sleep(2 * time.Hour)
		})
	}
}

// TestDNSListCheck checks that Check finds lists that are gone, and that a secret in a zone is in no error.
func TestDNSListCheck(t *testing.T) {
	check := func(lists ...List) error {
		return DNSList{Resolver: dnstest.New(zones), Lists: lists, Timeout: time.Second}.Check(t.Context())
	}
	if err := check(List{Zone: "bl.example", Answers: []ListAnswer{{Addrs: "127.0.0.9"}}}, List{Zone: "wl.example",
		Allow: true},
		List{Zone: "dbl.example", Subject: ListSender}); err != nil {
		t.Error(err)
	}
	err := check(List{Zone: "bl.example"},
		List{Zone: "dead.example", Answers: []ListAnswer{{Addrs: "127.0.0.9"}}}, List{Zone: "half.example"},
		List{Zone: "parked.example"},
		List{Zone: "down.example", Name: "our list"})
	want := []string{
		"smtp: the list dead.example fails: it has what no list may have, so it has everybody (RFC 5782 section 5)",
		"smtp: the list half.example fails: it has no test entry",
		"smtp: the list parked.example fails: it answers 203.0.113.80, which is not in 127.0.0.0/8",
		"smtp: the list our list fails: ",
	}
	got := strings.Split(fmt.Sprint(err), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d errors, want %d: %v", len(got), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
	if strings.Contains(got[3], "down.example") || !strings.Contains(got[3], "2.0.0.127.our list") {
		t.Errorf("the zone is in %q", got[3])
	}
	if err := check(List{}); err == nil || !strings.Contains(err.Error(), "policy.DNSList.Lists[0].Zone") {
		t.Errorf("the error is %v", err)
	}
}

// TestDNSListOptions checks that mistakes in the options are told.
func TestDNSListOptions(t *testing.T) {
	resolver := dnstest.New("")
	one := func(l List) DNSList {
		if l.Zone == "" {
			l.Zone = "bl.example"
		}
		return DNSList{Resolver: resolver, Lists: []List{{Zone: "a.example"}, l}}
	}
	addrs := func(text string) DNSList { return one(List{Answers: []ListAnswer{{Addrs: text}}}) }
	lists := []List{{Zone: "bl.example"}}
	for _, tt := range []struct {
		part DNSList
		want string
	}{
		{DNSList{Lists: lists}, "smtp: policy.DNSList.Resolver: it is missing; use one that dns.New returns"},
		{DNSList{Resolver: resolver}, "DNSList.Lists: there are 0; name 1 to 32"},
		{DNSList{Resolver: resolver, Lists: make([]List, 33)}, "there are 33"},
		{DNSList{Resolver: resolver, Lists: lists, Threshold: -1}, "DNSList.Threshold: -1 is negative"},
		{DNSList{Resolver: resolver, Lists: lists, Timeout: -1}, "DNSList.Timeout: -1ns is not between"},
		{DNSList{Resolver: resolver, Lists: lists, Timeout: time.Hour}, "DNSList.Timeout: 1h0m0s is not between"},
		{one(List{Zone: "."}), `DNSList.Lists[1].Zone: "." is no domain`},
		{one(List{Zone: "a..b"}), `Zone: "a..b" is no domain`},
		{one(List{Zone: strings.Repeat("a.", 95)}), `is no domain`},
		{one(List{Name: "a\nb"}), `Name: "a\nb" is not of ASCII`},
		{one(List{Text: "ö"}), `Text: "ö" is not one line of ASCII`},
		{one(List{Subject: 8}), `Subject: 8 is none`},
		{one(List{Allow: true, Subject: ListHello}), `Lists[1].Subject: an allow list vouches for addresses alone`},
		{one(List{Allow: true, Subject: ListAddr | ListSender}), `Subject: an allow list vouches`},
		{one(List{Weight: -1}), `Weight: a weight is not between`},
		{one(List{Weight: 1_000_001}), `Weight: a weight is not between`},
		{one(List{Answers: []ListAnswer{{"127.0.0.2", -1}}}), `Weight: a weight is not between`},
		{addrs(""), `Answers: "" is no range in 127.0.0.0/8; write it as`},
		{addrs("192.0.2.1"), `is no range`},
		{addrs("126-127.0.0.1"), `is no range`},
		{addrs("127.0.0"), `is no range`},
		{addrs("127.0.0.2.3"), `is no range`},
		{addrs("127.0.0.256"), `is no range`},
		{addrs("127.0.0.3-2"), `is no range`},
		{addrs("127.0.0.02"), `is no range`},
		{addrs("127.0.0.2-03"), `is no range`},
		{addrs("127.0.0.02-3"), `is no range`},
		{addrs("127.0.0.+2"), `is no range`},
		{addrs("127.0.0.2-"), `is no range`},
	} {
		if _, err := Chain(tt.part); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("the error is %v, want %q in it", err, tt.want)
		}
	}
}

// TestDNSListNames compares names with the examples of RFC 5782 sections 2.1 and 2.4, and those of RFC 3596 section
// 2.5.
func TestDNSListNames(t *testing.T) {
	for _, tt := range []struct{ addr, want string }{
		{"192.0.2.99", "99.2.0.192"},
		{"2001:db8:1:2:3:4:567:89ab", "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"},
		{"4321:0:1:2:3:4:567:89ab", "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4"},
	} {
		if got := reversed(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s is %s, want %s", tt.addr, got, tt.want)
		}
	}
}

// TestBreaker checks that one of many tries after the rest.
func TestBreaker(t *testing.T) {
	var b breaker
	now := time.Unix(1e9, 0)
	for range breakerFailures {
		b.end(now, true, false)
	}
	now = now.Add(breakerRest)
	var wg sync.WaitGroup
	tries := make(chan bool, 10)
	for range 10 {
		wg.Go(func() { tries <- b.begin(now) })
	}
	wg.Wait()
	close(tries)
	n := 0
	for ok := range tries {
		if ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d try", n)
	}
}

// FuzzDNSListName checks that whatever a client says is asked for at the list, and nowhere else.
func FuzzDNSListName(f *testing.F) {
	for _, hello := range []string{"mail.example", "[192.0.2.1]", "a..b", ".", "a.b.", "bücher.example", "x_y.example",
		strings.Repeat("a.", 100) + "b", "a\\.b.c", "test"} {
		f.Add(hello, "example.com")
	}
	f.Fuzz(func(t *testing.T, hello, sender string) {
		from, err := proto.ParseDomain(sender)
		if err != nil {
			from = proto.Domain{}
		}
		subjects := listSubjects(ListAddr|ListHello|ListSender, netip.MustParseAddr("192.0.2.7"), hello, from)
		if len(subjects) == 0 || len(subjects) > 3 || subjects[0].query != "7.2.0.192" {
			t.Fatalf("subjects %q", subjects)
		}
		for _, s := range subjects {
			query := listQuery(s.query, "bl.example")
			if query == "" {
				if len(s.query)+len(".bl.example") <= 253 {
					t.Errorf("%q is not asked for", s.query)
				}
				continue
			}
			rest, ok := strings.CutSuffix(query, ".bl.example")
			if normal, valid := dns.Normal(query); !ok || rest == "" || !valid || normal != query || strings.HasSuffix(rest,
				".") {
				t.Errorf("%q is asked for as %q", s.text, query)
			}
			if s.text != printable(s.text, len(s.text)) {
				t.Errorf("%q is not printable", s.text)
			}
		}
	})
}
