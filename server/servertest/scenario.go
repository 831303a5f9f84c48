package servertest

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/proto"
)

// bodies are those of messages that are easy to spoil.
var bodies = []string{
	"",
	"short\r\n",
	".\r\n..\r\n.dot\r\nFrom here\r\n \r\n\r\n",
	strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", 5000), // larger than the buffers in between
}

// play plays the scenarios of a protocol. Those of the first have to succeed.
func (x *exam) play(p proto.Protocol) {
	if err := x.newServer(p); err != nil {
		x.fail(ruleTakes, "%v", err)
		x.stop()
		return
	}
	defer x.server.Close()
	x.deliveries(p)
	if len(x.broken(ruleTakes)) > 0 {
		x.stop()
		return
	}
	x.transactions(p)
	x.givenUp(p)
	x.edges(p)
	x.everywhere(p)
	x.sideBySide(p)
	x.goroutines(p)
	x.contexts(p)
}

// stop notes that the rest is not played.
func (x *exam) stop() {
	x.mu.Lock()
	x.early = true
	x.mu.Unlock()
}

// deliveries sends messages whole.
func (x *exam) deliveries(p proto.Protocol) {
	for i, body := range bodies {
		for _, piece := range []int{1 << 20, 1000, 7} {
			if piece == 7 && len(body) > 1000 {
				continue
			}
			c := x.dial(fmt.Sprintf("message %d in pieces of %d octets", i+1, piece), "", p)
			c.hello()
			c.deliver(c.message(body, x.opt.To...), piece)
			c.end()
		}
	}
	c := x.dial("a message in chunks", "", p)
	if c.hello(); !c.offers("CHUNKING") {
		c.end()
		return
	}
	m := c.message(bodies[2], x.opt.To[0])
	c.begin(m)
	c.chunks(m, 10, len(m.content))
	c.end()
}

// chunks sends the content of the message in chunks, of a first length and of another.
func (c *caller) chunks(m *sent, first, length int) {
	rest := m.content
	for n := first; len(rest) > n; n = length {
		c.visit.why()
		c.write(fmt.Sprintf("BDAT %d\r\n%s", n, rest[:n]))
		c.expect(250)
		rest = rest[n:]
	}
	c.visit.why()
	c.write(fmt.Sprintf("BDAT %d LAST\r\n%s", len(rest), rest))
	c.accepted(m)
}

// transactions sends several messages on a connection, and gives transactions up in between.
func (x *exam) transactions(p proto.Protocol) {
	c := x.dial("a message behind another", "", p)
	c.hello()
	c.deliver(c.message("first\r\n", x.opt.To[0]), 1000)
	c.deliver(c.message("second\r\n", x.opt.To[1]), 1000)
	c.visit.scenario = "a message behind RSET"
	c.begin(&sent{from: x.opt.From, to: x.opt.To[:1]})
	c.ask("RSET", 250)
	c.deliver(c.message("third\r\n", x.opt.To[1]), 1000)
	c.visit.scenario = "a message behind EHLO"
	c.begin(&sent{from: x.opt.From, to: x.opt.To[:1]})
	c.ehlo()
	c.deliver(c.message("fourth\r\n", x.opt.To[1]), 1000)
	c.end()
}

