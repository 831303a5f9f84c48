package client

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// taken is the script of a transaction in which all is accepted.
func taken(to ...string) string { return offered(to...) + "S: 354 go on\nC: hello\nC: .\nS: 250 ok\n" }

// offered is the script of a transaction up to the reply to DATA.
func offered(to ...string) string {
	s := "C: MAIL FROM:<a@b.example>\n"
	for _, r := range to {
		s += "C: RCPT TO:<" + r + ">\n"
	}
	return s + "C: DATA\n" + strings.Repeat("S: 250 ok\n", 1+len(to))
}

const bye = "C: QUIT\nS: 221 bye\nHANGUP\n"

// limited is how a session with a server begins that states limits.
func limited(limits string) string { return hello("PIPELINING", "LIMITS "+limits) }

// TestV08_Limits checks that a server gets no more than it says it takes, over as many connections as that needs (RFC
// 9422).
func TestV08_Limits(t *testing.T) {
	const a, b, c, d = "a@x.example", "b@y.example", "c@X.Example", "d@z.example"
	tests := []struct {
		name    string
		to      []string // of each message; "|" divides messages
		scripts []string
	}{
		{"RCPTMAX", []string{a, b, c, d, a}, []string{limited("RCPTMAX=2") + taken(a, b) + taken(c, d) + taken(a)}},
		{"RCPTMAX not reached", []string{a, b}, []string{limited("RCPTMAX=2") + taken(a, b)}},
		{"MAILMAX", []string{a, "|", b, "|", c}, []string{
			limited("MAILMAX=2") + taken(a) + taken(b) + bye, limited("MAILMAX=2") + taken(c),
		}},
		{"RCPTMAX and MAILMAX", []string{a, b, c, "|", d}, []string{
			limited("RCPTMAX=1 MAILMAX=2") + taken(a) + taken(b) + bye, limited("RCPTMAX=1 MAILMAX=2") + taken(c) + taken(d),
		}},
		{"RCPTDOMAINMAX", []string{a, b, c, d}, []string{
			limited("RCPTDOMAINMAX=1") + taken(a, c) + bye, limited("RCPTDOMAINMAX=1") + taken(b) + bye,
			limited("RCPTDOMAINMAX=1") + taken(d),
		}},
		{"RCPTDOMAINMAX counts for the session", []string{a, "|", b, "|", c}, []string{
			limited("RCPTDOMAINMAX=1") + taken(a) + bye, limited("RCPTDOMAINMAX=1") + taken(b) + bye,
			limited("RCPTDOMAINMAX=1") + taken(c),
		}},
		{"RCPTDOMAINMAX and RCPTMAX", []string{a, b, c, d}, []string{
			limited("RCPTMAX=1 RCPTDOMAINMAX=2") + taken(a) + taken(b) + taken(c) + bye,
			limited("RCPTMAX=1 RCPTDOMAINMAX=2") + taken(d),
		}},
		{"another connection, other limits", []string{a, b, c, "|", d}, []string{
			limited("RCPTMAX=1 MAILMAX=1") + taken(a) + bye, limited("RCPTMAX=9") + taken(b, c) + taken(d),
		}},
		{"V07 limits that are none", []string{a, b, c}, []string{limited("RCPTMAX=0 MAILMAX=12345678 X=1") + taken(a, b, c)}},
		{"V07 no list of limits", []string{a, b, c}, []string{limited("RCPTMAX=1 =1") + taken(a, b, c)}},
		{"V07 lower case", []string{a, b}, []string{limited("rcptmax=1") + taken(a) + taken(b)}},
	}
	for _, tt := range tests {
		var msgs []*Message
		for one := range strings.SplitSeq(strings.Join(tt.to, " "), " | ") {
			msgs = append(msgs, message("hello\r\n", strings.Fields(one)...))
		}
		t.Run(tt.name, func(t *testing.T) {
			cl := dial(t, nil, tt.scripts...)
			for _, m := range msgs {
				checkAll(t, m)(cl.Send(context.Background(), m))
			}
		})
		t.Run(tt.name+", SendAll", func(t *testing.T) {
			cl := dial(t, nil, tt.scripts...)
			for _, m := range msgs {
				m.Body = strings.NewReader("hello\r\n")
			}
			n := 0
			err := cl.SendAll(context.Background(), slices.Values(msgs), func(m *Message, res *Result, err error) bool {
				if m != msgs[n] {
					t.Errorf("message %d is reported out of order", n)
				}
				n++
				checkAll(t, m)(res, err)
				return true
			})
			if err != nil || n != len(msgs) {
				t.Errorf("%d of %d messages: %v", n, len(msgs), err)
			}
		})
	}
}

