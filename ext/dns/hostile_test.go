package dns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"smtpkit.example/smtp/ext/dns"
)

// lookup returns the outcome of one look-up in a line.
func lookup(ctx context.Context, r dns.Resolver, name string, t dns.Type) string {
	a, err := r.Lookup(ctx, name, t)
	if err != nil {
		return "error: " + err.Error()
	}
	s := a.Name
	if a.NoName {
		s += " NXDOMAIN"
	}
	if a.Authentic {
		s += " secure"
	}
	return s + fmt.Sprint(" ", a.TTL, a.Addrs, a.MX, a.TXT, a.TLSA, a.Names)
}

// TestHostile has servers, or strangers between them and us, that send what they should not.
func TestHostile(t *testing.T) {
	good := func(q *query) *dnsmessage.Message { return q.answer(a(q.name()+".", 60, 1)) }
	const want = "example.org secure 1m0s [192.0.2.1] [] [] [] []"
	for _, tt := range []struct {
		name  string
		serve func(q *query)
		want  string // the outcome, or a part of the error
	}{
		{"wrong id, then the answer", func(q *query) {
			q.reply(q.answer(a("example.org.", 60, 9)), func(m *dnsmessage.Message) { m.ID++ })
			q.reply(good(q))
		}, want},
		{"another name, then the answer", func(q *query) {
			q.reply(q.answer(a("example.net.", 60, 9)), func(m *dnsmessage.Message) {
				m.Questions = []dnsmessage.Question{{
					Name: dnsmessage.MustNewName("example.net."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
				}}
			})
			q.reply(good(q))
		}, want},
		{"another type, then the answer", func(q *query) {
			q.reply(q.answer(), func(m *dnsmessage.Message) {
				question := q.Questions[0]
				question.Type = dnsmessage.TypeMX
				m.Questions = []dnsmessage.Question{question}
			})
			q.reply(good(q))
		}, want},
		{"another class, then the answer", func(q *query) {
			q.reply(q.answer(), func(m *dnsmessage.Message) {
				question := q.Questions[0]
				question.Class = dnsmessage.ClassCHAOS
				m.Questions = []dnsmessage.Question{question}
			})
			q.reply(good(q))
		}, want},
		{"no question, then the answer", func(q *query) {
			q.reply(q.answer(a("example.org.", 60, 9)), func(m *dnsmessage.Message) { m.Questions = nil })
			q.reply(good(q))
		}, want},
		{"the query itself, noise and nothing, then the answer", func(q *query) {
			q.send(q.raw)
			q.send([]byte("noise"))
			q.send([]byte{})
			q.reply(good(q))
		}, want},
		{"the question in capitals", func(q *query) {
			q.reply(q.answer(a("EXAMPLE.org.", 60, 1)), func(m *dnsmessage.Message) {
				question := q.Questions[0]
				question.Name = dnsmessage.MustNewName("Example.ORG.")
				m.Questions = []dnsmessage.Question{question}
			})
		}, want},
		{"a flood of wrong ids over UDP", func(q *query) {
			if q.network == "tcp" {
				q.reply(good(q))
				return
			}
			for range 16 {
				q.reply(q.answer(a("example.org.", 60, 9)), func(m *dnsmessage.Message) { m.ID++ })
			}
		}, want},
		{"longer than was offered over UDP", func(q *query) {
			if q.network == "tcp" {
				q.reply(good(q))
				return
			}
			q.reply(q.answer(a("example.org.", 60, 9)), func(m *dnsmessage.Message) {
				m.Additionals = []dnsmessage.Resource{opt(dnsmessage.Option{Code: 12, Data: make([]byte, 1300)})}
			})
		}, want},
		{"long and another's, then the answer", func(q *query) {
			q.send(bytes.Repeat([]byte{0}, 1300)[:1300])
			q.reply(good(q))
		}, want},
		{"truncated", func(q *query) {
			if q.network == "tcp" {
				q.reply(good(q))
				return
			}
			q.reply(q.answer(a("example.org.", 60, 9)), func(m *dnsmessage.Message) { m.Truncated = true })
		}, want},
		{"truncated in a record", func(q *query) {
			if q.network == "tcp" {
				q.reply(good(q))
				return
			}
			raw, err := good(q).Pack()
			if err != nil {
				panic(err)
			}
			raw[2] |= 2 // TC
			q.send(raw[:len(raw)-3])
		}, want},
		{"truncated even over TCP", func(q *query) {
			q.reply(good(q), func(m *dnsmessage.Message) { m.Truncated = true })
		}, "cut short even over TCP"},
		{"wrong id over TCP", func(q *query) {
			q.reply(good(q), func(m *dnsmessage.Message) {
				if m.Truncated = q.network == "udp"; !m.Truncated {
					m.ID++
				}
			})
		}, "another question"},
		{"TCP cut off", func(q *query) {
			if q.network == "udp" {
				q.reply(good(q), func(m *dnsmessage.Message) { m.Truncated = true })
				return
			}
			q.conn.Write([]byte{0, 60, 1, 2})
			q.conn.Close()
		}, "EOF"},
		{"records of other names", func(q *query) {
			q.reply(q.answer(a("example.net.", 60, 9), a("a.example.org.", 60, 9), a("org.", 60, 9)))
		}, "example.org secure 0s [] [] [] [] []"},
		{"records of other names, and the right ones", func(q *query) {
			q.reply(q.answer(a("example.net.", 6, 9), a("example.org.", 60, 1), cname("a.example.org.", 1, "b.example.")))
		}, want},
		{"records in other sections", func(q *query) {
			q.reply(q.answer(), func(m *dnsmessage.Message) {
				m.Authorities = []dnsmessage.Resource{a("example.org.", 60, 9), soa("example.org.", 20, 30)}
				m.Additionals = []dnsmessage.Resource{a("example.org.", 60, 9)}
			})
		}, "example.org secure 20s [] [] [] [] []"},
		{"records of another class", func(q *query) {
			q.reply(q.answer(a("example.org.", 60, 9), a("example.org.", 60, 1)), func(m *dnsmessage.Message) {
				m.Answers[0].Header.Class = dnsmessage.ClassCHAOS
			})
		}, want},
		{"the word of another zone", func(q *query) { // does not say for how long
			q.reply(q.answer(), func(m *dnsmessage.Message) {
				m.Authorities = []dnsmessage.Resource{soa("example.net.", 20, 30), soa("ample.org.", 20, 30)}
			})
		}, "example.org secure 0s [] [] [] [] []"},
		{"a TTL of more than 31 bits", func(q *query) { // RFC 2181 section 8
			q.reply(q.answer(a("example.org.", 1<<31, 1)))
		}, "example.org secure 0s [192.0.2.1] [] [] [] []"},
		{"a chain in one message, out of order", func(q *query) {
			q.reply(q.answer(a("c.example.", 60, 1), cname("b.example.", 30, "C.example."), a("d.example.", 60, 9),
				cname("example.org.", 40, "B.Example.")))
		}, "c.example secure 30s [192.0.2.1] [] [] [] []"},
		{"the rest of the chain has to be asked for", func(q *query) { // RFC 7672 section 2.1.3
			switch q.name() {
			case "example.org":
				q.reply(q.answer(cname("example.org.", 40, "b.example.")))
			case "b.example":
				q.reply(q.answer(a("b.example.", 50, 1)), func(m *dnsmessage.Message) { m.AuthenticData = false })
			}
		}, "b.example 40s [192.0.2.1] [] [] [] []"},
		{"the first link is not authentic, the rest is", func(q *query) {
			switch q.name() {
			case "example.org":
				q.reply(q.answer(cname("example.org.", 40, "b.example.")), func(m *dnsmessage.Message) { m.AuthenticData = false })
			case "b.example":
				q.reply(q.answer(a("b.example.", 50, 1)))
			}
		}, "b.example 40s [192.0.2.1] [] [] [] []"},
		{"an alias of a name without such records", func(q *query) {
			q.reply(q.answer(cname("example.org.", 40, "b.example.")), func(m *dnsmessage.Message) {
				m.Authorities = []dnsmessage.Resource{soa("example.", 30, 20)}
			})
		}, "b.example secure 20s [] [] [] [] []"},
		{"an alias of a name that does not exist", func(q *query) {
			q.reply(q.answer(cname("example.org.", 40, "b.example.")), func(m *dnsmessage.Message) {
				m.RCode = dnsmessage.RCodeNameError
				m.Authorities = []dnsmessage.Resource{soa(".", 3, 20)}
			})
		}, "b.example NXDOMAIN secure 3s [] [] [] [] []"},
		{"a loop in one message", func(q *query) {
			q.reply(q.answer(cname("example.org.", 40, "b.example."), cname("b.example.", 40, "example.org.")))
		}, "too long or has no end"},
		{"a name that is its own alias", func(q *query) {
			q.reply(q.answer(cname("example.org.", 40, "example.org.")))
		}, "too long or has no end"},
		{"a loop over many messages", func(q *query) {
			q.reply(q.answer(cname(q.name()+".", 40, "a."+q.name()+".")))
		}, "too long or has no end"},
		{"two aliases of a name", func(q *query) {
			q.reply(q.answer(cname("example.org.", 40, "b.example."), cname("example.org.", 40, "c.example.")))
		}, "several aliases"},
		{"the name does not exist, and has records", func(q *query) {
			q.reply(good(q), func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError })
		}, "denies"},
		{"two questions", func(q *query) {
			q.reply(good(q), func(m *dnsmessage.Message) { m.Questions = append(m.Questions[:1:1], m.Questions[0]) })
		}, "several questions"},
		{"two OPT records", func(q *query) {
			q.reply(good(q), func(m *dnsmessage.Message) { m.Additionals = []dnsmessage.Resource{opt(), opt()} })
		}, "several OPT"},
		{"an address of five octets", func(q *query) {
			q.reply(q.answer(resource("example.org.", 60, &dnsmessage.UnknownResource{
				Type: dnsmessage.TypeA, Data: []byte{192, 0, 2, 1, 1}})))
		}, "wrong length"},
		{"a server that does not look for others", func(q *query) {
			q.reply(q.answer(), func(m *dnsmessage.Message) { m.RecursionAvailable = false })
		}, "ask a recursive name server"},
		{"a server that knows the answer and does not look for others", func(q *query) {
			q.reply(good(q), func(m *dnsmessage.Message) { m.RecursionAvailable = false })
		}, want},
		{"a server without EDNS", func(q *query) { // RFC 6891 section 7
			if len(q.Additionals) == 0 {
				q.reply(good(q), func(m *dnsmessage.Message) { m.AuthenticData = false })
				return
			}
			q.reply(q.answer(), func(m *dnsmessage.Message) { m.RCode, m.Questions = dnsmessage.RCodeFormatError, nil })
		}, "example.org 1m0s [192.0.2.1] [] [] [] []"},
		{"a server that understands nothing", func(q *query) {
			q.reply(q.answer(), func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeFormatError })
		}, "FORMERR"},
		{"an extended response code", func(q *query) { // 16, BADVERS
			q.reply(good(q), func(m *dnsmessage.Message) {
				m.Additionals = []dnsmessage.Resource{opt()}
				m.Additionals[0].Header.TTL |= 1 << 24
			})
		}, "RCODE 16"},
		{"words of the server for a terminal", func(q *query) {
			q.rcode(dnsmessage.RCodeServerFailure, dnsmessage.Option{Code: 15, Data: []byte("\x00\x16a\x1b[2J\r\nb\xff")})
		}, "(SERVFAIL): extended error 22, a?[2J??b?"},
		{"many words of the server", func(q *query) {
			text := strings.Repeat("x", 120) + "y"
			q.rcode(dnsmessage.RCodeServerFailure, dnsmessage.Option{Code: 15, Data: []byte("\x00\x16" + text)})
		}, "22, " + strings.Repeat("x", 120) + "$"},
		{"an extended error without text or code", func(q *query) {
			q.rcode(dnsmessage.RCodeServerFailure, dnsmessage.Option{Code: 15, Data: []byte{0}})
		}, "(SERVFAIL)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{serve: tt.serve}
				got := lookup(t.Context(), n.stub(t, dns.Options{}), "example.org", dns.A)
				if got != tt.want && !(strings.HasPrefix(got, "error: ") && strings.Contains(got+"$", tt.want)) {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				if asked := n.asked(); len(asked) > 13 {
					t.Errorf("%d queries", len(asked))
				}
			})
		})
	}
}

