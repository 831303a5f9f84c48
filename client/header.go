package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"slices"
	"strings"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// maxHeader is how long a header may be that ReadMessage reads.
const maxHeader = 1 << 20

// ReadMessage makes a message of one that r has, by the addresses in its header. It is for programs such as sendmail
// -t, which are given a message and no envelope. Where there is an envelope, use [NewMessage].
//
// From is the address in Sender, or that in From if there is no Sender. To are those in To, Cc and Bcc, each mailbox
// once; the members of a group are among them. If the message has been resent, the fields of the last resending count
// in place of these: Resent-Sender, Resent-From, Resent-To, Resent-Cc and Resent-Bcc of the first block of Resent-
// fields. A block ends where another field begins, or where a Resent- field appears the second time (RFC 5322 section
// 3.6.6).
//
// Body is the message without the fields Bcc and Resent-Bcc, whose recipients nobody is to know (RFC 5322 section
// 3.6.3, RFC 5321 section 7.2). The rest is sent octet for octet, as Message.Body says. If r can be read again, so can
// Body: if it is an io.Seeker, which counts from where it stands, a *bytes.Buffer, or what [WriterBody] or [OpenBody]
// returns. Builders of messages leave Bcc out: use NewMessage for those. Only the header is held in memory. It may have
// 1 MiB at most. Needs has ext.UTF8 if the header is in UTF-8 beyond ASCII.
//
// The error is a [MessageError], which names the field: an address that is malformed or has no domain, no sender or
// more than one, no recipients, or a line that is no header field. The first line must not be the "From " line of a
// mailbox file. To send with another sender, such as the user's of sendmail -f, set From afterwards.
func ReadMessage(r io.Reader) (*Message, error) {
	if b, ok := r.(*bytes.Buffer); ok && b != nil {
		r = &bufferReader{buffer: b}
	}
	if r == nil {
		r = nothing{}
	}
	o := originOf(r)
	body, again := r, o.opener()
	if again != nil {
		opened, err := again()
		if err != nil {
			return nil, &MessageError{What: "reading the message", Err: err}
		}
		defer opened.Close()
		body = opened
	}
	h, rest, err := readHeader(body)
	if err != nil {
		return nil, err
	}
	m, err := h.message()
	if err != nil {
		return nil, err
	}
	switch {
	case again == nil:
		m.Body = io.MultiReader(bytes.NewReader(h.withoutBcc()), rest)
	case !slices.ContainsFunc(h.fields, (*field).isBcc):
		m.Body = r
		if o.seeker != nil {
			_, err = o.seeker.Seek(o.start, io.SeekStart)
		}
	default:
		m.Body = &source{
			open:    func() (io.ReadCloser, error) { return withoutBcc(again) },
			several: o.source != nil && o.source.several,
		}
	}
	if err != nil {
		return nil, &MessageError{What: "reading the message", Err: err}
	}
	return m, nil
}

// opener returns a function that begins to read at the origin, or nil if there is none.
func (o *origin) opener() func() (io.ReadCloser, error) {
	switch s, start := o.seeker, o.start; {
	case o.source != nil:
		source := o.source
		return func() (io.ReadCloser, error) {
			r, err := source.begin()
			if err != nil {
				return nil, err
			}
			return r, nil
		}
	case s != nil:
		return func() (io.ReadCloser, error) {
			_, err := s.Seek(start, io.SeekStart)
			return io.NopCloser(s.(io.Reader)), err
		}
	}
	return nil
}

// withoutBcc opens a message and returns it without the fields that nobody is to see.
func withoutBcc(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	h, rest, err := readHeader(r)
	if err != nil {
		r.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(h.withoutBcc()), rest), r}, nil
}

// A header is the header of a message.
type header struct {
	raw    []byte // with the empty line behind it, if there is one
	fields []*field
}

// A field is a field of a header.
type field struct {
	name  string // as it is written
	key   string // in lower case
	start int    // where the field begins
	text  int    // where its body begins, behind the colon
	end   int    // where the next field begins
}

