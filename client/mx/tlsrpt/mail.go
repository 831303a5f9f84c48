package tlsrpt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// MediaType is the media type of a report that is compressed (RFC 8460 section 6.5), for programs that send reports by
// HTTPS themselves.
const MediaType = "application/tlsrpt+gzip"

// A MessageError says why a report cannot be sent by mail.
type MessageError struct {
	What string // the field of the report, or the recipient
	Err  error
}

func (e *MessageError) Error() string {
	return "smtp: a report on TLS by mail: " + e.What + ": " + strings.TrimPrefix(e.Err.Error(), "smtp: ")
}

// Unwrap returns the reason.
func (e *MessageError) Unwrap() error { return e.Err }

// Status returns 5.6.0 (RFC 3463 section 3.7).
func (e *MessageError) Status() proto.Status { return proto.Status{5, 6, 0} }

var (
	errDomain = errors.New("it is not a domain name in lower case and A-labels")
	errID     = errors.New("it has characters other than letters, digits and those of a domain name")
)

// Message returns a report as a message to an address (RFC 8460 section 5.3). It is for programs that send reports by
// themselves. Sign it with DKIM for the domain of Contact, and do not let a policy on TLS stop it: it has the header
// field TLS-Required for that (RFC 8689). The error is a [*MessageError].
func (c *Collector) Message(r *Report, to string) (*client.Message, error) {
	a, err := proto.ParseAddress(to)
	if err != nil {
		return nil, &MessageError{What: "the recipient", Err: err}
	}
	body, err := r.Compressed()
	if err != nil {
		return nil, &MessageError{What: "the content", Err: err}
	}
	return c.message(r, a, body)
}

func (c *settings) message(r *Report, to proto.Address, body []byte) (*client.Message, error) {
	if !isDomain(r.Domain) {
		return nil, &MessageError{What: "the domain", Err: errDomain}
	}
	if local, _, ok := strings.Cut(r.ID, "@"); !ok || !isDomain(local) || len(r.ID) > 400 || !isID(r.ID) {
		return nil, &MessageError{What: "the ID", Err: errID}
	}
	m := &client.Message{From: c.from, To: []proto.Recipient{{Address: to}}}
	recipient := to.String()
	if isASCII(to.Local) {
		recipient = ascii(to)
	} else {
		m.Needs = ext.UTF8
	}
	boundary := "=_" + strings.ReplaceAll(r.ID, "@", "_")
	boundary = boundary[:min(len(boundary), 70)] // RFC 2046 section 5.1.1
	var b bytes.Buffer
	for _, l := range c.header(r, recipient, boundary) {
		b.WriteString(l + "\r\n")
	}
	for _, l := range c.text(r) {
		b.WriteString(l + "\r\n")
	}
	for _, l := range []string{
		"--" + boundary,
		"Content-Type: " + MediaType,
		"Content-Transfer-Encoding: base64",
		"Content-Disposition: attachment;",
		` filename="` + c.filename(r) + `"`,
		"",
	} {
		b.WriteString(l + "\r\n")
	}
	encoded := base64.StdEncoding.EncodeToString(body)
	for len(encoded) > 0 {
		n := min(76, len(encoded))
		b.WriteString(encoded[:n] + "\r\n")
		encoded = encoded[n:]
	}
	b.WriteString("--" + boundary + "--\r\n")
	m.Body = bytes.NewReader(b.Bytes())
	return m, nil
}

// header returns the lines of the header, and those up to the text.
func (c *settings) header(r *Report, to, boundary string) []string {
	return []string{
		"From: " + ascii(c.from),
		"To: " + to,
		"Date: " + time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"),
		"Subject: Report Domain: " + r.Domain,
		" Submitter: " + c.submitter,
		" Report-ID: <" + r.ID + ">",
		"Message-ID: <" + r.ID + ">",
		"TLS-Report-Domain: " + r.Domain,
		"TLS-Report-Submitter: " + c.submitter,
		"TLS-Required: No", // RFC 8689 section 3
		"Auto-Submitted: auto-generated",
		"MIME-Version: 1.0",
		`Content-Type: multipart/report; report-type="tlsrpt";`,
		` boundary="` + boundary + `"`,
		"",
		"--" + boundary,
		`Content-Type: text/plain; charset="us-ascii"`,
		"",
	}
}

// text returns the lines of the part for people.
func (c *settings) text(r *Report) []string {
	var good, bad int64
	for i := range r.Policies {
		good += r.Policies[i].Summary.Successful
		bad += r.Policies[i].Summary.Failed
	}
	return []string{
		"This is an aggregate report on TLS from " + c.submitter + ".",
		"It is about sessions with mail exchangers of " + r.Domain + ".",
		"",
		"Begin:     " + r.DateRange.Start.Format(time.RFC3339),
		"End:       " + r.DateRange.End.Format(time.RFC3339),
		fmt.Sprintf("Succeeded: %d", good),
		fmt.Sprintf("Failed:    %d", bad),
	}
}

// isID reports whether an ID can stand in the header.
func isID(id string) bool {
	return isDomain(strings.ReplaceAll(strings.ToLower(id), "@", "."))
}

// filename returns the name of the file (RFC 8460 section 5.1).
func (c *settings) filename(r *Report) string {
	local, _, _ := strings.Cut(r.ID, "@")
	unique := local[strings.LastIndexByte(local, '.')+1:]
	if !isAlnum(unique) {
		unique = "1"
	}
	return fmt.Sprintf("%s!%s!%d!%d!%s.json.gz", c.submitter, r.Domain, r.DateRange.Start.Unix(),
		r.DateRange.End.Unix(), unique)
}

func isAlnum(s string) bool { return isDomain(s) && !strings.ContainsAny(s, "-_.") }