// TestRecords has the data of records that are not what they seem.
func TestRecords(t *testing.T) {
	name := dnsmessage.MustNewName("example.org.")
	odd := dnsmessage.MustNewName("Mail\r\n\"x.example.org.")
	for _, tt := range []struct {
		t    dns.Type
		body dnsmessage.ResourceBody
		want string
	}{
		{dns.MX, &dnsmessage.MXResource{Pref: 10, MX: odd}, `[{10 mail\013\010\034x.example.org}]`},
		{dns.MX, &dnsmessage.MXResource{MX: dnsmessage.MustNewName(".")}, "[{0 .}]"},
		{dns.PTR, &dnsmessage.PTRResource{PTR: odd}, `[mail\013\010\034x.example.org]`},
		{dns.PTR, &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("\xff\x7f\\.example.")}, `[\255\127\092.example]`},
		{dns.CNAME, &dnsmessage.CNAMEResource{CNAME: odd}, `[mail\013\010\034x.example.org]`},
		{dns.TLSA, &dnsmessage.UnknownResource{Type: 52, Data: []byte{3, 1, 1, 9}}, "[3 1 1 09]"},
		{dns.TLSA, &dnsmessage.UnknownResource{Type: 52, Data: []byte{3, 1, 1}}, "[3 1 1 ]"},
		{dns.TLSA, &dnsmessage.UnknownResource{Type: 52, Data: []byte{3, 1}}, "too short"},
		{dns.MX, &dnsmessage.UnknownResource{Type: 15, Data: []byte{0, 1, 0xc0, 0xff}}, "malformed"},
		{dns.TXT, &dnsmessage.UnknownResource{Type: 16, Data: []byte{9, 'a'}}, "malformed"},
		{dns.TXT, &dnsmessage.TXTResource{TXT: []string{"a\r\n", "\xff"}}, "[a\r\n\xff]"}, // as it is
	} {
		n := &network{serve: func(q *query) { q.reply(q.answer(resource(name.String(), 60, tt.body))) }}
		if got := lookup(t.Context(), n.stub(t, dns.Options{}), "example.org", tt.t); !strings.Contains(got, tt.want) {
			t.Errorf("%v: got %s, want %s", tt.body, got, tt.want)
		}
	}
}

