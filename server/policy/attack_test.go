package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestOddRecipients has clients try to have mail relayed, or taken for nobody, by addresses that look like others.
func TestOddRecipients(t *testing.T) {
	const refused, malformed = "550 5.7.1 Relaying denied", "501 5.1.3"
	parts := []Part{
		Relay{Domains: []string{"example.org", "bücher.example", "[192.0.2.25]"}},
		Recipients{Delimiters: "+", Lookup: func(_ context.Context, a proto.Address) (bool, error) {
			return a.Local == "joe" || a.Local == "jack", nil
		}},
	}
	for _, tt := range []struct{ name, to, want string }{
		{"Y30 a domain of ours", "<joe@example.org>", "250"},
		{"Y30 another one", "<joe@example.net>", refused},
		{"Y31 percent", "<joe%example.net@example.org>", refused},
		{"Y31 percent, quoted", `<"joe%example.net"@example.org>`, refused},
		{"Y31 percent, behind a backslash", `<"joe\%example.net"@example.org>`, refused},
		{"Y31 bang", "<example.net!joe@example.org>", refused},
		{"Y31 at", `<"joe@example.net"@example.org>`, refused},
		{"Y31 at, behind a backslash", `<"joe\@example.net"@example.org>`, refused},
		{"Y31 a route in quotes", `<"@example.net:joe@example.com"@example.org>`, refused},
		{"Y31 percent in the detail", "<joe+a%example.net@example.org>", refused},
		{"Y31 at without quotes", "<joe@example.net@example.org>", malformed},
		{"Y31 percent in the domain", "<joe@example.org%example.net>", malformed},
		{"Y31 no angle brackets", "joe@example.org@example.net", malformed},
		{"Y32 a route through us", "<@example.org:joe@example.net>", refused},
		{"Y32 a route through two", "<@example.net,@example.org:joe@example.net>", refused},
		{"Y32 a route to us", "<@example.net:joe@example.org>", "250"},
		{"Y32 a route to a route", "<@example.org:@example.org:joe@example.net>", malformed},
		{"a dot at the end", "<joe@example.org.>", malformed},
		{"only a dot", "<joe@.>", malformed},
		{"no domain", "<joe>", malformed},
		{"an empty domain", "<joe@>", malformed},
		{"an empty local part", "<@example.org>", malformed},
		{"an empty local part, quoted", `<""@example.org>`, malformed},
		{"the null path", "<>", malformed},
		{"a full stop of another script", "<joe@example\u3002org>", malformed},
		{"full width", "<joe@\uff45xample.org>", "250"},
		{"a sharp s in ours is not ss", "<joe@bu\u0308cher.example>", "250"},
		{"Cyrillic", "<joe@ex\u0430mple.org>", refused},
		{"A-labels of nothing", "<joe@xn--example-.org>", malformed},
		{"a literal of ours", "<joe@[192.0.2.25]>", "250"},
		{"a literal in another form", "<joe@[192.0.2.025]>", malformed},
		{"a literal in hexadecimal", "<joe@[0xc0000219]>", malformed},
		{"a mapped literal", "<joe@[IPv6:::ffff:192.0.2.25]>", refused},
		{"a literal without brackets", "<joe@192.0.2.25>", refused},
		{"a literal of another", "<joe@[127.0.0.1]>", refused},
		{"a zero octet", "<joe@example.org\x00.example.net>", "501 5.5.2"},
		{"Y33 nobody", "<bob@example.org>", "550 5.1.1"},
		{"Y33 quoted", `<"joe"@example.org>`, "250"},
		{"Y33 with a space", `<"joe "@example.org>`, "550 5.1.1"},
		{"Y33 with a dot", `<"joe."@example.org>`, "550 5.1.1"},
		{"Y33 a detail", "<joe+x@example.org>", "250"},
		{"Y33 a detail of nobody", "<+joe@example.org>", "550 5.1.1"},
		{"Y33 composed otherwise", "<jo\u00e9@example.org>", "550 5.1.1"},
		{"Y33 a long s is no s", "<po\u017ftmaster@example.org>", "550 5.1.1"},
		{"Y33 postmaster and more", "<postmaster.@example.org>", malformed},
		{"Y33 postmaster, quoted, and more", `<"postmaster "@example.org>`, "550 5.1.1"},
		{"Y36 postmaster, quoted", `<"Postmaster"@example.org>`, "250"},
		{"Y36 postmaster elsewhere", `<postmaster@example.net>`, refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newWorld(t, nil, nil, parts...).dial("192.0.2.7")
			p.ask("EHLO client.example", "250", "MAIL FROM:<a@b.example> SMTPUTF8", "250", "RCPT TO:"+tt.to, tt.want, "QUIT",
				"221")
			p.closed()
		})
	}
}