// checkAll checks that all recipients of m are served.
func checkAll(t *testing.T, m *Message) func(*Result, error) {
	return func(res *Result, err error) {
		t.Helper()
		if err != nil || res.Sent() != len(m.To) || len(res.Recipients) != len(m.To) || res.Reply.Code != 250 {
			t.Errorf("%+v, %v", res, err)
		}
		for i, r := range res.Recipients {
			if r.Address != m.To[i].Address || r.Reply.Code != 250 {
				t.Errorf("recipient %d is %+v", i, r)
			}
		}
	}
}

// TestLimitsNotObeyed has messages of which some recipients cannot be offered, or need not be.
func TestLimitsNotObeyed(t *testing.T) {
	const a, b, c = "a@x.example", "b@y.example", "c@z.example"
	const reset = "C: RSET\nS: 250 ok\n"
	one := limited("RCPTMAX=1")
	unread := func(m *Message) { m.Body = io.MultiReader(m.Body) }
	refused := "C: MAIL*\nC: RCPT*\nC: DATA\nS: 550 no\nS: 503 no\nS: 503 no\n"
	for _, tt := range []struct {
		name    string
		change  func(*Message)
		scripts []string
		want    string // codes; -1 is no reply, -2 a LimitError
		lost    bool
	}{
		{"the body cannot be read again", unread, []string{one + taken(a)}, "0 -2 -2", false},
		{"MAIL refused", nil, []string{one + refused}, "550 550 550", false},
		{"a recipient refused", nil, []string{one + "C: MAIL*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 550 no\nS: 503 no\n" + reset +
			taken(b) + taken(c)},
			"550 0 0", false},
		{"DATA refused", nil, []string{one + offered(a) + "S: 451 later\n" + reset}, "451 451 451", false},
		{"content refused", nil, []string{one + taken(a) + offered(b) + "S: 354 go on\nC: hello\nC: .\nS: 554 no\n"},
			"0 554 554", false},
		{"lost", nil, []string{one + taken(a) + "C: MAIL*\nCLOSE"}, "0 -1 -2", false},
		{"lost at the end", nil, []string{one + taken(a) + offered(b) + "S: 354 go on\nC: hello\nC: .\nCLOSE"}, "0 -1 -2",
			true},
		{"refused the second time", nil, []string{limited("MAILMAX=1 RCPTMAX=1") + taken(a) + bye,
			"S: 554 go away\nC: QUIT\nS: 221 bye\nHANGUP"},
			"0 -2 -2", false},
		{"room for fewer", nil, []string{limited("RCPTMAX=2") +
			"C: MAIL*\nC: RCPT*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 452 4.5.3 no\nS: 354 go on\nC: hello\nC: .\n" +
			"S: 250 ok\n" +
			taken(c, b)}, "0 0 0", false},
		{"an address that cannot be sent", func(m *Message) { m.To[2].Address.Local = "jörg" }, []string{one}, "-1 -1 -1",
			false},
	} {
		t.Run("V08 "+tt.name, func(t *testing.T) {
			cl := dial(t, nil, tt.scripts...)
			m := message("hello\r\n", a, b, c)
			if tt.change != nil {
				tt.change(m)
			}
			res, err := cl.Send(context.Background(), m)
			got := codes(res)
			for i, r := range res.Recipients {
				if limit, ok := asType[*LimitError](r.Err); ok {
					words := strings.Fields(got)
					words[i] = "-2"
					got = strings.Join(words, " ")
					if !Temporary(r.Err) || limit.Limits.RcptMax == 0 ||
						!strings.Contains(r.Err.Error(), "1 recipients in a transaction") {
						t.Errorf("%+v: %v", limit, r.Err)
					}
				}
			}
			if got != tt.want {
				t.Errorf("the recipients got %s, want %s (%v)", got, tt.want, err)
			}
			e, ok := asType[*SendError](err)
			if ok == (tt.want == "0 0 0") || ok && (e.Result != res || e.Unknown != tt.lost || tt.lost && asLost(e.Err) == nil) {
				t.Errorf("the error is %#v", err)
			}
			if seeker, ok := m.Body.(io.Seeker); ok && err != nil {
				if pos, err := seeker.Seek(0, io.SeekCurrent); pos != 0 || err != nil {
					t.Errorf("the body is at %d, %v", pos, err)
				}
			}
		})
	}
}

func asLost(err error) error {
	e, _ := asType[*LostError](err)
	if e == nil {
		return nil
	}
	return e
}

