package report

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"mime"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// Relax drops a parameter that the next server does not support, if the notification may be sent without it. These are
// the priority, and REQUIRETLS, with which the notification would be lost (RFC 8689 section 5). Err is the error of
// the attempt to send it. Relax reports whether it has changed Mail, so that you can send the notification again. Do
// not call it for messages whose existence is a secret.
func (n *Notification) Relax(err error) bool {
	var need *ext.UnsupportedError
	if !errors.As(err, &need) || need.Keyword != "REQUIRETLS" && need.Keyword != "MT-PRIORITY" {
		return false
	}
	before := len(n.Mail)
	n.Mail = slices.DeleteFunc(slices.Clone(n.Mail), func(p proto.Param) bool { return strings.EqualFold(p.Key, need.Keyword) })
	return len(n.Mail) < before
}

// status returns the part for programs to read.
func (c *composer) status() part {
	full := fieldWriter{utf8: true}
	full.report(&c.r)
	plain := fieldWriter{}
	plain.report(&c.r)
	switch {
	case ascii(full.dst) || !plain.lost && c.opt.Carries&ext.UTF8 == 0:
		return part{kind: "message/delivery-status", content: plain.dst}
	case c.opt.Carries&ext.UTF8 != 0:
		return part{kind: "message/global-delivery-status", encoding: "8bit", needs: ext.UTF8 | ext.EightBit, content: full.dst}
	}
	return part{kind: "message/global-delivery-status", encoding: "quoted-printable", content: quoted(full.dst)}
}

// text returns the part for people to read.
func (c *composer) text() part {
	text := strings.ReplaceAll(c.opt.Text(&c.r), "\r\n", "\n")
	var b []byte
	long := false
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		line = strings.TrimRight(strings.Map(visible, line), " ")
		long = long || len(line) > maxLine
		b = append(append(b, line...), "\r\n"...)
	}
	if ascii(b) && !long {
		return part{kind: "text/plain; charset=us-ascii", content: b}
	}
	return part{kind: "text/plain; charset=utf-8", encoding: "quoted-printable", content: quoted(b)}
}

// notification joins parts.
func (c *composer) notification(boundary string, parts []part) *Notification {
	n := &Notification{To: []proto.Recipient{{Address: c.m.From}}, Needs: c.needs}
	if ehlo.ReadRequireTLS(c.m.Mail) {
		n.Mail = ehlo.AddRequireTLS(n.Mail)
	}
	if priority, ok := ehlo.ReadPriority(c.m.Mail); ok {
		n.Mail = priority.AddTo(n.Mail)
	}
	for _, p := range parts {
		n.Needs |= p.needs
	}
	w := &fieldWriter{dst: c.header(boundary, n.Needs&ext.EightBit != 0), utf8: true}
	var stream func(io.Reader) io.Reader
	for _, p := range parts {
		w.dst = append(w.dst, "\r\n--"+boundary+"\r\n"...)
		w.field("Content-Type", p.kind)
		w.field("Content-Transfer-Encoding", p.encoding)
		w.blank()
		w.dst = append(w.dst, p.content...)
		stream = p.stream
	}
	body := &body{head: w.dst, tail: []byte("\r\n--" + boundary + "--\r\n")}
	if stream != nil {
		body.middle = func() io.Reader { return stream(io.NewSectionReader(c.m.Content, 0, c.size)) }
	}
	n.Body = body
	return n
}

// header returns the header of a notification, without the empty line that ends it.
func (c *composer) header(boundary string, eight bool) []byte {
	w := fieldWriter{utf8: c.needs&ext.UTF8 != 0}
	w.field("From", "Mail Delivery System "+string(c.from))
	w.field("To", string(c.to))
	subject, _ := clean(c.opt.Subject(&c.r), true)
	if subject == "" {
		subject = DefaultSubject(&c.r)
	}
	w.field("Subject", mime.QEncoding.Encode("utf-8", subject))
	w.date("Date", c.opt.Date)
	w.field("Message-ID", "<"+rand.Text()+"@"+c.host.ASCII()+">")
	w.field("Auto-Submitted", "auto-replied") // RFC 3834 section 5
	w.field("MIME-Version", "1.0")
	w.field("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`)
	if eight {
		w.field("Content-Transfer-Encoding", "8bit") // RFC 2045 section 6.4: as the parts have it
	}
	return w.dst
}

// A body reads the content of a notification: head, what middle returns, and tail.
type body struct {
	head, tail []byte
	middle     func() io.Reader // or nil
	r          io.Reader        // all three, nil at the beginning
	pos        int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.r == nil {
		middle := io.Reader(bytes.NewReader(nil))
		if b.middle != nil {
			middle = b.middle()
		}
		b.r = io.MultiReader(bytes.NewReader(b.head), middle, bytes.NewReader(b.tail))
	}
	n, err := b.r.Read(p)
	b.pos += int64(n)
	return n, err
}

var errSeek = errors.New("smtp: the body of a notification can be sought only to its beginning")

// Seek goes to the beginning, or returns the position.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch {
	case whence == io.SeekCurrent && offset == 0 || whence == io.SeekStart && offset == b.pos:
	case whence == io.SeekStart && offset == 0:
		b.r, b.pos = nil, 0
	default:
		return 0, errSeek
	}
	return b.pos, nil
}