// TestPostmasterAlone checks that nothing but the name of postmaster gets by what is held back.
func TestPostmasterAlone(t *testing.T) {
	resolver := dnstest.New(zones)
	part := DNSList{Resolver: resolver, Lists: []List{{Zone: "bl.example"}}}
	p := newWorld(t, nil, nil, part).dial("192.0.2.2")
	p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example> SMTPUTF8", "250", "RCPT TO:<po\u017ftmaster@example.org>",
		"554", "RCPT TO:<PostMaster@example.org>", "250", "RCPT TO:<joe@example.org>", "554", "QUIT", "221")
	p.closed()
}

// TestY38_UnknownClients checks that a client whose address a proxy does not know is not taken for one of this machine.
func TestY38_UnknownClients(t *testing.T) {
	extensions := append(ehlo.Default(), ehlo.XCLIENT(netip.MustParsePrefix("192.0.2.7/32")))
	for addr, want := range map[string]string{
		"[UNAVAILABLE]": "451 4.7.1", "203.0.113.9": "451", "127.0.0.1": "250", "IPV6:::1": "250", "IPV6:2001:db8::1": "451",
	} {
		p := newWorld(t, nil, &server.Options{Extensions: extensions}, Greylist{}).dial("192.0.2.7")
		p.ask("EHLO proxy.example", "250", "XCLIENT ADDR="+addr, "220", "EHLO client.example", "250",
			"MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.org>", want, "QUIT", "221")
		p.closed()
	}
}

// TestRenewal checks that neither RSET nor another greeting sets a refusal free, nor gives back what was counted.
func TestRenewal(t *testing.T) {
	const mail, rcpt = "MAIL FROM:<a@b.example>", "RCPT TO:<bob@example.org>"
	resolver := dnstest.New(zones)
	for _, tt := range []struct {
		name  string
		part  Part
		wants [6]string // for the recipient of each transaction
	}{
		{"HELO", HELO{Refuse: HELOUnqualified}, [6]string{"550", "550", "550", "550", "550", "550"}},
		{"DNSList", DNSList{Resolver: resolver, Lists: []List{{Zone: "bl.example"}}},
			[6]string{"554", "554", "554", "554", "554", "554"}},
		{"IPRev", IPRev{Resolver: resolver, Refuse: true}, [6]string{"550 5.7.25", "550", "550", "550", "550", "550"}},
		{"Y35 Harvest", Harvest{Limit: 5, Delay: -1}, [6]string{"550", "550", "550", "550", "550", "421"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newWorld(t, nil, nil, tt.part, Recipients{Lookup: lookup}).dial("192.0.2.2")
			p.ask("EHLO pc", "250")
			for i, renew := range []string{"", "RSET", "EHLO pc", "HELO pc", "RSET", "EHLO pc"} {
				if renew != "" {
					p.ask(renew, "250")
				}
				p.ask(mail, "250", rcpt, tt.wants[i])
			}
		})
	}
}

// TestBlockingFunctions checks that no function which does not end with its context holds a client up for ever, nor
// does more than the part that has it.
func TestBlockingFunctions(t *testing.T) {
	blocks := func(context.Context) { <-time.After(time.Hour) }
	for _, tt := range []struct {
		name  string
		part  Part
		want  string
		after time.Duration
		found string
	}{
		{"Relay.Ours", Relay{Ours: func(ctx context.Context, _ proto.Domain) (bool, error) {
			blocks(ctx)
			return true, nil
		}}, "451 4.3.0", 30 * time.Second, "relay=temperror"},
		{"Recipients.Lookup", Recipients{Lookup: func(ctx context.Context, _ proto.Address) (bool, error) {
			blocks(ctx)
			return true, nil
		}}, "451 4.3.0", 30 * time.Second, "recipient=temperror"},
		{"Size.Max", Size{Max: func(ctx context.Context, _ *server.Conn, _ proto.Address) (int64, error) {
			<-ctx.Done()
			return 1, ctx.Err()
		}}, "250", 30 * time.Second, "size=temperror"},
		{"HELO.Resolver", HELO{Resolver: badResolver{dnstest.New(""), false}, Refuse: everyFault}, "250", 10 * time.Second,
			"helo=temperror"},
		{"IPRev.Resolver", IPRev{Resolver: badResolver{dnstest.New(""), false}, Refuse: true}, "250", 5 * time.Second,
			"iprev=temperror"},
		{"Greylist.Store", Greylist{Store: sleepingStore{}}, "250", 5 * time.Second, "greylist=temperror"},
		{"DNSList.Resolver, the text", DNSList{Resolver: noTexts{dnstest.New(zones)}, Lists: []List{{Zone: "bl.example"}}},
			"554 5.7.1 192.0.2.2 is listed by bl.example\r", 5 * time.Second,
			"dnsbl=listed (192.0.2.2 is listed by bl.example with 127.0.0.2)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, nil, tt.part)
				p := w.dial("192.0.2.2")
				begin := time.Now()
				p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.org>", tt.want)
				if took := time.Since(begin); took != tt.after {
					t.Errorf("it took %v, want %v", took, tt.after)
				}
				if got := w.found(); got != tt.found {
					t.Errorf("verdicts %s, want %s", got, tt.found)
				}
				p.ask("QUIT", "221")
				p.closed()
				<-time.After(3 * time.Hour) // what is left alone ends
			})
		})
	}
}