// TestCase folds no letters but those of ASCII: the Kelvin sign is no k.
func TestCase(t *testing.T) {
	n := &network{serve: func(q *query) {
		q.reply(q.answer(a("mas\u212a.example.", 60, 9), a("MAS\u212a.example.", 60, 9)))
	}}
	got := lookup(t.Context(), n.stub(t, dns.Options{}), "mask.example", dns.A)
	if got != "mask.example secure 0s [] [] [] [] []" {
		t.Errorf("got %s", got)
	}
}

// TestCompression has pointers that go round, forward and out of the message (RFC 1035 section 4.1.4).
func TestCompression(t *testing.T) {
	for _, owner := range []string{"\xc0\x1d", "\xc0\xff", "\xff\xff", "\xc0", "\x80\x00", "\x01a\xc0\x1d", "\x3f"} {
		n := &network{serve: func(q *query) {
			raw, err := q.answer().Pack()
			if err != nil {
				panic(err)
			}
			raw[7] = 1 // an answer, which begins at 0x1d
			q.send(append(raw, owner+"\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"...))
		}}
		got := lookup(t.Context(), n.stub(t, dns.Options{}), "example.org", dns.A)
		if !strings.Contains(got, "malformed") {
			t.Errorf("%q: got %s", owner, got)
		}
	}
}

