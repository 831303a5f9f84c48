package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/proto"
)

// whole returns a message that goes to all of its recipients or to none.
func whole(body string, to ...string) *Message {
	m := message(body, to...)
	m.AllOrNone = true
	return m
}

// kinds says of each outcome what its error is: ok, the code of a refusal, none with the class of its status for an
// AllOrNoneError, or the type.
func kinds(res *Result) string {
	var all []string
	for _, r := range res.Recipients {
		switch e := r.Err.(type) {
		case nil:
			all = append(all, "ok")
		case *proto.Error:
			all = append(all, fmt.Sprint(e.Code))
		case *AllOrNoneError:
			all = append(all, fmt.Sprintf("none%d:%s", e.Status().Class(), e.Refused.String()[:1]))
		default:
			all = append(all, fmt.Sprintf("%T", e))
		}
	}
	return strings.Join(all, " ")
}

// TestAllOrNone checks that the content waits for the replies to all recipients, and that nothing of it is sent if one
// of them is refused.
func TestAllOrNone(t *testing.T) {
	const a, b, c = "a@x.example", "b@y.example", "c@z.example"
	const group = "C: MAIL FROM:<a@b.example>\nC: RCPT TO:<" + a + ">\nC: RCPT TO:<" + b + ">\nC: RCPT TO:<" + c + ">\n"
	const reset = "C: RSET\nS: 250 ok\n"
	const next = "C: NOOP\nS: 250 ok\n"
	replies := func(codes ...string) string {
		s := "S: 250 ok\n"
		for _, code := range codes {
			s += "S: " + code + "\n"
		}
		return s
	}
	oneByOne := "C: MAIL FROM:<a@b.example>\nS: 250 ok\nC: RCPT TO:<" + a + ">\nS: 250 ok\nC: RCPT TO:<" + b +
		">\nS: 550 no\nC: RCPT TO:<" + c + ">\nS: 250 ok\n" + reset + next
	const data, chunk = "C: DATA\nS: 354 go on\nC: hello\nC: .\nS: 250 ok\n", "C: BDAT 7 LAST\nC: hello\nS: 250 ok\n"
	for _, tt := range []struct {
		name, keywords, script, want string
		retry                        bool // another attempt has prospects
	}{
		{"all taken", "PIPELINING", group + replies("250 ok", "250 ok", "251 ok") + data + next, "ok ok ok", false},
		{"all taken, chunks", "PIPELINING CHUNKING", group + replies("250 ok", "250 ok", "250 ok") + chunk + next,
			"ok ok ok", false},
		{"permanent", "PIPELINING", group + replies("250 ok", "550 5.1.1 no", "250 ok") + reset + next,
			"none5:b 550 none5:b", false},
		{"permanent, chunks", "PIPELINING CHUNKING", group + replies("250 ok", "250 ok", "550 no") + reset + next,
			"none5:c none5:c 550", false},
		{"temporary", "PIPELINING", group + replies("450 later", "250 ok", "250 ok") + reset + next,
			"450 none4:a none4:a", true},
		{"two temporary", "PIPELINING", group + replies("450 later", "250 ok", "451 later") + reset + next,
			"450 none4:a 451", true},
		{"both", "PIPELINING", group + replies("450 later", "250 ok", "550 no") + reset + next, "none5:c none5:c 550", false},
		{"all refused", "PIPELINING", group + replies("450 later", "550 no", "551 no") + reset + next,
			"none5:b 550 551", false},
		{"no room", "PIPELINING", group + replies("250 ok", "250 ok", "452 4.5.3 full") + reset + next,
			"none4:c none4:c 452", true},
		{"no room, an old code", "PIPELINING CHUNKING", group + replies("250 ok", "552 full", "552 full") + reset + next,
			"none4:b 452 452", true},
		{"MAIL refused", "PIPELINING", group + "S: 451 no\nS: 503 no\nS: 503 no\nS: 503 no\n" + next, "451 451 451", true},
		{"content refused", "PIPELINING CHUNKING", group + replies("250 ok", "250 ok", "250 ok") +
			"C: BDAT 7 LAST\nC: hello\nS: 554 no\n" + reset + next, "554 554 554", false},
		{"one by one", "", oneByOne, "none5:b 550 none5:b", false},
		{"one by one, chunks", "CHUNKING", oneByOne, "none5:b 550 none5:b", false},
		{"lost", "PIPELINING", group + replies("250 ok", "550 no") + "CLOSE", "none5:b 550 none5:b", false},
		{"lost, nobody refused", "PIPELINING", group + replies("250 ok", "250 ok") + "CLOSE",
			"*client.LostError *client.LostError *client.LostError", true},
		{"421", "PIPELINING", group + replies("250 ok", "550 no", "421 bye") + "CLOSE", "none5:b 550 none5:b", false},
	} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, SendAll %t", tt.name, all), func(t *testing.T) {
				cl := dial(t, nil, hello(strings.Fields(tt.keywords)...)+tt.script)
				m := whole("hello\r\n", a, b, c)
				var res *Result
				var err error
				if all {
					cl.SendAll(context.Background(), slices.Values([]*Message{m}), func(_ *Message, r *Result, e error) bool {
						res, err = r, e
						return true
					})
				} else {
					res, err = cl.Send(context.Background(), m)
				}
				if kinds(res) != tt.want {
					t.Errorf("the outcomes are %s, want %s: %v", kinds(res), tt.want, err)
				}
				sent := tt.want == "ok ok ok"
				if (err == nil) != sent || SafeToRetry(err) == sent || Temporary(err) != tt.retry {
					t.Errorf("safe %t, temporary %t: %v", SafeToRetry(err), Temporary(err), err)
				}
				if _, refused := asReply(err); refused != (!sent && !strings.Contains(tt.want, "Lost")) {
					t.Errorf("that the error wraps a refusal is %t: %v", refused, err)
				}
				for _, r := range res.Recipients {
					if SafeToRetry(r.Err) == sent || Temporary(r.Err) != tt.retry {
						t.Errorf("safe %t, temporary %t: %v", SafeToRetry(r.Err), Temporary(r.Err), r.Err)
					}
				}
				if strings.HasSuffix(tt.script, next) {
					if err := cl.Noop(context.Background()); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestAllOrNoneError checks what the errors say, and that the refusal is found in that of the call.
func TestAllOrNoneError(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+"C: MAIL*\nC: RCPT*\nC: RCPT*\nS: 250 ok\nS: 250 ok\nS: 550 5.1.1 nobody\n"+
		"C: RSET\nS: 250 ok")
	res, err := c.Send(context.Background(), whole("hello\r\n", "a@x.example", "b@y.example"))
	if e, ok := asReply(err); !ok || e.Code != 550 {
		t.Errorf("%v does not wrap the refusal", err)
	}
	if _, ok := asReply(res.Recipients[0].Err); ok || res.Recipients[0].Reply.Code != 0 {
		t.Errorf("the outcome has the refusal of another recipient: %+v", res.Recipients[0])
	}
	const why = "b@y.example was refused: RCPT: 550 5.1.1 nobody"
	if got, want := err.Error(), "smtp: not sent to any of 2 recipients, since "+why; got != want {
		t.Errorf("the error is %q, want %q", got, want)
	}
	want := "smtp: the message goes to all recipients or to none, and " + why
	if got := res.Recipients[0].Err.Error(); got != want {
		t.Errorf("the error of the other is %q, want %q", got, want)
	}
}

// TestAllOrNoneSingle checks that a message for one recipient waits for nothing.
func TestAllOrNoneSingle(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "CHUNKING")+"C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\n"+
		"S: 250 ok\nS: 250 ok\nS: 250 ok\n")
	m := whole("hello\r\n", "a@x.example")
	checkAll(t, m)(c.Send(context.Background(), m))
}

