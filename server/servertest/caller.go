package servertest

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/proto"
)

// A caller is the client of a scenario.
type caller struct {
	x     *exam
	visit *visit
	nc    net.Conn
	in    *bufio.Reader
	done  chan struct{} // the session has ended
	err   error         // the first: nothing is sent behind it
	lmtp  bool
	caps  string // the reply to EHLO
	fails rule   // the rule that is broken if the server does not say what it should
}

// callTime is how long a caller waits for a reply.
const callTime = 30 * time.Second

// dial connects to the server. Ends is the method that is to be called with a context that has ended.
func (x *exam) dial(scenario, ends string, p proto.Protocol) *caller {
	here, there := Pipe(examAddr("client"), examAddr("server"))
	c := &caller{
		x: x, visit: &visit{scenario: scenario, ends: ends}, nc: here, in: bufio.NewReader(here),
		done: make(chan struct{}), lmtp: p == proto.LMTP, fails: ruleTakes,
	}
	srv := x.server
	ctx := context.WithValue(context.Background(), visitKey{}, c.visit)
	go func() {
		defer close(c.done)
		_ = srv.ServeConn(ctx, there)
	}()
	return c
}

// examAddr is the address of an end. It is no address of a network.
type examAddr string

func (a examAddr) Network() string { return "memory" }
func (a examAddr) String() string  { return string(a) }

// hello passes the greeting, EHLO and AUTH.
func (c *caller) hello() {
	c.expect(220)
	c.ehlo()
	c.auth()
}

// auth authenticates the user, if there is one.
func (c *caller) auth() {
	if user := c.x.opt.User; user != "" {
		c.ask(plain(user, c.x.opt.Password), 235)
	}
}

// plain returns the command that authenticates a user.
func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

func (c *caller) ehlo() {
	verb := "EHLO"
	if c.lmtp {
		verb = "LHLO"
	}
	c.write(verb + " client.example\r\n")
	var code int
	if code, c.caps = c.reply(); c.err == nil && code != 250 {
		c.err = fmt.Errorf("the server says %q to %s", c.caps, verb)
	}
}

// offers reports whether the server has advertised a keyword.
func (c *caller) offers(keyword string) bool { return strings.Contains(c.caps+"\n", keyword) }

func (c *caller) write(text string) {
	if c.err != nil {
		return
	}
	_ = c.nc.SetDeadline(time.Now().Add(callTime))
	_, c.err = io.WriteString(c.nc, text)
}

// reply returns the code and the text of the next reply.
func (c *caller) reply() (code int, text string) {
	for c.err == nil {
		_ = c.nc.SetDeadline(time.Now().Add(callTime))
		var line string
		if line, c.err = c.in.ReadString('\n'); c.err != nil {
			break
		}
		if text += line; len(line) > 3 && line[3] != '-' {
			_, c.err = fmt.Sscanf(line, "%d", &code)
			return code, strings.TrimSpace(text)
		}
	}
	return 0, ""
}

func (c *caller) expect(want int) {
	if code, text := c.reply(); c.err == nil && code != want {
		c.err = fmt.Errorf("the server says %q, want %d%s", text, want, c.visit.why())
	}
}

func (c *caller) ask(line string, want int) {
	if c.err != nil {
		return
	}
	c.visit.why() // what was before is of no interest
	c.write(line + "\r\n")
	if c.expect(want); c.err != nil {
		c.err = fmt.Errorf("to %q: %w", line, c.err)
	}
}

// hangUp closes the connection, and waits for the session to end. It reports false if it does not.
func (c *caller) hangUp() bool {
	c.nc.Close()
	timer := time.NewTimer(2 * c.x.opt.Patience)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
		c.x.fail(ruleContext, "%s: the client has hung up, and %s has not returned", c.visit.scenario, c.visit.method())
		return false
	}
}

// end says QUIT. An error until then means that the backend did not take what it was said to take.
func (c *caller) end() {
	c.ask("QUIT", 221)
	if c.err != nil {
		c.x.fail(c.fails, "%s: %v", c.visit.scenario, c.err)
	}
	c.hangUp()
}

// message makes a message with a body.
func (c *caller) message(body string, to ...string) *sent {
	x := c.x
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next++
	id := fmt.Sprintf("<%d.%d@servertest.example>", time.Now().UnixNano(), x.next)
	m := &sent{id: id, from: x.opt.From, to: to, shows: ruleAnew, scenario: c.visit.scenario}
	m.content = fmt.Sprintf("Message-ID: %s\r\nFrom: <%s>\r\nTo: <%s>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"+
		"Subject: servertest\r\n\r\n%s", id, x.opt.From, to[0], body)
	x.messages = append(x.messages, m)
	return m
}

// begin opens a transaction for the message.
func (c *caller) begin(m *sent) {
	params := m.params
	if c.offers("SIZE") {
		params += fmt.Sprintf(" SIZE=%d", len(m.content))
	}
	c.beginWith(m, params)
}

func (c *caller) beginWith(m *sent, params string) {
	c.visit.send(m)
	c.ask("MAIL FROM:<"+m.from+">"+params, 250)
	for _, a := range m.to {
		c.ask("RCPT TO:<"+a+">", 250)
	}
}

// deliver sends the message by DATA, in pieces of a length.
func (c *caller) deliver(m *sent, piece int) {
	c.begin(m)
	c.data(m, piece)
}

func (c *caller) data(m *sent, piece int) {
	c.ask("DATA", 354)
	for part := range slices.Chunk([]byte(stuffed(m.content)+".\r\n"), piece) {
		c.write(string(part))
	}
	c.accepted(m)
}

// accepted expects the replies to the content.
func (c *caller) accepted(m *sent) {
	n := 1
	if c.lmtp {
		n = len(m.to)
	}
	for range n {
		c.expect(250)
	}
}

// stuffed adds dots for transparency.
func stuffed(content string) string {
	return strings.ReplaceAll("\r\n"+content, "\r\n.", "\r\n..")[2:]
}

// until plays a dialogue up to n octets of the client. It reports whether there would have been more.
func (c *caller) until(n int) bool {
	m := c.message(".dot\r\n", c.x.opt.To...)
	c.visit.send(m)
	c.expect(220)
	for _, step := range c.steps(m) {
		if n < len(step) {
			c.write(step[:n])
			return true
		}
		n -= len(step)
		c.write(step)
		c.reply()
		if c.lmtp && strings.HasSuffix(step, "\r\n.\r\n") {
			for range len(m.to) - 1 {
				c.reply()
			}
		}
	}
	return false
}

// steps are what the client sends for the message, between replies.
func (c *caller) steps(m *sent) []string {
	hello := "EHLO client.example\r\n"
	if c.lmtp {
		hello = "LHLO client.example\r\n"
	}
	list := []string{hello}
	if user := c.x.opt.User; user != "" {
		list = append(list, plain(user, c.x.opt.Password)+"\r\n")
	}
	list = append(list, "MAIL FROM:<"+c.x.opt.From+">\r\n")
	for _, a := range m.to {
		list = append(list, "RCPT TO:<"+a+">\r\n")
	}
	return append(list, "DATA\r\n", stuffed(m.content)+".\r\n", "QUIT\r\n")
}