// TestV09_LimitsInPlaintext has limits stated where somebody in between may have written them, and where not (V11: what
// counts is the last EHLO).
func TestV09_LimitsInPlaintext(t *testing.T) {
	const a, b = "a@x.example", "b@y.example"
	inTLS := func(limits string) string {
		return "TLS\n" + strings.TrimPrefix(limited(limits), "S: 220 mail.example\n")
	}
	start := hello("STARTTLS", "PIPELINING", "LIMITS RCPTMAX=1") + "C: STARTTLS\nS: 220 go\n"
	for _, tt := range []struct {
		name, script string
		mode         ext.TLSMode
	}{
		{"in plaintext, TLS on offer", hello("STARTTLS", "PIPELINING", "LIMITS RCPTMAX=1") + taken(a, b), ext.TLSInsecureNone},
		{"in plaintext, no TLS on offer", limited("RCPTMAX=1") + taken(a) + taken(b), ext.TLSInsecureNone},
		{"in TLS", start + inTLS("RCPTMAX=1") + taken(a) + taken(b), ext.TLSRequired},
		{"V11 other limits in TLS", start + inTLS("RCPTMAX=2") + taken(a, b), ext.TLSRequired},
		{"V11 no limits in TLS", start + "TLS\nC: EHLO client.example\nS: 250-mail.example\nS: 250 PIPELINING\n" +
			taken(a, b), ext.TLSRequired},
		{"implicit TLS", "TLS\n" + limited("RCPTMAX=1") + taken(a) + taken(b), ext.TLSImplicit},
	} {
		t.Run("V09 "+tt.name, func(t *testing.T) {
			c := dial(t, func(o *Options) { o.TLS, o.TLSConfig = tt.mode, clienttest.TLSConfig() }, tt.script)
			m := message("hello\r\n", a, b)
			checkAll(t, m)(c.Send(context.Background(), m))
		})
	}
}

// TestOffersAThousand has more recipients than are offered to a server that has not said how many it takes.
func TestOffersAThousand(t *testing.T) {
	var to []string
	for i := range 1500 {
		to = append(to, fmt.Sprintf("r%d@x.example", i))
	}
	c := dial(t, nil, hello("PIPELINING")+taken(to[:1000]...)+taken(to[1000:]...))
	m := message("hello\r\n", to...)
	checkAll(t, m)(c.Send(context.Background(), m))
	c = dial(t, nil, limited("RCPTMAX=2000")+taken(to...))
	m.Body = strings.NewReader("hello\r\n")
	checkAll(t, m)(c.Send(context.Background(), m))
}

// TestV08_NewSession has a command make the session begin anew: what was sent before does not count any more.
func TestV08_NewSession(t *testing.T) {
	list := append(ehlo.Default(), ext.Extension{
		Keyword: "XANEW", Verbs: []proto.Verb{{Name: "XANEW", In: proto.Ready, Last: true, OK: proto.Hello}},
	})
	start := hello("XANEW", "PIPELINING", "LIMITS MAILMAX=1 RCPTDOMAINMAX=1")
	c := dial(t, func(o *Options) { o.Extensions = list }, hello("XANEW", "PIPELINING")+"C: XANEW x\nS: 220 hello\n"+
		strings.TrimPrefix(start, "S: 220 mail.example\n")+taken("c@d.example")+
		"C: XANEW x\nS: 220 hello\n"+strings.TrimPrefix(start, "S: 220 mail.example\n")+taken("c@e.example"))
	for _, to := range []string{"c@d.example", "c@e.example"} {
		if _, err := c.Do(context.Background(), "XANEW", "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send(context.Background(), message("hello\r\n", to)); err != nil {
			t.Error(err)
		}
	}
}

// TestOffersNoMoreThanRoom has a server that takes 120 recipients at a time, and says so by refusing others: from then
// on it is offered no more than it takes.
func TestOffersNoMoreThanRoom(t *testing.T) {
	var to []string
	for i := range 300 {
		to = append(to, fmt.Sprintf("r%d@x.example", i))
	}
	var script strings.Builder
	script.WriteString(hello("PIPELINING"))
	for _, part := range []struct{ from, to, room int }{{0, 300, 120}, {120, 240, 120}, {240, 300, 60}} {
		script.WriteString("C: MAIL FROM:<a@b.example>\n")
		for _, r := range to[part.from:part.to] {
			script.WriteString("C: RCPT TO:<" + r + ">\n")
		}
		script.WriteString("C: DATA\n" + strings.Repeat("S: 250 ok\n", 1+part.room))
		script.WriteString(strings.Repeat("S: 452 4.5.3 no\n", part.to-part.from-part.room) +
			"S: 354 go on\nC: hello\nC: .\nS: 250 ok\n")
	}
	c := dial(t, nil, script.String())
	m := message("hello\r\n", to...)
	checkAll(t, m)(c.Send(context.Background(), m))
}