// TestServers says which servers are asked, and how often.
func TestServers(t *testing.T) {
	const servfail, refused, timeout, good = "SERVFAIL", "REFUSED", "timeout", "good"
	bogus := func(code byte) string { return "extended " + string(code) }
	for _, tt := range []struct {
		name    string
		servers map[byte]string // by the last number of their addresses
		opt     dns.Options
		asked   string
		want    string
		took    time.Duration
		bogus   bool
	}{
		{"the first answers", map[byte]string{1: good, 2: good}, dns.Options{}, "1", "secure", 0, false},
		{"the first fails", map[byte]string{1: servfail, 2: good}, dns.Options{}, "12", "secure", 0, false},
		{"the first refuses", map[byte]string{1: refused, 2: good}, dns.Options{}, "12", "secure", 0, false},
		{"the first is silent", map[byte]string{1: timeout, 2: good}, dns.Options{}, "12", "secure", 5 * time.Second, false},
		{"all are silent", map[byte]string{1: timeout, 2: timeout}, dns.Options{}, "1212", "no answer within 5s",
			20 * time.Second, false},
		{"one attempt", map[byte]string{1: timeout}, dns.Options{Attempts: 1, Timeout: time.Second}, "1",
			"no answer within 1s", time.Second, false},
		{"five attempts", map[byte]string{1: timeout}, dns.Options{Attempts: 5}, "11111",
			"no answer within 5s", 25 * time.Second, false},
		{"all fail", map[byte]string{1: servfail, 2: refused}, dns.Options{}, "12", "REFUSED", 0, false},
		{"one fails, one is silent", map[byte]string{1: servfail, 2: timeout}, dns.Options{}, "122",
			"127.0.0.1:53: the server", 10 * time.Second, false},
		// What a server that validates calls bogus is not asked of one that may not.
		{"bogus", map[byte]string{1: bogus(6), 2: good}, dns.Options{}, "1", "DNSSEC proves", 0, true},
		{"expired", map[byte]string{1: bogus(7), 2: good}, dns.Options{}, "1", "DNSSEC proves", 0, true},
		{"no NSEC", map[byte]string{1: bogus(12), 2: good}, dns.Options{}, "1", "DNSSEC proves", 0, true},
		{"indeterminate", map[byte]string{1: bogus(5), 2: good}, dns.Options{}, "12", "secure", 0, false},
		{"cached error", map[byte]string{1: bogus(13)}, dns.Options{}, "1", "SERVFAIL", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{serve: func(q *query) {
					switch what := tt.servers[q.server[len("127.0.0.")]-'0']; what {
					case good:
						q.reply(q.answer(a(q.name()+".", 60, 1)))
					case servfail:
						q.rcode(dnsmessage.RCodeServerFailure)
					case refused:
						q.rcode(dnsmessage.RCodeRefused)
					case timeout:
					default:
						q.rcode(dnsmessage.RCodeServerFailure, dnsmessage.Option{Code: 15, Data: []byte{0, what[9]}})
					}
				}}
				for i := range len(tt.servers) {
					tt.opt.Servers = append(tt.opt.Servers, fmt.Sprintf("127.0.0.%d", i+1))
				}
				start := time.Now()
				answer, err := n.stub(t, tt.opt).Lookup(t.Context(), "example.org", dns.A)
				took := time.Since(start)
				got := ""
				for _, line := range n.asked() {
					got += line[len("udp 127.0.0.") : len("udp 127.0.0.")+1]
				}
				if got != tt.asked || took != tt.took {
					t.Errorf("asked %s in %v, want %s in %v", got, took, tt.asked, tt.took)
				}
				if tt.want == "secure" {
					if err != nil || !answer.Authentic {
						t.Errorf("got %+v, %v", answer, err)
					}
					return
				}
				var e *dns.Error
				if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) || e.Bogus != tt.bogus {
					t.Errorf("got %v, want %s, bogus %t", err, tt.want, tt.bogus)
				} else if e.Timeout() != strings.Contains(tt.want, "no answer") || e.Status()[0] != 4 {
					t.Errorf("%v: timeout %t, status %v", err, e.Timeout(), e.Status())
				}
			})
		})
	}
}