// givenUp sends messages of which something is missing.
func (x *exam) givenUp(p proto.Protocol) {
	c := x.dial("a hang-up before EHLO", "", p)
	c.expect(220)
	c.hangUp()
	c = x.dial("a hang-up behind EHLO", "", p)
	c.hello()
	c.hangUp()
	c = x.dial("a hang-up behind MAIL", "", p)
	c.hello()
	c.ask("MAIL FROM:<"+x.opt.From+">", 250)
	c.hangUp()
	c = x.dial("a hang-up behind RCPT", "", p)
	c.hello()
	c.begin(c.message("x\r\n", x.opt.To[0]))
	c.hangUp()
	for _, body := range bodies[1:] {
		for _, missing := range []int{1 << 30, 30, 5, 3, 1} { // octets of the content, the dot and its CRLF
			c = x.dial(fmt.Sprintf("a hang-up in the content, %d octets before its end", missing), "", p)
			c.hello()
			m := c.message(body, x.opt.To[0])
			c.begin(m)
			c.ask("DATA", 354)
			whole := stuffed(m.content) + ".\r\n"
			c.write(whole[:len(whole)-min(missing, len(whole))])
			c.hangUp()
		}
	}
	c = x.dial("a hang-up behind the dot", "", p)
	c.hello()
	m := c.message("x\r\n", x.opt.To[0])
	c.begin(m)
	c.ask("DATA", 354)
	c.write(m.content + ".\r\n")
	c.hangUp()

	c = x.dial("RSET between chunks", "", p)
	if c.hello(); c.offers("CHUNKING") {
		m = c.message(bodies[2], x.opt.To[0])
		c.begin(m)
		c.write(fmt.Sprintf("BDAT %d\r\n%s", len(m.content), m.content))
		c.expect(250)
		c.write("RSET\r\n")
		c.reply()
	}
	c.hangUp()
	c = x.dial("a bare LF in the content", "", p)
	c.hello()
	m = c.message("one\ntwo\r\n", x.opt.To[0])
	c.begin(m)
	c.ask("DATA", 354)
	c.write(m.content + ".\r\n")
	c.reply() // which refusal it is, is the affair of the session
	c.hangUp()
}

// everywhere hangs up at every octet of a dialogue.
func (x *exam) everywhere(p proto.Protocol) {
	for n := 0; ; n += x.stride {
		c := x.dial(fmt.Sprintf("a hang-up behind %d octets of a dialogue", n), "", p)
		more := c.until(n)
		if !c.hangUp() || !more {
			return
		}
	}
}

// sideBySide sends messages on several connections at the same time.
func (x *exam) sideBySide(p proto.Protocol) {
	// One step after the other, so that what sessions share is always found.
	a, b := x.dial("two transactions at a time", "", p), x.dial("two transactions at a time", "", p)
	a.hello()
	b.hello()
	first, second := a.message("first\r\n", x.opt.To[0]), b.message("second\r\n", x.opt.To[1])
	first.shows, second.shows = ruleApart, ruleApart
	a.begin(first)
	b.begin(second)
	a.data(first, 1000)
	b.data(second, 1000)
	a.end()
	b.end()

	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 5 {
				c := x.dial("many connections at a time", "", p)
				c.hello()
				m := c.message(bodies[2], x.opt.To[i%2])
				m.shows = ruleApart
				c.deliver(m, 1000)
				c.end()
			}
		})
	}
	all.Wait()
}

// goroutines compares how many there are before and after a number of sessions.
func (x *exam) goroutines(p proto.Protocol) {
	const sessions, rounds = 20, 3
	grown := 0
	for range rounds { // other tests may begin goroutines too, but not in each round
		if grown = x.grown(p, sessions); grown < sessions/2 {
			return
		}
	}
	x.fail(ruleGoroutines, "there are %d goroutines more after %d sessions", grown, sessions)
}

// grown returns how many goroutines there are more after a number of sessions than before them.
func (x *exam) grown(p proto.Protocol, sessions int) int {
	before := runtime.NumGoroutine()
	for i := range sessions {
		c := x.dial("sessions for the count of goroutines", "", p)
		c.hello()
		m := c.message("x\r\n", x.opt.To[0])
		c.begin(m)
		if i%2 == 0 {
			c.data(m, 1000)
		}
		if !c.hangUp() {
			return 0 // it is told already
		}
	}
	limit := before + sessions/2
	for end := time.Now().Add(x.opt.Patience); runtime.NumGoroutine() >= limit && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // there is no other way to learn that goroutines have ended
	}
	return runtime.NumGoroutine() - before
}

// contexts calls each method with a context that has ended. What it returns does not matter.
func (x *exam) contexts(p proto.Protocol) {
	methods := []string{"NewSession", "Mail", "Rcpt", "Data", "Reset"}
	if p == proto.LMTP {
		methods[3] = "DataEach"
	}
	for _, method := range methods {
		c := x.dial("a context that has ended, for "+method, method, p)
		c.hello()
		m := c.message("x\r\n", x.opt.To[0])
		c.begin(m)
		c.data(m, 1000)
		c.hangUp()
	}
}