func (f *field) isBcc() bool    { return f.key == "bcc" || f.key == "resent-bcc" }
func (f *field) isResent() bool { return strings.HasPrefix(f.key, "resent-") }

// readHeader reads the header of a message. Rest has what follows it.
func readHeader(r io.Reader) (h *header, rest io.Reader, err error) {
	h = new(header)
	buf := make([]byte, 0, 4<<10)
	for pos, eof, idle := 0, false, 0; ; {
		text, next := cutLine(buf[pos:], eof)
		switch {
		case next > 0 && len(text) == 0:
			pos += next
			h.raw = buf[:pos:pos]
			return h, io.MultiReader(bytes.NewReader(buf[pos:]), r), nil
		case next > 0:
			if err := h.add(text, pos, pos+next); err != nil {
				return nil, nil, err
			}
			if pos += next; pos > maxHeader {
				return nil, nil, errLongHeader
			}
			continue
		case eof:
			h.raw = buf
			return h, bytes.NewReader(nil), nil
		case len(buf) > maxHeader:
			return nil, nil, errLongHeader
		}
		buf = slices.Grow(buf, len(buf)+1)
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if idle++; n > 0 {
			idle = 0
		}
		switch {
		case err == io.EOF:
			eof = true
		case err != nil:
			return nil, nil, &MessageError{What: "reading the message", Err: err}
		case idle == 100:
			return nil, nil, &MessageError{What: "reading the message", Err: io.ErrNoProgress}
		}
	}
}

var errLongHeader = &MessageError{What: "the header", Err: fmt.Errorf("it has more than %d octets: write an empty line "+
	"between the header and the text", maxHeader)}

// cutLine returns the first line of p without its end, and where the next one begins: 0 if p does not have all of the
// line. A CR or LF alone ends a line too, since it is sent as CRLF.
func cutLine(p []byte, eof bool) (text []byte, next int) {
	i := bytes.IndexAny(p, "\r\n")
	switch {
	case i < 0 && eof:
		return p, len(p)
	case i < 0 || p[i] == '\r' && i+1 == len(p) && !eof:
		return nil, 0
	case p[i] == '\r' && i+1 < len(p) && p[i+1] == '\n':
		return p[:i], i + 2
	}
	return p[:i], i + 1
}

// add adds a line to the header, which has the octets from start to end.
func (h *header) add(text []byte, start, end int) error {
	if n := len(h.fields); n > 0 && (text[0] == ' ' || text[0] == '\t') {
		h.fields[n-1].end = end
		return nil
	}
	before, _, ok := bytes.Cut(text, []byte(":"))
	name := string(bytes.TrimRight(before, " \t")) // the obsolete syntax permits them (RFC 5322 section 4.5)
	if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < '!' || r > '~' }) {
		return &MessageError{
			What: fmt.Sprintf("the line %.60q in the header", text),
			Err: errors.New("it is no header field: write an empty line between the header and the text, and no line of a " +
				"mailbox file in front of them"),
		}
	}
	h.fields = append(h.fields, &field{
		name: name, key: strings.ToLower(name), start: start, text: start + len(before) + len(":"), end: end,
	})
	return nil
}

// withoutBcc returns the header without the fields that nobody is to see.
func (h *header) withoutBcc() []byte {
	kept := make([]byte, 0, len(h.raw))
	from := 0
	for _, f := range h.fields {
		if f.isBcc() {
			kept = append(kept, h.raw[from:f.start]...)
			from = f.end
		}
	}
	return append(kept, h.raw[from:]...)
}

// block returns the fields that tell of the last time that the message was sent, and the beginning of their names.
func (h *header) block() (fields []*field, prefix string) {
	first := slices.IndexFunc(h.fields, (*field).isResent)
	if first < 0 {
		return h.fields, ""
	}
	seen := make(map[string]bool)
	for i, f := range h.fields[first:] {
		if !f.isResent() || seen[f.key] {
			return h.fields[first : first+i], "Resent-"
		}
		seen[f.key] = true
	}
	return h.fields[first:], "Resent-"
}

