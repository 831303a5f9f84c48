package report

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"
)

// ErrNotReport is wrapped by the error of [Parse] for a message that is no delivery status notification, or that names
// no recipient.
var ErrNotReport = errors.New("smtp: not a delivery status notification")

// A Received is a notification that [Parse] has read.
type Received struct {
	Report
	// Header is the header of the notification.
	Header mail.Header
	// Text is the first part for people to read, at most 64 KiB of it.
	Text string
	// Original is the header of the message that the report is on, at most 64 KiB of it. It is nil if nothing was
	// returned. Find your message by EnvelopeID, or by its Message-ID or another field of yours here.
	Original mail.Header
}

// Limits of what Parse reads of a notification. A notification has three parts, but some mail systems wrap them in
// others.
const (
	maxNotification = 32 << 20 // octets behind the header, to the end of the header of the returned message
	maxStatus       = 1 << 20  // octets of the part for programs
	maxText         = 64 << 10 // octets of the part for people
	maxType         = 4 << 10  // octets of a Content-Type; a boundary has at most 70 (RFC 2046 section 5.1.1)
	maxParts        = 20
	maxDepth        = 4 // of multiparts in multiparts
)

// Parse reads a notification from any mail system. It looks for the part of the type message/delivery-status or
// message/global-delivery-status (RFC 6533 section 4.4), at any place.
//
// Parse tolerates groups that are split or joined, addresses in angle brackets, malformed dates and the like, and
// ignores what it cannot read. Texts are UTF-8 without control characters, except line endings in Text. Header is as it
// came.
//
// Anybody can send a forged notification (see ehlo.NewEnvID) or one that is made to be hard to read. So the time that
// Parse takes is at most proportional to what it reads, and there are limits. It reads 64 KiB of the header, 32 MiB of
// the rest, 20 parts, four levels of parts, and 1 MiB of the report. Parse ignores parts with a header of more than 64
// KiB or a Content-Type of more than 4 KiB.
//
// The error is one of r, or wraps [ErrNotReport].
func Parse(r io.Reader) (*Received, error) {
	in := &source{r: io.LimitedReader{R: r, N: maxHeader}}
	p := parser{in: in, got: new(Received)}
	err := p.message(bufio.NewReader(in))
	switch {
	case in.err != nil:
		return nil, in.err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNotReport, err)
	case !p.found:
		return nil, fmt.Errorf("%w: it has no part message/delivery-status", ErrNotReport)
	case len(p.got.Recipients) == 0:
		return nil, fmt.Errorf("%w: it names no recipient", ErrNotReport)
	}
	return p.got, nil
}

// A source records the error of a reader, so that it can be told from errors in the content.
type source struct {
	r   io.LimitedReader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// A parser reads the parts of a message.
type parser struct {
	in    *source
	got   *Received
	found bool // the report has been found
	parts int  // how many parts were read
}

func (p *parser) message(r *bufio.Reader) error {
	if line, err := r.Peek(len("From ")); err == nil && string(line) == "From " {
		if _, err := r.ReadString('\n'); err != nil { // a mailbox file has this line before a message
			return err
		}
	}
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	p.in.r.N = maxNotification
	p.got.Header = m.Header
	kind, params := contentType(m.Header.Get("Content-Type"))
	if !strings.HasPrefix(kind, "multipart/") {
		return fmt.Errorf("its type is %.80q", kind)
	}
	p.multipart(m.Body, params["boundary"], 1)
	return nil
}

var bareBoundary = regexp.MustCompile(`(?i)boundary\s*=\s*"?([^";\s]+)`)

// contentType parses a Content-Type. It finds the boundary in a malformed one too. It does not parse one that is too
// long.
func contentType(s string) (kind string, params map[string]string) {
	if len(s) > maxType {
		return unreadable, nil
	}
	kind, params, err := mime.ParseMediaType(s)
	if err != nil && params == nil {
		params = make(map[string]string)
		if m := bareBoundary.FindStringSubmatch(s); m != nil {
			params["boundary"] = m[1]
		}
		if kind == "" {
			kind, _, _ = strings.Cut(s, ";")
			kind = strings.ToLower(strings.TrimSpace(kind))
		}
	}
	return kind, params
}

// multipart reads parts until the last one, until one that is malformed, or until p is done.
func (p *parser) multipart(r io.Reader, boundary string, depth int) {
	if boundary == "" || depth > maxDepth {
		return
	}
	mr := multipart.NewReader(r, boundary)
	for !p.done() {
		part, err := mr.NextRawPart()
		if err != nil {
			return
		}
		p.parts++
		p.part(part, depth)
	}
}

// done reports whether p has found everything, or has read as many parts as it may.
func (p *parser) done() bool { return p.parts >= maxParts || p.found && p.got.Original != nil }

// unreadable stands for a Content-Type that is too long. It is not a valid one.
const unreadable = "too long"

// headerSize returns the approximate size of h in octets.
func headerSize(h textproto.MIMEHeader) int {
	n := 0
	for key, values := range h {
		for _, value := range values {
			n += len(key) + len(": ") + len(value) + len("\r\n")
		}
	}
	return n
}

func (p *parser) part(part *multipart.Part, depth int) {
	if headerSize(part.Header) > maxHeader {
		return
	}
	kind, params := contentType(part.Header.Get("Content-Type"))
	r := decoded(part)
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		p.multipart(part, params["boundary"], depth+1)
	case kind == "message/delivery-status" || kind == "message/global-delivery-status":
		if !p.found {
			p.found = true
			readReport(&p.got.Report, groups(io.LimitReader(r, maxStatus)))
		}
	case kind == "text/rfc822-headers" || kind == "message/global-headers" || kind == "message/rfc822" || kind == "message/global":
		p.got.Original = readHeader(io.LimitReader(r, maxHeader))
	case (kind == "text/plain" || kind == "") && !p.found && p.got.Text == "":
		text, _ := io.ReadAll(io.LimitReader(r, maxText)) // what was read before an error is good enough
		p.got.Text = lines(string(text))
	}
}

// decoded returns the content of part without its encoding.
func decoded(part *multipart.Part) io.Reader {
	switch strings.ToLower(strings.TrimSpace(part.Header.Get("Content-Transfer-Encoding"))) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, part)
	case "quoted-printable":
		return quotedprintable.NewReader(part)
	}
	return part
}

// lines returns text with LF for line endings, and without other characters that are not printable.
func lines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		end := ""
		if strings.HasSuffix(line, "\n") {
			end = "\n"
		}
		b.WriteString(strings.TrimRight(strings.Map(visible, strings.TrimSuffix(line, "\n")), " ") + end)
	}
	return b.String()
}

// readHeader reads the header at the beginning of r.
func readHeader(r io.Reader) mail.Header {
	h := make(mail.Header)
	all := groups(r)
	if len(all) == 0 {
		return h
	}
	for _, f := range all[0] {
		key := textproto.CanonicalMIMEHeaderKey(f.Name)
		h[key] = append(h[key], f.Value)
	}
	return h
}