// A sleepingStore does not end with its context.
type sleepingStore struct{}

func (sleepingStore) Get(context.Context, string) (GreylistEntry, error) {
	<-time.After(time.Hour)
	return GreylistEntry{}, nil
}

func (s sleepingStore) Put(ctx context.Context, key string, _ GreylistEntry) error {
	_, err := s.Get(ctx, key)
	return err
}

// A noTexts does not answer about TXT records, even if its context ends.
type noTexts struct{ dns.Resolver }

func (r noTexts) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	if t == dns.TXT {
		<-time.After(time.Hour)
	}
	return r.Resolver.Lookup(ctx, name, t)
}

// TestWithin checks that calls which go on are counted, that there are not more than so many, and that results and
// panics come through.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c calls
		sleep := func(context.Context) (int, error) {
			<-time.After(time.Minute)
			return 1, nil
		}
		for range maxStuck {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := within(ctx, &c, time.Second, sleep); !errors.Is(err, context.Canceled) {
				t.Fatalf("the error is %v", err)
			}
		}
		one := func(context.Context) (int, error) { return 1, nil }
		if n, err := within(t.Context(), &c, time.Second, one); n != 0 || err != errStuck {
			t.Errorf("%d, %v with %d calls that go on", n, err, maxStuck)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if n := c.stuck.Load(); n != 0 {
			t.Errorf("%d calls go on", n)
		}
		if n, err := within(t.Context(), &c, time.Second, one); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := within(t.Context(), &c, time.Hour, sleep); n != 1 || err != nil || c.stuck.Load() != 0 {
			t.Errorf("%d, %v, %d calls go on", n, err, c.stuck.Load())
		}
		_, err := within(t.Context(), &c, time.Second, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
		if err != errGoexit {
			t.Errorf("the error is %v", err)
		}
		_, err = within(t.Context(), &c, time.Second, func(context.Context) (int, error) { panic("a mistake") })
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: a policy panics: a mistake") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestContentOfAllKinds checks that what refuses content refuses it however it comes: by DATA and BDAT, in LMTP for
// each recipient, and where the session has an outcome for each.
func TestContentOfAllKinds(t *testing.T) {
	store := func(each bool) server.Backend {
		return server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
			if each {
				return eachSession{}, nil
			}
			return innerSession{&inner{}}, nil
		})
	}
	content := strings.Repeat("x", 98) + "\r\n"
	for _, part := range []struct {
		name, want string
		Part
	}{
		{"Greylist", "451 4.7.1", Greylist{AtContent: true}},
		{"Size", "552 5.3.4", Size{Anonymous: 99}},
	} {
		for _, each := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, each %v", part.name, each), func(t *testing.T) {
				want60, last := part.want, "503"
				if part.name == "Size" {
					want60, last = "250", part.want
				}
				begin := []string{"MAIL FROM:<a@b.example>", "250",
					"RCPT TO:<c@d.example>", "250", "RCPT TO:<e@d.example>", "250"}
				opt := &server.Options{Extensions: append(ehlo.Default(), ehlo.PRDR())}
				p := newWorld(t, store(each), opt, part).dial("192.0.2.7")
				p.ask("EHLO client.example", "250")
				p.ask(append(begin, "DATA", "354", content+".", part.want)...)
				p.ask(append(begin, "BDAT 100 LAST\r\n"+content[:98], part.want)...)
				p.ask(append(begin, "BDAT 60\r\n"+content[:58], want60)...)
				p.ask("BDAT 40 LAST\r\n"+content[:38], last)
				p.ask("RSET", "250")
				if each {
					p.ask("MAIL FROM:<a@b.example> PRDR", "250")
					p.ask(begin[2:]...)
					if part.name == "Greylist" {
						p.ask("DATA", "354", content+".", part.want)
					} else {
						p.ask("DATA", "354", content+".", "353")
						p.expect(part.want)
						p.expect(part.want)
						p.expect(part.want)
					}
				}
				p.ask("QUIT", "221")
				p.closed()

				p = newWorld(t, store(each), &server.Options{Protocol: proto.LMTP}, part).dial("192.0.2.7")
				p.ask("LHLO client.example", "250")
				p.ask(append(begin, "DATA", "354", content+".", part.want)...)
				p.expect(part.want)
				p.ask(append(begin, "BDAT 100 LAST\r\n"+content[:98], part.want)...)
				p.expect(part.want)
				p.ask("QUIT", "221")
				p.closed()
			})
		}
	}
}

