package server

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"net/mail"
	"strings"
	"time"

	"smtpkit.example/smtp/proto"
)

// A Completion says what [Complete] adds to the header of a message.
type Completion struct {
	// Hostname is the right-hand side of a Message-ID that is added. Use [Conn.Hostname] or the domain of the sender. What
	// is neither a domain name nor an address literal becomes "localhost".
	Hostname string
	// Sender is the mailbox of the user who submits the message. It is added in the field Sender, unless From names it and
	// no other (RFC 5322 section 3.6.2). The zero value adds nothing, and so does an address that is not ASCII or whose
	// domain is not fully qualified.
	Sender proto.Address
	// Completes reports whether a host without a dot, in lower case, such as "sales" in alice@sales, is one of yours that
	// will be completed; see ehlo.SubmissionPolicy. Nil refuses messages with such hosts in their headers.
	Completes func(name string) bool
}

// Complete returns a reader of the message in r, with the fields that its header lacks: Date and Message-ID (RFC 5322
// section 3.6), and Sender if add has one. A submission server does this for programs that leave them out (RFC 6409
// section 8). A relay must not do it (RFC 5321 section 6.4). In a session's Data:
//
//	r = server.Complete(r, server.Completion{Hostname: s.conn.Hostname()})
//
// The new fields, whose lines end with CRLF, come behind those that the message has. All else passes as it is, octet
// for octet. No From is added: a message without one passes without one. The header ends at an empty line, at the end
// of the message, or at a line that cannot belong to a header, as in other servers; in front of such a line an empty
// one is added too. The message is not stored, except for the value of From, up to 4 KiB, if add has a Sender.
//
// A server that alters a message has to check the domains in it (RFC 6409 section 4.2). The reader returns a
// *proto.Error with the code 554 if the domain of an address in the header is not fully qualified. It does so too if
// the header has an LF without CR, as binary content can have. It passes the errors of r on, and adds nothing to a
// message that breaks off.
func Complete(r io.Reader, add Completion) io.Reader {
	return &completer{r: bufio.NewReaderSize(r, completeBuffer), add: add, scan: domainScan{completes: add.Completes}}
}

// completeBuffer is how many octets are read at a time. It has room for the name of a field, and for the longest line
// that a message may have (RFC 5322 section 2.1.1).
const completeBuffer = 2048

// maxFrom is how much of a From field is kept. A longer one has more than one mailbox.
const maxFrom = 4096

// A completer is the reader that Complete returns.
type completer struct {
	r   *bufio.Reader
	add Completion
	out []byte // to be returned next; it may belong to r
	err error  // behind out

	// Where we are.
	headerOver bool
	within     bool // in a line that has begun
	cr         bool // the last octet was CR
	lines      int  // how many have begun

	// What the header has.
	hasDate, hasID, hasSender bool
	froms                     int    // how many From fields
	from                      []byte // the value of From, as it came

	// The field in hand.
	inFrom      bool
	inAddresses bool
	scan        domainScan // of its value, if inAddresses
}

func (c *completer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.out) == 0 {
		switch {
		case c.err != nil:
			return 0, c.err
		case c.headerOver:
			return c.r.Read(p)
		}
		c.next()
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// next reads a line of the header, or a part of a long one.
func (c *completer) next() {
	piece, err := c.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		err = nil
	}
	c.out, c.err = piece, err
	if err != nil && err != io.EOF {
		return
	}
	if len(piece) > 0 {
		c.line(piece)
	}
	if err == io.EOF && !c.headerOver {
		c.endMessage()
	}
}

// line deals with a line of the header, or a part of it.
func (c *completer) line(piece []byte) {
	crlf := bytes.HasSuffix(piece, []byte("\r\n")) || c.cr && len(piece) == 1 && piece[0] == '\n'
	if !crlf && piece[len(piece)-1] == '\n' {
		// Others might see fields behind it that we do not. In text it is refused in any case.
		c.headerOver, c.out, c.err = true, nil, errBare
		return
	}
	switch {
	case c.within, c.lines > 0 && (piece[0] == ' ' || piece[0] == '\t'):
		c.addValue(piece)
	default:
		name, value, ok := fieldName(piece)
		// Programs often leave a line of mbox in front of the fields.
		if ok || c.lines == 0 && bytes.HasPrefix(piece, []byte("From ")) {
			c.beginField(strings.ToLower(name))
			c.addValue(value)
		} else {
			c.endHeader(piece)
		}
		c.lines++
	}
	c.within, c.cr = !crlf, piece[len(piece)-1] == '\r'
}

