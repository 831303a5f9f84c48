package servertest

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"time"

	"smtpkit.example/smtp/proto"
)

// A Message is a message that the server has accepted. It is not changed any more, and must not be modified.
type Message struct {
	From   proto.Address     // the reverse-path; zero for <>
	Params proto.Params      // of MAIL
	To     []proto.Recipient // those for whom it was accepted, with the parameters of RCPT

	// Raw has the octets of the content as the client sent them, without the dots that SMTP adds for transparency. If
	// there is an Options.Backend that has not read the content to its end, Raw has what it has read.
	Raw []byte
	// Header is the header as net/mail parses it. Err is the error if it cannot, and Header is empty then.
	Header mail.Header
	Err    error

	// How it came.
	Conn       string               // server.Conn.ID of the connection
	RemoteAddr net.Addr             // of the client
	Hello      string               // the argument of its EHLO, HELO or LHLO
	With       string               // the protocol in the words of the Received field, such as ESMTPSA
	TLS        *tls.ConnectionState // nil in plaintext
	Identity   string               // who has authenticated; "" if nobody has
	Time       time.Time            // when it was accepted
}

// parse fills in Header and Err.
func (m *Message) parse() {
	parsed, err := mail.ReadMessage(bytes.NewReader(m.Raw))
	if err != nil {
		m.Header, m.Err = mail.Header{}, err
		return
	}
	m.Header = parsed.Header
}

// Subject returns the subject, decoded. If it is malformed, Subject returns it as it is.
func (m *Message) Subject() string {
	raw := m.Header.Get("Subject")
	if s, err := new(mime.WordDecoder).DecodeHeader(raw); err == nil {
		return s
	}
	return raw
}

// Text returns the first part of type text/plain, decoded, with LF at the ends of lines. It returns "" if there is
// none. Of the charset UTF-8 and ISO-8859-1 are known; others are returned as they are.
func (m *Message) Text() string { return m.part("text/plain") }

// HTML returns the first part of type text/html, as Text does.
func (m *Message) HTML() string { return m.part("text/html") }

func (m *Message) part(kind string) string {
	parsed, err := mail.ReadMessage(bytes.NewReader(m.Raw))
	if err != nil {
		return ""
	}
	text, _ := findPart(textproto.MIMEHeader(parsed.Header), parsed.Body, kind, maxDepth)
	return text
}

// maxDepth is how deep parts may lie in parts.
const maxDepth = 10

// findPart looks for a part of the type want.
func findPart(h textproto.MIMEHeader, body io.Reader, want string, depth int) (string, bool) {
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil && kind == "" {
		kind = "text/plain" // RFC 2045 section 5.2
	}
	if strings.HasPrefix(kind, "multipart/") && depth > 0 {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if err != nil {
				return "", false
			}
			if text, ok := findPart(p.Header, p, want, depth-1); ok {
				return text, true
			}
		}
	}
	if kind != want {
		return "", false
	}
	switch strings.ToLower(h.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	octets, _ := io.ReadAll(body) // of what is malformed, what came before
	text := string(octets)
	if strings.EqualFold(params["charset"], "iso-8859-1") {
		runes := make([]rune, len(octets))
		for i, b := range octets {
			runes[i] = rune(b)
		}
		text = string(runes)
	}
	return strings.ReplaceAll(text, "\r\n", "\n"), true
}

// String describes the message in one line.
func (m *Message) String() string {
	to := make([]string, len(m.To))
	for i, r := range m.To {
		to[i] = "<" + r.Address.String() + ">"
	}
	from := "<" + m.From.String() + ">"
	if m.From.IsNull() {
		from = "<>"
	}
	return fmt.Sprintf("from %s to %s, %d octets, subject %q", from, strings.Join(to, " "), len(m.Raw), m.Subject())
}
