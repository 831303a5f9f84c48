package client

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A faulty server fails at random, at every step, and keeps a record of what it has done. It is written without the
// engine of package proto.
type faulty struct {
	t        *testing.T
	rnd      *rand.Rand
	keywords []string
	faults   int // of a hundred steps, how many fail

	took     map[string]int    // how often each recipient has got the message
	said     map[string]string // the text of each refusal, and the recipient it is for; "" for all
	final    map[string]bool   // recipients that were refused for good
	offered  map[string]int    // how often each was
	dropped  int               // connections closed without a word, or after nonsense
	attempts int               // connections
}

// A faultyConn is a connection to a faulty server.
type faultyConn struct {
	*faulty
	conn net.Conn
	in   *lineReader
	to   []string // those accepted
	mail bool
	bad  bool // a chunk was refused
}

func (f *faulty) dial(context.Context, string, string) (net.Conn, error) {
	if f.rnd.IntN(100) < f.faults/2 {
		return nil, errRefused
	}
	here, there := net.Pipe()
	c := &faultyConn{faulty: f, conn: there, in: &lineReader{r: there}}
	f.attempts++
	go c.serve()
	return here, nil
}

// say sends a reply. It reports whether the client has read it.
func (c *faultyConn) say(text string) bool {
	_, err := io.WriteString(c.conn, text+"\r\n")
	return err == nil
}

// refuse sends a refusal that concerns a recipient, or all.
func (c *faultyConn) refuse(code int, who string) bool {
	text := fmt.Sprintf("no %d", len(c.said))
	c.said[text] = who
	return c.say(fmt.Sprintf("%d %s", code, text))
}

// fault perhaps makes a step fail. It reports whether it did, and whether the connection goes on.
func (c *faultyConn) fault(who string) (failed, goesOn bool) {
	if c.rnd.IntN(100) >= c.faults {
		return false, true
	}
	switch c.rnd.IntN(6) {
	case 0:
		c.dropped++
		return true, false
	case 1:
		c.refuse(421, "")
		return true, false
	case 2:
		c.dropped++
		c.say("nonsense")
		return true, false
	case 3:
		if ok := c.refuse(550, who); ok && who != "" && c.mail {
			c.final[who] = true
		}
	default:
		c.refuse(451, who)
	}
	return true, true
}

func (c *faultyConn) serve() {
	defer c.conn.Close()
	if failed, _ := c.fault(""); failed {
		return
	}
	c.say("220 mail.example")
	for {
		line, err := c.in.line()
		if err != nil || !c.command(line) {
			return
		}
	}
}

// command answers a command. It reports whether the connection goes on.
func (c *faultyConn) command(line string) bool {
	verb, args, _ := strings.Cut(line, " ")
	switch verb {
	case "EHLO":
		for _, k := range c.keywords {
			c.say("250-" + k)
		}
		return c.say("250 XEND")
	case "QUIT":
		c.say("221 bye")
		return false
	case "RSET":
		c.mail, c.bad, c.to = false, false, nil
		return c.say("250 ok")
	case "MAIL":
		failed, goesOn := c.fault("")
		if !failed {
			c.mail = true
			c.say("250 ok")
		}
		return goesOn
	case "RCPT":
		return c.rcpt(strings.Trim(strings.TrimPrefix(args, "TO:"), "<>"))
	case "DATA":
		return c.data()
	case "BDAT":
		var n int64
		fmt.Sscan(args, &n)
		if c.in.copy(io.Discard, n) != nil {
			return false
		}
		return c.content(strings.HasSuffix(args, "LAST"))
	}
	return c.say("500 what")
}

func (c *faultyConn) rcpt(who string) bool {
	if !c.mail {
		return c.say("503 no sender")
	}
	if c.final[who] {
		c.t.Errorf("%s was refused for good, and is offered again", who)
	}
	c.offered[who]++
	failed, goesOn := c.fault(who)
	if !failed {
		c.to = append(c.to, who)
		c.say("250 ok")
	}
	return goesOn
}

