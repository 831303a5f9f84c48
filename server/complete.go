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

// A Completion is what [Complete] adds to headers.
type Completion struct {
	// Hostname stands behind the "@" of a Message-ID. It should be [Conn.Hostname] or the domain of the sender; what is
	// neither a domain name nor an address literal becomes "localhost".
	Hostname string
	// Sender is who has submitted the message, in the field Sender, which is added if From does not name this mailbox
	// and no other (RFC 5322 section 3.6.2). The zero value adds none, and so does an address that is not ASCII
	// or whose domain is not fully qualified.
	Sender proto.Address
	// Completes reports whether the session completes the single-level domain name, in lower case, in the fields of the
	// header as in the envelope; see ehlo.SubmissionPolicy. Nil: messages with single-level domains are refused.
	Completes func(name string) bool
}

// Complete returns a reader of the message that r returns, with what its header lacks: Date and Message-ID, which
// every message has or should have (RFC 5322 section 3.6), and Sender if it is asked for. A submission server does so
// for programs that leave them out (RFC 6409 section 8); a relay must not (RFC 5321 section 6.4). In a session's
// Data:
//
//	r = server.Complete(r, server.Completion{Hostname: s.conn.Hostname()})
//
// The fields are added behind those that the message has. Everything else passes octet for octet as it comes, and no
// field is changed or moved. Nothing of it is stored but the value of From, up to 4 KiB, if there may be a Sender. Lines
// end with CRLF. The header ends at an empty line, at the end of the message, or, as in other servers, at a line that
// cannot belong to a header; if something is added there, an empty line is too.
//
// A server that alters a message has to see to the domains in it (RFC 6409 section 4.2). If that of an address in the
// header is not fully qualified, the reader returns a *proto.Error with code 554, and so it does for a header with an LF without
// CR, as binary content can have. The errors of r are passed on, and nothing is added to a message that breaks off.
func Complete(r io.Reader, add Completion) io.Reader {
	return &completer{r: bufio.NewReaderSize(r, completeBuffer), add: add, scan: domainScan{completes: add.Completes}}
}

// completeBuffer is how much is read at a time. It has to hold the name of a field, and is longer than any line may be
// (RFC 5322 section 2.1.1).
const completeBuffer = 2048

// longestFrom is how much of a From field is kept. One that is longer has more mailboxes than one.
const longestFrom = 4096

// A completer is the reader that Complete returns.
type completer struct {
	r   *bufio.Reader
	add Completion
	out []byte // to be returned next; it may belong to r
	err error  // behind out

	past   bool // the header is over
	within bool // what comes next belongs to a line that has begun
	cr     bool // the last octet was CR
	lines  int  // that have begun

	hasDate, hasID, hasSender bool
	froms                     int
	inFrom                    bool
	from                      []byte // the value of the From field, as it came
	inAddresses               bool
	scan                      domainScan // of the field, if it is one of addresses
}

func (c *completer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.out) == 0 {
		switch {
		case c.err != nil:
			return 0, c.err
		case c.past:
			return c.r.Read(p)
		}
		c.next()
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// next reads a line of the header, or a part of one that is long.
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
		c.take(piece)
	}
	if err == io.EOF && !c.past {
		c.atEOF()
	}
}

func (c *completer) take(piece []byte) {
	crlf := bytes.HasSuffix(piece, []byte("\r\n")) || c.cr && len(piece) == 1 && piece[0] == '\n'
	if !crlf && piece[len(piece)-1] == '\n' {
		// Fields behind it might be seen by others, and not here. In text it is refused in any case.
		c.past, c.out, c.err = true, nil, errBare
		return
	}
	switch {
	case c.within, c.lines > 0 && (piece[0] == ' ' || piece[0] == '\t'):
		c.value(piece)
	default:
		name, value, ok := fieldName(piece)
		// A line of mbox, which is no field, is often left before those that are.
		if ok || c.lines == 0 && bytes.HasPrefix(piece, []byte("From ")) {
			c.begin(strings.ToLower(name))
			c.value(value)
		} else {
			c.atEnd(piece)
		}
		c.lines++
	}
	c.within, c.cr = !crlf, piece[len(piece)-1] == '\r'
}