// beginField begins with a field.
func (c *completer) beginField(name string) {
	c.endField()
	switch name {
	case "date":
		c.hasDate = true
	case "message-id":
		c.hasID = true
	case "sender":
		c.hasSender = true
	case "from":
		c.froms++
	}
	c.inFrom = name == "from" && !c.add.Sender.IsNull()
	if c.inAddresses = addressFields[name]; c.inAddresses {
		c.scan = domainScan{completes: c.add.Completes, name: c.scan.name[:0]}
	}
}

// addValue goes on with the value of the field in hand.
func (c *completer) addValue(piece []byte) {
	if c.inFrom && len(c.from) <= maxFrom {
		c.from = append(c.from, piece...)
	}
	if c.inAddresses && !c.headerOver {
		c.refuse(c.scan.scan(piece))
	}
}

// endField ends the field in hand, if there is one.
func (c *completer) endField() {
	if c.inAddresses {
		c.refuse(c.scan.end())
	}
	c.inFrom, c.inAddresses = false, false
}

// refuse ends the reader because of a domain; "" is none.
func (c *completer) refuse(domain string) {
	if domain == "" || c.headerOver {
		return
	}
	c.headerOver, c.out = true, nil
	c.err = proto.Refuse(554, proto.Status{5, 6, 0},
		"The domain "+domain+" in the header of the message is not fully qualified")
}

// endHeader ends the header in front of the line that begins with piece, and adds the fields there.
func (c *completer) endHeader(piece []byte) {
	if c.endField(); c.headerOver {
		return
	}
	c.headerOver = true
	fields := c.fields()
	if len(fields) == 0 {
		return
	}
	if string(piece) != "\r\n" {
		fields = append(fields, "\r\n"...)
	}
	c.out = append(fields, piece...)
}

// endMessage adds the fields to a message that ends with its header.
func (c *completer) endMessage() {
	if c.endField(); c.headerOver {
		return
	}
	c.headerOver = true
	fields := c.fields()
	if len(fields) == 0 {
		return
	}
	c.out = bytes.Clone(c.out)
	if c.within {
		c.out = append(c.out, "\r\n"...)
	}
	c.out = append(c.out, fields...)
}

// fieldName returns the name of the field that begins with line, and what follows the colon. The name is printable
// ASCII without a colon (RFC 5322 section 2.2). Old messages may have white space in front of the colon (RFC 5322
// section 4.5).
func fieldName(line []byte) (name string, value []byte, ok bool) {
	before, value, ok := bytes.Cut(line, []byte{':'})
	before = bytes.TrimRight(before, " \t")
	for _, b := range before {
		if b <= ' ' || b > '~' {
			return "", nil, false
		}
	}
	return string(before), value, ok && len(before) > 0
}

// fields returns the fields that the header lacks.
func (c *completer) fields() []byte {
	var b []byte
	if !c.hasDate {
		b = time.Now().AppendFormat(b, "Date: Mon, 02 Jan 2006 15:04:05 -0700\r\n")
	}
	if !c.hasID {
		b = append(b, "Message-ID: <"+strings.ToLower(rand.Text())+"@"+idHost(c.add.Hostname)+">\r\n"...)
	}
	if c.hasSender || c.add.Sender.IsNull() || c.fromIs(c.add.Sender) {
		return b
	}
	// Our own field has to pass the check that the others have to pass (RFC 6409 section 8.1).
	scan := domainScan{completes: c.add.Completes}
	path, err := c.add.Sender.AppendPath(nil, false)
	if err == nil && !c.add.Sender.Domain.IsZero() && scan.scan(path) == "" {
		b = append(append(append(b, "Sender: "...), path...), "\r\n"...)
	}
	return b
}

