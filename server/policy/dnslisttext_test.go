package policy

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// TestDNSListText checks when a list is asked for its text: once for a refusal that has it in it, and never otherwise.
func TestDNSListText(t *testing.T) {
	const listed = "2.2.0.192.bl.example"
	for _, tt := range []struct {
		name   string
		text   string
		client string
		asked  int
		reply  string
	}{
		{"by default", "", "192.0.2.2", 1, "554 5.7.1 192.0.2.2 is listed by bl.example: see"},
		{"with a reason", "go away: {reason}", "192.0.2.2", 1, "554 5.7.1 go away: see https"},
		{"without one", "{subject} is on {list}", "192.0.2.2", 0, "554 5.7.1 192.0.2.2 is on bl.example\r"},
		{"with another word in braces", "{why}", "192.0.2.2", 0, "554 5.7.1 {why}\r"},
		{"with space around it", "[{reason}]", "192.0.2.22", 0, "554 5.7.1 [padded]\r"},
		{"an empty one", "", "192.0.2.23", 0, "554 5.7.1 192.0.2.23 is listed by bl.example\r"},
		{"not listed", "", "192.0.2.1", 0, "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resolver := dnstest.New(zones)
			resolver.Set("22.2.0.192.bl.example. A 127.0.0.2\n 22.2.0.192.bl.example. TXT \"  padded \"\n" +
				"23.2.0.192.bl.example. A 127.0.0.2\n 23.2.0.192.bl.example. TXT \" \"")
			part := DNSList{Resolver: resolver, Lists: []List{{Zone: "bl.example", Text: tt.text}}}
			p := newWorld(t, nil, nil, part).dial(tt.client)
			p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.org>", tt.reply,
				"RCPT TO:<ann@example.org>", tt.reply)
			if n := resolver.Asked(listed, dns.TXT); n != tt.asked {
				t.Errorf("the text is asked for %d times, want %d", n, tt.asked)
			}
		})
	}
}

// TestDNSListReply checks that a reply has a bound, and that all which is put into it is printable.
func TestDNSListReply(t *testing.T) {
	l := &dnsList{List: List{Name: "bl.example", Text: strings.Repeat("{reason}", 25)}}
	got := l.text("192.0.2.2", "127.0.0.2", strings.Repeat("x", 199)+"\n")
	if len(got) != 400 || strings.Trim(got, "x?") != "" || strings.Count(got, "?") != 2 {
		t.Errorf("%d octets: %q", len(got), got)
	}
	for text, want := range map[string]string{"": "", "~ !": "~ !", "\x1f\x7f\x80\xff": "????", "a\r\nb": "a??b"} {
		if got := printable(text, 100); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := printable("abc", 2); got != "ab" {
		t.Errorf("cut to %q", got)
	}
}

// TestDNSListDefaults checks how long lists are waited for, whom they are not asked about, and what outweighs what.
func TestDNSListDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resolver := dnstest.New("1.2.0.192.bl.example. A TIMEOUT")
		resolver.Timeout = -1
		p := newWorld(t, nil, nil, DNSList{Resolver: resolver, Lists: []List{{Zone: "bl.example"}}}).dial("192.0.2.1")
		p.ask("EHLO c.example", "250")
		begin := time.Now()
		p.ask("MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.org>", "250")
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	heavy := make([]List, maxLists)
	for i := range heavy {
		heavy[i] = List{Zone: "bl.example", Weight: maxListWeight, Subject: ListAddr | ListHello | ListSender}
	}
	zone := "3.2.0.192.bl.example. A 127.0.0.2\n spam.example.bl.example. A 127.0.0.2\n" +
		"eggs.example.bl.example. A 127.0.0.2\n 3.2.0.192.wl.example. A 127.0.5.1"
	for _, tt := range []struct {
		name  string
		allow List
		reply string
	}{
		{"an allow list outweighs all others", List{Zone: "wl.example", Allow: true}, "250"},
		{"unless it has a weight", List{Zone: "wl.example", Allow: true, Weight: maxListWeight}, "554"},
		{"the weight of an answer comes first", List{Zone: "wl.example", Allow: true, Weight: 1,
			Answers: []ListAnswer{{Addrs: "127.0.5.1", Weight: maxListWeight}}}, "554"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lists := append(append([]List(nil), heavy[1:]...), tt.allow)
			w := newWorld(t, nil, nil, DNSList{Resolver: dnstest.New(zone), Lists: lists})
			w.dial("192.0.2.3").ask("EHLO spam.example", "250", "MAIL FROM:<a@eggs.example>", "250",
				"RCPT TO:<joe@example.org>", tt.reply)
		})
	}
	// One against one: the weight of the answer counts, and not that of the list.
	one := func(answer, list int) List {
		return List{Zone: "wl.example", Allow: true, Weight: list,
			Answers: []ListAnswer{{Addrs: "127.0.5.1", Weight: answer}}}
	}
	for _, tt := range []struct {
		allow List
		reply string
	}{{one(3, 1), "250"}, {one(1, 3), "554"}, {one(0, 3), "250"}, {one(0, 1), "554"}} {
		lists := []List{{Zone: "bl.example", Weight: 3}, tt.allow}
		w := newWorld(t, nil, nil, DNSList{Resolver: dnstest.New(zone), Lists: lists})
		w.dial("192.0.2.3").ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.org>",
			tt.reply)
	}
}