func (c *faultyConn) data() bool {
	if len(c.to) == 0 {
		return c.say("503 no recipients")
	}
	if failed, goesOn := c.fault(""); failed {
		c.mail, c.to = false, nil
		return goesOn
	}
	c.say("354 go on")
	for {
		switch line, err := c.in.raw(); {
		case err != nil:
			return false
		case line == ".\r\n":
			goesOn := c.content(true)
			c.mail, c.bad, c.to = false, false, nil
			return goesOn
		}
	}
}

// content answers content. At the end of it the server may take the message and not say so.
func (c *faultyConn) content(last bool) bool {
	if len(c.to) == 0 || c.bad {
		return c.say("503 no")
	}
	if !last {
		return c.say("250 ok")
	}
	if c.rnd.IntN(100) < c.faults {
		c.dropped++
		if c.rnd.IntN(2) == 0 {
			c.take()
		}
		return false
	}
	failed, goesOn := c.fault("")
	if !failed {
		c.take()
		return c.say("250 ok")
	}
	c.bad = true
	return goesOn
}

func (c *faultyConn) take() {
	for _, who := range c.to {
		c.took[who]++
	}
	c.mail, c.to = false, nil
}

// TestRetryFaults sends messages by servers that fail at random. By the server's own record nobody gets a message
// twice, and what each recipient's outcome says is so.
func TestRetryFaults(t *testing.T) {
	var served, later, doubts, lost int
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 6))
			f := &faulty{t: t, rnd: rnd, faults: 5 + rnd.IntN(30), took: map[string]int{}, said: map[string]string{},
				final: map[string]bool{}, offered: map[string]int{}}
			for _, k := range []string{"PIPELINING", "CHUNKING", "LIMITS MAILMAX=1", "LIMITS RCPTMAX=2"} {
				if rnd.IntN(2) == 0 {
					f.keywords = append(f.keywords, k)
				}
			}
			m := message(strings.Repeat("hello\r\n", 1+rnd.IntN(20000)), "a@x.example", "b@x.example", "c@y.example",
				"d@y.example")
			opt := &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, DialContext: f.dial}
			s := DialSender(host, opt)
			if c, err := Dial(t.Context(), host, opt); err == nil && rnd.IntN(3) == 0 {
				s = c
				defer c.Close()
			} else if err == nil {
				c.Close()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(40))*time.Minute)
			defer cancel()
			res, err := Retry{Attempts: 1 + rnd.IntN(8), First: 30 * time.Second}.Send(ctx, s, m)
			synctest.Wait()
			if failed, ok := asType[*SendError](err); (err == nil) != (res.Sent() == len(m.To)) || err != nil && !ok {
				t.Errorf("seed %d: %v with %d served", seed, err, res.Sent())
			} else if ok && failed.Unknown {
				doubts++
			}
			for i := range res.Recipients {
				who := m.To[i].Address.String()
				if err := f.check(who, &res.Recipients[i]); err != "" {
					t.Errorf("seed %d: %s: %s: %v", seed, who, err, res.Recipients[i].Err)
				}
				switch {
				case res.Recipients[i].Err != nil:
					lost++
				case f.offered[who] > 1:
					later++
				default:
					served++
				}
			}
		})
	}
	t.Logf("%d served at once, %d later, %d not, %d messages in doubt", served, later, lost, doubts)
	if served < 100 || later < 100 || lost < 100 || doubts < 20 {
		t.Error("that is no test of it")
	}
}

// check returns what is untrue about an outcome, or "".
func (f *faulty) check(who string, o *proto.Outcome) string {
	refused, told := asReply(o.Err)
	switch took := f.took[who]; {
	case o.Address.String() != who:
		return "it is the outcome of " + o.Address.String()
	case took > 1:
		return fmt.Sprintf("got the message %d times", took)
	case o.Err == nil && took == 0:
		return "did not get the message, and is called served"
	case o.Err != nil && SafeToRetry(o.Err) && took > 0:
		return "got the message, and is called safe to retry"
	case o.Err != nil && !SafeToRetry(o.Err) && f.dropped == 0:
		return "is in doubt, and the server has lost no connection"
	case told:
		if about, ok := f.said[refused.Text]; !ok || about != "" && about != who {
			return "was not told that"
		}
	}
	return ""
}