// TestRest asks a server that was silent about three domains after the others, for half a minute.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{serve: func(q *query) {
			if q.server == "127.0.0.2:53" || strings.HasPrefix(q.name(), "good.") {
				q.reply(q.answer(a(q.name()+".", 60, 1)))
			}
		}}
		s := n.stub(t, dns.Options{Servers: []string{"127.0.0.1", "127.0.0.2"}})
		ask := func(wait time.Duration, name, want string) {
			t.Helper()
			<-time.After(wait)
			lookup(t.Context(), s, name, dns.A)
			got := ""
			for _, line := range n.asked() {
				got += line[len("udp 127.0.0.") : len("udp 127.0.0.")+1]
			}
			if got != want {
				t.Errorf("%s: asked %s, want %s", name, got, want)
			}
		}
		ask(0, "a.example", "12")
		ask(0, "b.example", "12")
		ask(0, "c.example", "12")
		ask(20*time.Second, "d.example", "2")
		ask(11*time.Second, "e.example", "12")
		ask(20*time.Second, "f.example", "2")

		// The names of one slow zone do not make it rest, and an answer in between ends the count.
		ask(11*time.Second, "good.a.example", "1")
		for i := range 5 {
			ask(0, fmt.Sprintf("n%d.slow.example", i), "12")
		}
		ask(0, "slow.example", "12")
		ask(0, "g.example", "12")
		ask(0, "good.b.example", "1")
		ask(0, "h.example", "12")
		ask(0, "i.example", "12")
		ask(0, "j.example", "12")
		ask(0, "good.c.example", "2")
	})
}