// idHost returns the right-hand side of a Message-ID: name, in ASCII, if it is a domain name or an address literal.
func idHost(name string) string {
	d, err := proto.ParseDomain(name)
	if err != nil {
		return "localhost"
	}
	return d.ASCII()
}

// fromIs reports whether a is the only mailbox in From.
func (c *completer) fromIs(a proto.Address) bool {
	if c.froms != 1 || len(c.from) > maxFrom {
		return false
	}
	list, err := mail.ParseAddressList(strings.TrimSpace(strings.ReplaceAll(string(c.from), "\r\n", "")))
	if err != nil || len(list) != 1 {
		return false
	}
	path := (&mail.Address{Address: list[0].Address}).String() // which quotes what has to be quoted
	from, err := proto.ParseAddress(strings.Trim(path, "<>"))
	return err == nil && from.Equal(a)
}

// addressFields are the fields whose values are addresses (RFC 5322 sections 3.6.2, 3.6.3 and 3.6.6).
var addressFields = map[string]bool{
	"from": true, "sender": true, "reply-to": true, "to": true, "cc": true, "bcc": true,
	"resent-from": true, "resent-sender": true, "resent-reply-to": true,
	"resent-to": true, "resent-cc": true, "resent-bcc": true,
}

// A domainScan finds domains that are not fully qualified in the value of such a field, piece by piece. It keeps
// nothing but the beginning of a domain, and ignores what is malformed.
type domainScan struct {
	completes func(name string) bool

	quoted, literal bool   // within "…" or […]
	comments        int    // how many are open
	escaped         bool   // behind a backslash in one of these
	domain          bool   // behind an "@"
	name            []byte // of the domain, its beginning
	dotted          bool   // the domain has a dot
	gap             bool   // there was white space or a comment behind the name
	bad             string // a domain to be reported, unless it turns out to be part of a display name
}

// maxShown is how many octets of a domain are kept.
const maxShown = 64

// scan scans a piece. It returns a domain that is not fully qualified, or "".
func (s *domainScan) scan(piece []byte) string {
	for _, b := range piece {
		switch {
		case s.escaped:
			s.escaped = false
		case b == '\\' && (s.quoted || s.literal || s.comments > 0):
			s.escaped = true
		case s.quoted:
			s.quoted = b != '"'
		case s.literal:
			s.literal = b != ']'
		case s.comments > 0 && b == ')':
			s.comments--
		case b == '(':
			s.comments++
			s.gap = true
		case s.comments > 0:
		default:
			if bad := s.next(b); bad != "" {
				return bad
			}
		}
	}
	return ""
}

// next scans an octet that is not quoted, nor in a literal or a comment.
func (s *domainScan) next(b byte) string {
	switch b {
	case ' ', '\t', '\r', '\n':
		s.gap = true
	case '"':
		s.finish()
		s.quoted = true
	case '[':
		s.domain, s.literal = false, true
	case '@':
		s.finish()
		s.domain, s.dotted, s.gap, s.name = true, false, false, s.name[:0]
	case '<':
		s.finish()
		s.bad = "" // it was in a display name, which often has an "@" although it must not
	case '>', ',', ';', ':':
		return s.end()
	case '.':
		s.dotted = true
	default:
		// White space ends a domain. In old messages it may surround dots (RFC 5322 section 4.4), and such a domain has dots.
		if s.gap && len(s.name) > 0 {
			s.finish()
		}
		if s.gap = false; s.domain && len(s.name) < maxShown {
			s.name = append(s.name, b)
		}
	}
	return ""
}

// finish ends what may have been a domain.
func (s *domainScan) finish() {
	if s.domain && len(s.name) > 0 && !s.dotted && s.bad == "" {
		s.bad = string(s.name)
	}
	s.domain = false
}

// end ends an address, or the field. It returns a domain that is not fully qualified, or "".
func (s *domainScan) end() string {
	s.finish()
	bad := s.bad
	s.bad = ""
	if s.completes != nil && s.completes(strings.ToLower(bad)) {
		return ""
	}
	return bad
}