// TestAllOrNoneLimits checks that such a message is never divided.
func TestAllOrNoneLimits(t *testing.T) {
	const a, b, c = "a@x.example", "b@y.example", "c@z.example"
	group := func(to ...string) string {
		s := "C: MAIL*\n"
		for _, r := range to {
			s += "C: RCPT TO:<" + r + ">\n"
		}
		return s + strings.Repeat("S: 250 ok\n", 1+len(to)) + "C: DATA\nS: 354 go on\nC: hello\nC: .\nS: 250 ok\n"
	}
	var many []string
	for i := range maxOffered + 1 {
		many = append(many, fmt.Sprintf("a%d@x.example", i))
	}
	const next = "C: NOOP\nS: 250 ok"
	for _, tt := range []struct {
		name    string
		msgs    []*Message
		scripts []string
		want    string
		says    string
	}{
		{"RCPTMAX", []*Message{whole("hello\r\n", a, b, c)}, []string{limited("RCPTMAX=2") + next}, "*client.MessageError",
			"the server takes 2 recipients in a transaction"},
		{"RCPTMAX reached", []*Message{whole("hello\r\n", a, b)}, []string{limited("RCPTMAX=2") + group(a, b) + next}, "ok",
			""},
		{"RCPTDOMAINMAX", []*Message{whole("hello\r\n", a, b)}, []string{limited("RCPTDOMAINMAX=1") + next},
			"*client.MessageError", "recipients of 1 domains"},
		{"MAILMAX", []*Message{whole("hello\r\n", a, b), whole("hello\r\n", a, c)},
			[]string{limited("MAILMAX=1") + group(a, b) + bye, limited("MAILMAX=1") + group(a, c) + next}, "ok", ""},
		{"domains of the session", []*Message{whole("hello\r\n", a, b), whole("hello\r\n", a, c)},
			[]string{limited("RCPTDOMAINMAX=2") + group(a, b) + bye, limited("RCPTDOMAINMAX=2") + group(a, c) + next}, "ok", ""},
		{"another connection, lower limits", []*Message{whole("hello\r\n", a, b), whole("hello\r\n", a, c)},
			[]string{limited("MAILMAX=1") + group(a, b) + bye, limited("RCPTMAX=1") + next}, "*client.LimitError",
			"with AllOrNone they have to go in one transaction"},
		{"no limits stated", []*Message{whole("hello\r\n", many...)}, []string{limited("MAILMAX=5") + next},
			"*client.MessageError", "states no number, so that it is offered 1000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cl := dial(t, nil, tt.scripts...)
			var res *Result
			var err error
			for _, m := range tt.msgs {
				res, err = cl.Send(context.Background(), m)
			}
			for _, kind := range strings.Fields(kinds(res)) {
				if kind != tt.want {
					t.Errorf("a recipient has %s, want %s", kind, tt.want)
				}
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) || Temporary(err) != (tt.want == "*client.LimitError") {
				t.Errorf("temporary %t: %v", Temporary(err), err)
			}
			if err := cl.Noop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAllOrNoneLMTP checks what such a message is in LMTP: the replies to RCPT count, and those to the content are one
// for each.
func TestAllOrNoneLMTP(t *testing.T) {
	script := strings.Replace(hello("PIPELINING"), "EHLO", "LHLO", 1)
	c := dial(t, func(o *Options) { o.Protocol = proto.LMTP }, script+
		"C: MAIL*\nC: RCPT*\nC: RCPT*\nS: 250 ok\nS: 250 ok\nS: 250 ok\n"+
		"C: DATA\nS: 354 go on\nC: hello\nC: .\nS: 250 ok\nS: 552 full\n"+
		"C: MAIL*\nC: RCPT*\nC: RCPT*\nS: 250 ok\nS: 250 ok\nS: 450 later\nC: RSET\nS: 250 ok\n")
	for _, want := range []string{"ok 552", "none4:b 450"} {
		res, _ := c.Send(context.Background(), whole("hello\r\n", "a@x.example", "b@y.example"))
		if kinds(res) != want {
			t.Errorf("the outcomes are %s, want %s", kinds(res), want)
		}
	}
}

// TestAllOrNoneSendAll has messages behind and before one that is not sent: their envelopes do not wait, and RSET comes
// between. What leaves in one write is told by the script, whose replies come only when all of it was read.
func TestAllOrNoneSendAll(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "CHUNKING")+firstChunk+`
C: MAIL*
C: RCPT TO:<a@x.example>
C: BDAT 3 LAST
C: 1
C: RSET
C: MAIL*
C: RCPT TO:<b@x.example>
C: RCPT TO:<c@x.example>
S: 250 ok
S: 250 ok
S: 250 first
S: 250 ok
S: 250 ok
S: 250 ok
S: 550 no
C: RSET
C: MAIL*
C: RCPT TO:<d@x.example>
C: RCPT TO:<e@x.example>
S: 250 ok
S: 250 ok
S: 250 ok
S: 250 ok
C: BDAT 3 LAST
C: 3
C: RSET
C: MAIL*
C: RCPT TO:<f@x.example>
C: BDAT 3 LAST
C: 4
S: 250 third
S: 250 ok
S: 250 ok
S: 250 ok
S: 250 fourth`)
	msgs := []*Message{message("1\r\n", "a@x.example"), whole("2\r\n", "b@x.example", "c@x.example"),
		whole("3\r\n", "d@x.example", "e@x.example"), message("4\r\n", "f@x.example")}
	sendFirst(t, c)
	var got []string
	err := c.SendAll(context.Background(), slices.Values(msgs), func(_ *Message, r *Result, _ error) bool {
		got = append(got, kinds(r)+" "+r.Reply.Text)
		return true
	})
	if want := []string{"ok first", "none5:c 550 ", "ok ok third", "ok fourth"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("the outcomes are %q, want %q; %v", got, want, err)
	}
}

// TestAllOrNoneRandom sends streams in which some messages go to all or to none to a server that refuses at random.
// What the server has taken of such a message has all of its recipients, and the client says the same of every message.
func TestAllOrNoneRandom(t *testing.T) {
	for seed := range uint64(20) {
		for _, keywords := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}, {"CHUNKING"}} {
			here, there := net.Pipe()
			s := &moody{rnd: rand.New(rand.NewPCG(seed, 3)), conn: here, in: &lineReader{r: here}, took: map[string][]string{}}
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer here.Close()
				s.serve(keywords)
			}()
			c, err := NewClient(context.Background(), there, "mail.example", inPlaintext(clienttest.New(t)))
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]string{}
			n := 0
			msgs := func(yield func(*Message) bool) {
				for i := range 30 {
					body := fmt.Sprintf("%d\r\n", i) + strings.Repeat("x", []int{0, 3000, 2 * blockSize}[i%3])
					m := message(body, fmt.Sprintf("a%d@d.example", i), fmt.Sprintf("b%d@d.example", i))
					if m.AllOrNone = i%4 != 0; !yield(m) {
						return
					}
				}
			}
			err = c.SendAll(context.Background(), msgs, func(m *Message, res *Result, err error) bool {
				if m.AllOrNone && res.Sent() == 1 {
					t.Errorf("seed %d, %v: one of two got message %d", seed, keywords, n)
				}
				for _, r := range res.Recipients {
					if r.Err == nil {
						want[fmt.Sprint(n)] = append(want[fmt.Sprint(n)], r.Address.String())
					}
				}
				n++
				return true
			})
			if err != nil || n != 30 {
				t.Fatalf("seed %d, %v: %d reported, %v", seed, keywords, n, err)
			}
			c.Close()
			<-done
			if got, want := fmt.Sprint(s.took), fmt.Sprint(want); got != want {
				t.Fatalf("seed %d, %v: the server took\n%s\nand the client says\n%s", seed, keywords, got, want)
			}
		}
	}
}

// TestAllOrNoneRetry checks that another attempt is for all recipients or for none.
func TestAllOrNoneRetry(t *testing.T) {
	const group = "C: MAIL*\nC: RCPT TO:<a@x.example>\nC: RCPT TO:<b@y.example>\nC: RCPT TO:<c@z.example>\nS: 250 ok\n"
	const reset = "C: RSET\nS: 250 ok\n"
	for _, tt := range []struct{ name, script, want string }{
		{"temporary", group + "S: 250 ok\nS: 450 later\nS: 250 ok\n" + reset + group + "S: 250 ok\nS: 250 ok\nS: 250 ok\n" +
			"C: DATA\nS: 354 go on\nC: hello\nC: .\nS: 250 ok\n", "ok ok ok"},
		{"permanent", group + "S: 450 later\nS: 550 no\nS: 250 ok\n" + reset, "none5:b 550 none5:b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, nil, hello("PIPELINING")+tt.script)
			m := whole("hello\r\n", "a@x.example", "b@y.example", "c@z.example")
			res, err := Retry{First: -1}.Send(t.Context(), c, m)
			if kinds(res) != tt.want {
				t.Errorf("the outcomes are %s, want %s: %v", kinds(res), tt.want, err)
			}
		})
	}
}