// begin takes note of a field.
func (c *completer) begin(name string) {
	c.finishField()
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

// value goes on with the value of the field.
func (c *completer) value(piece []byte) {
	if c.inFrom && len(c.from) <= longestFrom {
		c.from = append(c.from, piece...)
	}
	if c.inAddresses && !c.past {
		c.refuse(c.scan.scan(piece))
	}
}

// finishField is called behind a field.
func (c *completer) finishField() {
	if c.inAddresses {
		c.refuse(c.scan.end())
	}
	c.inFrom, c.inAddresses = false, false
}

// refuse ends the reader because of a domain, unless there is none.
func (c *completer) refuse(domain string) {
	if domain == "" || c.past {
		return
	}
	c.past, c.out = true, nil
	c.err = proto.Refuse(554, proto.Status{5, 6, 0}, "The domain "+domain+" in the header of the message is not fully qualified")
}

// atEnd is called when the header is over with the line that begins with piece. It adds the fields before that.
func (c *completer) atEnd(piece []byte) {
	if c.finishField(); c.past {
		return
	}
	c.past = true
	fields := c.fields()
	if len(fields) == 0 {
		return
	}
	if string(piece) != "\r\n" {
		fields = append(fields, "\r\n"...)
	}
	c.out = append(fields, piece...)
}

// atEOF adds the fields to a message that is over with its header.
func (c *completer) atEOF() {
	if c.finishField(); c.past {
		return
	}
	c.past = true
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

// fieldName returns the name of the field that begins with line, of printable ASCII without a colon (RFC 5322 section
// 2.2), and what follows it. There may be white space before the colon in what is old (RFC 5322 section 4.5).
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

// fields returns those that the header lacks.
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
	// What is put there has to be as good as what is asked of the rest (RFC 6409 section 8.1).
	scan := domainScan{completes: c.add.Completes}
	path, err := c.add.Sender.AppendPath(nil, false)
	if err == nil && !c.add.Sender.Domain.IsZero() && scan.scan(path) == "" {
		b = append(append(append(b, "Sender: "...), path...), "\r\n"...)
	}
	return b
}

// idHost returns what can stand behind the "@" of a Message-ID: name, in ASCII, if it is a domain name or an address
// literal.
func idHost(name string) string {
	d, err := proto.ParseDomain(name)
	if err != nil {
		return "localhost"
	}
	return d.ASCII()
}

// fromIs reports whether the message is from a alone.
func (c *completer) fromIs(a proto.Address) bool {
	if c.froms != 1 || len(c.from) > longestFrom {
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
	"resent-from": true, "resent-sender": true, "resent-to": true, "resent-cc": true, "resent-bcc": true, "resent-reply-to": true,
}

// A domainScan finds domains that are not fully qualified in the value of such a field, which it is given in pieces. It keeps
// no more of it than the beginning of a domain. What is malformed is nothing to it.
type domainScan struct {
	completes func(name string) bool

	quoted, literal bool // within "…" or […]
	comments        int  // that are open
	escaped         bool // behind a backslash in one of these
	domain          bool // behind an "@"
	name            []byte
	dotted          bool
	gap             bool   // white space or a comment has come behind the name
	bad             string // the domain to be told, unless it turns out to be part of a name that is displayed
}

// longestShown is how much of a domain is kept.
const longestShown = 64

// scan goes on with piece. It returns a domain that is not fully qualified, or "".
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

// next goes on with an octet that is in none of what has marks at both ends.
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
		s.bad = "" // it was in a name, which must not have an "@" in it and often has
	case '>', ',', ';', ':':
		return s.end()
	case '.':
		s.dotted = true
	default:
		// White space ends a domain, except around the dots of what is old (RFC 5322 section 4.4). That has dots then.
		if s.gap && len(s.name) > 0 {
			s.finish()
		}
		if s.gap = false; s.domain && len(s.name) < longestShown {
			s.name = append(s.name, b)
		}
	}
	return ""
}

// finish is called behind what may have been a domain.
func (s *domainScan) finish() {
	if s.domain && len(s.name) > 0 && !s.dotted && s.bad == "" {
		s.bad = string(s.name)
	}
	s.domain = false
}

// end is called behind each address and at the end of the field.
func (s *domainScan) end() string {
	s.finish()
	bad := s.bad
	s.bad = ""
	if s.completes != nil && s.completes(strings.ToLower(bad)) {
		return ""
	}
	return bad
}