// An eachSession tells the outcome for each recipient.
type eachSession struct{}

func (eachSession) Mail(context.Context, proto.Address, proto.Params) error { return nil }
func (eachSession) Rcpt(context.Context, proto.Address, proto.Params) error { return nil }
func (eachSession) Data(_ context.Context, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (s eachSession) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	if err := s.Data(ctx, r); err != nil {
		return err
	}
	result(0, proto.Reply{}, nil)
	return errors.New("this one is not")
}

// TestSkipChangesItsMind checks that Skip is asked once for each transaction, and that its answer holds for all of it.
func TestSkipChangesItsMind(t *testing.T) {
	asked := 0
	skip := func(context.Context, *server.Conn) bool { asked++; return asked%2 == 1 }
	parts := []Part{Greylist{AtContent: true, Skip: skip}}
	p := newWorld(t, nil, nil, parts...).dial("192.0.2.7")
	p.ask("EHLO client.example", "250")
	for i, want := range []string{"250", "451 4.7.1", "250", "451"} {
		p.ask("MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.org>", "250", "RCPT TO:<ann@example.org>", "250",
			"DATA", "354", "x\r\n.", want)
		if asked != i+1 {
			t.Errorf("asked %d times in %d transactions", asked, i+1)
		}
	}
}

// TestSeveralOfAKind checks that parts of one kind do not get in each other's way.
func TestSeveralOfAKind(t *testing.T) {
	only := func(who string) func(context.Context, proto.Address) (bool, error) {
		return func(_ context.Context, a proto.Address) (bool, error) { return a.Local == who, nil }
	}
	const mail, a, b = "MAIL FROM:<x@y.example>", "RCPT TO:<ann@a.example>", "RCPT TO:<bob@b.example>"
	t.Run("recipients of two domains", func(t *testing.T) {
		p := newWorld(t, nil, nil, Recipients{Lookup: only("ann"), Domains: []string{"a.example"}},
			Recipients{Lookup: only("bob"), Domains: []string{"b.example"}}).dial("192.0.2.7")
		p.ask("EHLO c.example", "250", mail, "250", a, "250", b, "250", "RCPT TO:<bob@a.example>", "550",
			"RCPT TO:<ann@b.example>", "550")
	})
	t.Run("rates", func(t *testing.T) {
		one := Rate{Messages: 2}
		p := newWorld(t, nil, nil, one, Rate{Messages: 1, By: ByRecipientDomain}, one).dial("192.0.2.7")
		p.ask("EHLO c.example", "250", mail, "250", a, "250", b, "250", "RSET", "250", mail, "250", a, "450", "RSET", "250",
			mail, "450")
	})
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprintf("greylists, one store: %v", shared), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := Greylist{}, Greylist{AllowAfter: -1}
				if shared {
					first.Store = NewGreylistMemory(0)
					second.Store = first.Store
				}
				p := newWorld(t, nil, nil, first, second).dial("192.0.2.7")
				p.ask("EHLO c.example", "250", mail, "250", a, "451", "RSET", "250")
				<-time.After(time.Minute)
				want := map[bool]string{true: "250", false: "451"}[shared] // the other has not seen it before
				p.ask(mail, "250", a, want, "RSET", "250")
				<-time.After(time.Minute)
				p.ask(mail, "250", a, "250")
			})
		})
	}
	t.Run("lists", func(t *testing.T) {
		resolver := dnstest.New(zones)
		note := DNSList{Resolver: resolver, NoteOnly: true, Lists: []List{{Zone: "wl.example", Allow: true}}}
		refuse := DNSList{Resolver: resolver, Lists: []List{{Zone: "bl.example"}}}
		w := newWorld(t, nil, nil, note, refuse)
		w.dial("192.0.2.3").ask("EHLO c.example", "250", mail, "250", a, "554")
		if got := w.found(); got != "dnswl=pass (192.0.2.3 is listed by wl.example with 127.0.5.2), "+
			"dnsbl=listed (192.0.2.3 is listed by bl.example with 127.0.0.3)" {
			t.Errorf("verdicts %s", got)
		}
	})
}