// TestPipeToMany has content from a pipe, which is a file and cannot be read twice, for more recipients than are
// offered at once where it can.
func TestPipeToMany(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		_, _ = io.WriteString(w, "hello\r\n")
	}()
	var to []string
	for i := range 1100 {
		to = append(to, fmt.Sprintf("r%d@x.example", i))
	}
	c := dial(t, nil, hello("PIPELINING")+taken(to...))
	m := message("", to...)
	m.Body = r
	checkAll(t, m)(c.Send(context.Background(), m))
}

// TestE20_MoreRecipientsThanRoom checks that the recipients for whom a transaction had no room get one of their own.
func TestE20_MoreRecipientsThanRoom(t *testing.T) {
	first := `C: MAIL FROM:<a@b.example>
C: RCPT TO:<c0@d.example>
C: RCPT TO:<c1@d.example>
C: RCPT TO:<c2@d.example>
C: RCPT TO:<c3@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 550 no
S: 452 too many
S: 552 too many
S: 354 go on
C: hello
C: .
S: 250 first
`
	second := `C: MAIL FROM:<a@b.example>
C: RCPT TO:<c2@d.example>
C: RCPT TO:<c3@d.example>
C: DATA
S: 250 ok
`
	to := []string{"c0@d.example", "c1@d.example", "c2@d.example", "c3@d.example"}
	for _, tt := range []struct{ name, rest, want string }{
		{"served", "S: 250 ok\nS: 250 ok\nS: 354 go on\nC: hello\nC: .\nS: 250 second", "0 550 0 0"},
		{"one by one", "S: 250 ok\nS: 452 no\nS: 354 go on\nC: hello\nC: .\nS: 250 second\n" +
			"C: MAIL FROM:<a@b.example>\nC: RCPT TO:<c3@d.example>\nC: DATA\n" +
			"S: 250 ok\nS: 250 ok\nS: 354 go on\nC: hello\nC: .\nS: 250 third", "0 550 0 0"},
		{"no room either", "S: 452 no\nS: 452 no\nS: 503 no recipients\nC: RSET\nS: 250 ok", "0 550 452 452"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, nil, hello("PIPELINING")+first+second+tt.rest)
			res, err := c.Send(context.Background(), message("hello", to...))
			if codes(res) != tt.want || err == nil {
				t.Errorf("the recipients got %s, want %s; %v", codes(res), tt.want, err)
			}
		})
	}
	t.Run("a body that cannot be read again", func(t *testing.T) {
		c := dial(t, nil, hello("PIPELINING")+first)
		m := message("", to...)
		m.Body = io.MultiReader(strings.NewReader("hello"))
		res, err := c.Send(context.Background(), m)
		if codes(res) != "0 550 452 452" || !Temporary(err) || SafeToRetry(err) {
			t.Errorf("the recipients got %s, %v", codes(res), err)
		}
	})
}

// TestSplitInParts: with an outcome for each recipient, a refused first recipient says nothing of the rest.
func TestSplitInParts(t *testing.T) {
	c := dial(t, asking, hello("PIPELINING", "XEACH", "LIMITS RCPTMAX=2")+
		"C: MAIL*\nC: RCPT TO:<c@d.example>\nC: RCPT TO:<e@f.example>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n"+
		"C: hello\nC: .\nS: 353 each\nS: 554 spam\nS: 250 two\nS: 250 queued\n"+
		"C: MAIL*\nC: RCPT TO:<g@h.example>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: hello\nC: .\nS: 250 queued\n"+bye)
	res, _ := c.Send(context.Background(), message("hello\r\n", "c@d.example", "e@f.example", "g@h.example"))
	if got := codes(res); got != "554 0 0" {
		t.Errorf("the outcomes are %s", got)
	}
}

// TestUnwantedStaysUnwanted: SendAll sends nothing more once the function that it reports to has returned false.
func TestUnwantedStaysUnwanted(t *testing.T) {
	c := dial(t, nil, limited("MAILMAX=2")+firstData+taken("c@d.example")+bye)
	sendFirst(t, c)
	n := 0
	err := c.SendAll(context.Background(), slices.Values([]*Message{
		message("hello\r\n", "c@d.example"), message("hello\r\n", "c@d.example"), message("hello\r\n", "c@d.example"),
	}), func(*Message, *Result, error) bool { n++; return n > 1 })
	if err != nil || n != 2 {
		t.Errorf("%v, %d messages were begun, and none was wanted after the first", err, n)
	}
}