// message returns a message with the sender and the recipients that the header names.
func (h *header) message() (*Message, error) {
	fields, prefix := h.block()
	found := make(map[string][]proto.Address)
	var to []proto.Recipient
	known := make(map[string]bool)
	for _, f := range fields {
		role := strings.TrimPrefix(f.key, strings.ToLower(prefix))
		switch role {
		case "sender", "from", "to", "cc", "bcc":
		default:
			continue
		}
		list, err := h.addresses(f)
		if err != nil {
			return nil, err
		}
		found[role] = append(found[role], list...)
		for _, a := range list {
			if role != "sender" && role != "from" && !known[a.Key()] {
				known[a.Key()] = true
				to = append(to, proto.Recipient{Address: a})
			}
		}
	}
	m := &Message{To: to}
	switch sender, from := found["sender"], found["from"]; {
	case len(sender) == 1:
		m.From = sender[0]
	case len(sender) > 1:
		return nil, fieldError(prefix+"Sender", "", "it has several addresses: leave one, the sender's")
	case len(from) == 1:
		m.From = from[0]
	case len(from) > 1:
		return nil, fieldError(prefix+"From", "", "it has several addresses: add the field "+prefix+"Sender with one of them")
	default:
		return nil, fieldError(prefix+"From", "", "it has no address, or is missing: add it, with the address of the sender")
	}
	if len(to) == 0 {
		return nil, fieldError(prefix+"To", "", "there are no addresses in it, nor in "+prefix+"Cc or "+prefix+
			"Bcc: add a recipient")
	}
	if kept := h.withoutBcc(); has8bit(kept) && utf8.Valid(kept) {
		m.Needs = ext.UTF8
	}
	return m, nil
}

// names are not looked at, so their character sets do not matter.
var names = mail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil },
}}

// addresses returns the mailboxes in a field.
func (h *header) addresses(f *field) ([]proto.Address, error) {
	unfolded := strings.NewReplacer("\r", "", "\n", "").Replace(string(h.raw[f.text:f.end]))
	text := uncomment(unfolded)
	if strings.Trim(text, " \t") == "" {
		return nil, nil
	}
	list, err := names.ParseList(text)
	if err != nil {
		return nil, fieldError(f.name, unfolded, strings.TrimPrefix(err.Error(), "mail: ")+
			": write addresses as alice@example.org, or as Alice <alice@example.org>, with a comma between them")
	}
	all := make([]proto.Address, len(list))
	for i, a := range list {
		at := strings.LastIndexByte(a.Address, '@')
		domain, err := proto.ParseDomain(a.Address[at+1:])
		if err == nil {
			// The local part comes without its quotes.
			all[i], err = proto.ParseAddress(proto.Address{Local: a.Address[:max(at, 0)], Domain: domain}.String())
		}
		if err != nil {
			return nil, &MessageError{What: fmt.Sprintf("the address %q in the field %s", a.Address, f.name), Err: err}
		}
	}
	return all, nil
}

func fieldError(name, value, what string) error {
	where := "the field " + name
	if value != "" {
		where += fmt.Sprintf(", %.100q", strings.TrimSpace(value))
	}
	return &MessageError{What: where, Err: errors.New(what)}
}

// uncomment returns s with a space in place of each comment, which net/mail does not take everywhere. Nor does it take
// a space in front of @ or >.
func uncomment(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	kept := make([]byte, 0, len(s))
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && (quoted || depth > 0):
			if i++; depth == 0 {
				kept = append(kept, c, s[i])
			}
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
		case c == ')' && depth > 0:
			if depth--; depth == 0 {
				kept = append(kept, ' ')
			}
			continue
		case (c == '@' || c == '>') && depth == 0 && !quoted:
			kept = bytes.TrimRight(kept, " \t")
		}
		if depth == 0 {
			kept = append(kept, c)
		}
	}
	if depth > 0 {
		return s // for net/mail to say so
	}
	return string(kept)
}
