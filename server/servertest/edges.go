package servertest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"strings"

	"smtpkit.example/smtp/proto"
)

// edges plays what most clients never do, or do seldom.
func (x *exam) edges(p proto.Protocol) {
	x.sizes(p)
	x.binary(p)
	x.nullSender(p)
	x.refused(p)
	x.addresses(p)
	x.passwords(p)
	x.startTLS(p)
}

// maxExamMessage is the size of the largest message that the server of an exam accepts, in octets. It is more than what
// is usually buffered.
const maxExamMessage = 1 << 20

// sizes sends a message with octets above 127, one of the largest size, and one that is larger.
func (x *exam) sizes(p proto.Protocol) {
	const line = "0123456789 0123456789 0123456789 0123456789 0123456789 01234567\r\n"
	c := x.dial("a large message", "", p)
	c.hello()
	c.deliver(c.message(strings.Repeat(line, x.limit/len(line)-10), x.opt.To...), 1<<15)
	if c.offers("8BITMIME") {
		c.visit.scenario = "a message with octets above 127"
		m := c.message("Gr\xc3\xbc\xc3\x9fe, and octets that are no UTF-8: \xff\xfe\x80\r\n", x.opt.To...)
		m.params = " BODY=8BITMIME"
		c.deliver(m, 1000)
	}
	c.end()
	c = x.dial("a message that is larger than the server accepts", "", p)
	c.hello()
	m := c.message(strings.Repeat(line, x.limit/len(line)+10), x.opt.To...)
	c.beginWith(m, "")
	c.ask("DATA", 354)
	c.write(m.content + ".\r\n")
	c.reply() // the server refuses the message by itself
	c.hangUp()
}

// binary sends content that is not lines of text, if the server takes it.
func (x *exam) binary(p proto.Protocol) {
	c := x.dial("a message with BODY=BINARYMIME", "", p)
	c.hello()
	if !c.offers("BINARYMIME") || !c.offers("CHUNKING") {
		c.end()
		return
	}
	c.fails = ruleOctets
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	body := "\x00\n.\n.\r\n..\r\n\r.\r\r\n\n\r\n.\r\n" + strings.Repeat(string(all), 300) + "no end of line\r"
	for _, length := range []int{1 << 20, 1000} {
		m := c.message(body, x.opt.To...)
		m.params = " BODY=BINARYMIME"
		c.begin(m)
		c.chunks(m, strings.Index(m.content, "\r\n")+1, length) // the first chunk ends between CR and LF
	}
	c.end()
}

// nullSender sends a message from <>, as a bounce is, behind another message. Nobody submits bounces.
func (x *exam) nullSender(p proto.Protocol) {
	if x.opt.User != "" {
		return
	}
	c := x.dial("a message from <>", "", p)
	c.hello()
	c.deliver(c.message("x\r\n", x.opt.To[0]), 1000)
	c.fails = ruleNull
	m := c.message("bounce\r\n", x.opt.To[0])
	m.from = ""
	c.deliver(m, 1000)
	c.end()
}

// refused sends to somebody whom the backend refuses, and to somebody else.
func (x *exam) refused(p proto.Protocol) {
	if x.opt.Unknown == "" {
		return
	}
	c := x.dial("a recipient who is refused, and another", "", p)
	c.fails = ruleRefused
	c.hello()
	m := c.message("x\r\n", x.opt.To[0])
	m.shows = ruleRefused
	c.visit.send(m)
	c.ask("MAIL FROM:<"+m.from+">", 250)
	c.write("RCPT TO:<" + x.opt.Unknown + ">\r\n")
	if code, text := c.reply(); c.err == nil && code < 400 {
		c.err = fmt.Errorf("to RCPT TO:<%s>, which is BackendOptions.Unknown, the server says %q", x.opt.Unknown, text)
	}
	c.ask("RCPT TO:<"+m.to[0]+">", 250)
	c.data(m, 1000)
	c.end()
}

// addresses sends to addresses of all kinds. The backend may refuse them.
func (x *exam) addresses(p proto.Protocol) {
	c := x.dial("addresses of all kinds", "", p)
	c.visit.anyAddress = true
	c.hello()
	m := c.message("x\r\n", x.opt.To[0])
	m.loose = true
	list := []string{
		`"a b"@example.org`, `"\"@<>"@example.org`, "postmaster", "POSTMASTER@EXAMPLE.ORG", "x@[192.0.2.1]",
		"x@[IPv6:2001:db8::1]", strings.Repeat("x", 64) + "@example.org", "x+y=z@example.org", "x@xn--bcher-kva.example",
		"%40/..|x@example.org",
	}
	params := ""
	if c.offers("SMTPUTF8") {
		params = " SMTPUTF8"
		list = append(list, "δοκιμή@παράδειγμα.example")
	}
	for _, a := range list {
		if a != "postmaster" {
			c.visit.send(nil)
			c.write("MAIL FROM:<" + a + ">" + params + "\r\n")
			c.reply()
			c.ask("RSET", 250)
		}
	}
	c.visit.send(m)
	c.ask("MAIL FROM:<"+m.from+">"+params, 250)
	accepted := 0
	for _, a := range list {
		c.write("RCPT TO:<" + a + ">\r\n")
		if code, _ := c.reply(); code == 250 {
			accepted++
		}
	}
	if accepted > 0 {
		c.ask("DATA", 354)
		c.write(m.content + ".\r\n")
		if !c.lmtp {
			accepted = 1
		}
		for range accepted {
			c.reply()
		}
	}
	c.end()
}

// passwords authenticates with what is wrong, and then with what is right.
func (x *exam) passwords(p proto.Protocol) {
	if x.opt.User == "" {
		return
	}
	c := x.dial("a wrong password", "", p)
	c.fails = ruleAuth
	c.expect(220)
	c.ehlo()
	for _, line := range []string{
		plain(x.opt.User, x.opt.Password+"x"), plain(x.opt.User, "x"), plain("nobody.servertest", x.opt.Password),
	} {
		c.ask(line, 535)
	}
	c.ask(plain(x.opt.User, x.opt.Password), 235)
	c.deliver(c.message("x\r\n", x.opt.To[0]), 1000)
	c.end()
}

// startTLS sends a message in plaintext if it may, and another behind STARTTLS.
func (x *exam) startTLS(p proto.Protocol) {
	c := x.dial("a message behind STARTTLS", "", p)
	c.expect(220)
	if c.ehlo(); !c.offers("STARTTLS") {
		c.hangUp()
		return
	}
	x.mu.Lock()
	x.renewed = true
	x.mu.Unlock()
	if x.opt.User == "" {
		c.deliver(c.message("in plaintext\r\n", x.opt.To[0]), 1000)
	}
	c.fails = ruleRenewed
	c.ask("STARTTLS", 220)
	// The certificate is that of the user, or one that was made for this.
	secure := tls.Client(c.nc, &tls.Config{InsecureSkipVerify: true, ServerName: Hostname})
	c.nc, c.in = secure, bufio.NewReader(secure)
	c.ehlo()
	c.auth()
	c.deliver(c.message("secret\r\n", x.opt.To[1]), 1000)
	c.end()
}
