package report

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Options say how a notification is made.
type Options struct {
	// Hostname is the name of the host that reports, a domain name or an address literal. It is required. A name without
	// a dot is not taken for one that others know (RFC 3461 section 6.3).
	Hostname string
	// From is the address in the header to which people write with questions. The default is postmaster at Hostname.
	From proto.Address
	// Carries is what the servers on the way back are known to take. The default is nothing, and the notification then
	// gets through everywhere, but a message of octets above 127 is returned as its header alone, and one with a
	// header in UTF-8 is encoded (RFC 6533 section 4.5). [ext.EightBit] leaves the former as it is, and [ext.UTF8] the
	// latter too; a server that does not take it refuses the notification. A reverse-path in UTF-8 implies ext.UTF8.
	Carries ext.Feature
	// MaxReturn is the size in octets above which only the header of a message is returned. The default is 1 MiB; negative
	// is no limit. Of a header 64 KiB are returned.
	MaxReturn int64
	// Subject and Text return the subject, one line, and the part for people to read. They may be in any script. The
	// defaults are in English; see [DefaultText]. What is in the report may come from strangers.
	Subject, Text func(*Report) string
	// Date is the time in the header; the default is now.
	Date time.Time
}

const defaultMaxReturn = 1 << 20

// A Notification is a message that carries a report, ready to be sent from the null reverse-path (RFC 3461 section 6.1): see
// the example.
type Notification struct {
	// Mail are the parameters of its MAIL command: REQUIRETLS if the message had it (RFC 8689 section 5), and the priority
	// of the message (RFC 6710 section 4.6). There is no RET and no NOTIFY. See Relax.
	Mail proto.Params
	// To is the reverse-path of the message, the only recipient.
	To []proto.Recipient
	// Need is what the content needs of the server. It is more than nothing only if Options.Carries allows it, or the
	// reverse-path asks for it.
	Need ext.Feature
	// Body is the content. All its lines end in CRLF and have 998 octets at most. It can be sought only to where it stands
	// and to its beginning, so that it can be sent again, and reads Message.Content as it goes.
	Body io.ReadSeeker
}

// Compose makes the notification of r, one of what m.Due returns, or another about m. It reads m.Content once to the end.
//
// The message is returned whole if it has failed for a recipient, unless the sender asked for headers, or the message had
// REQUIRETLS, which is as good (RFC 8689 section 5), or it is too long or cannot be sent as it is; otherwise its header is
// returned (RFC 3461 section 6.2), which ends at the first line that is no field. Characters that could pass for another line or
// field become question marks.
//
// It is an error to report to the null reverse-path, or on no recipient, or on one without Final, without a Hostname, or with the
// name of a field that is no atom of RFC 822 or longer than 76 octets. Compose may be called concurrently.
func Compose(m *Message, r *Report, opt *Options) (*Notification, error) {
	return compose(m, r, opt, rand.Text)
}

// compose is Compose with boundaries from next.
func compose(m *Message, r *Report, opt *Options, next func() string) (*Notification, error) {
	c, err := newComposer(m, r, opt)
	if err != nil {
		return nil, err
	}
	parts := []part{c.text(), c.status()}
	for {
		// Nobody can guess one, so this is not expected to come around.
		boundary := next()
		all, taken := parts, false
		if m.Content != nil {
			var third part
			if third, taken, err = c.third([]byte("--" + boundary)); err != nil {
				return nil, fmt.Errorf("smtp: the message to be reported on: %w", err)
			}
			all = append(all[:2:2], third)
		}
		for _, p := range all {
			taken = taken || begins(p.content, "--"+boundary)
		}
		if !taken {
			return c.notification(boundary, all), nil
		}
	}
}

// begins reports whether a line of text begins with s.
func begins(text []byte, s string) bool {
	return bytes.HasPrefix(text, []byte(s)) || bytes.Contains(text, []byte("\n"+s))
}

// A composer is a notification in the making.
type composer struct {
	m        *Message
	r        Report
	opt      Options
	host     proto.Domain
	from, to []byte // paths
	need     ext.Feature
	size     int64 // of the content
}

func newComposer(m *Message, r *Report, opt *Options) (*composer, error) {
	c := &composer{m: m, r: *r}
	if opt != nil {
		c.opt = *opt
	}
	var err error
	if c.host, err = proto.ParseDomain(c.opt.Hostname); err != nil {
		return nil, fmt.Errorf("smtp: a report needs the name of this host in Options.Hostname: %w", err)
	}
	if m.From.IsNull() {
		return nil, errors.New("smtp: a message from the null reverse-path is not reported on; see Message.Due")
	}
	if len(r.Recipients) == 0 {
		return nil, errors.New("smtp: a report needs at least one recipient")
	}
	if err := checkFinals(r); err != nil {
		return nil, err
	}
	if err := checkNames(r); err != nil {
		return nil, err
	}
	if c.opt.From.IsNull() {
		c.opt.From = proto.Address{Local: "postmaster", Domain: c.host}
	}
	if !m.From.IsASCII() {
		c.opt.Carries |= ext.UTF8
		c.need |= ext.UTF8
	}
	if c.opt.Carries&ext.UTF8 != 0 {
		c.opt.Carries |= ext.EightBit // RFC 6531 section 3.1
	}
	if c.to, err = m.From.AppendPath(nil, c.need&ext.UTF8 != 0); err != nil {
		return nil, fmt.Errorf("smtp: the reverse-path of a message to be reported on: %w", err)
	}
	if c.from, err = c.opt.From.AppendPath(nil, c.need&ext.UTF8 != 0); err != nil {
		return nil, fmt.Errorf("smtp: Options.From of a report: %w", err)
	}
	c.fill()
	return c, nil
}

// fill puts in what has a default.
func (c *composer) fill() {
	if c.r.ReportingMTA.Name == "" {
		c.r.ReportingMTA = DNS(c.host.ASCII())
		if c.host.Name() != "" && !strings.Contains(c.host.Name(), ".") {
			c.r.ReportingMTA.Type = "x-local-hostname"
		}
	}
	if c.opt.MaxReturn == 0 {
		c.opt.MaxReturn = defaultMaxReturn
	}
	if c.opt.Subject == nil {
		c.opt.Subject = DefaultSubject
	}
	if c.opt.Text == nil {
		c.opt.Text = DefaultText
	}
	if c.opt.Date.IsZero() {
		c.opt.Date = time.Now()
	}
}

// checkFinals checks that all recipients have addresses (RFC 3464 section 2.3.2).
func checkFinals(r *Report) error {
	for i := range r.Recipients {
		if address, _ := clean(r.Recipients[i].Final.Address, true); address == "" {
			return fmt.Errorf("smtp: the recipient %d of a report has no address: "+
				"set Recipients[%d].Final, for which there is ehlo.NewOriginalRecipient", i+1, i)
		}
	}
	return nil
}

// checkNames checks the names of fields of extensions.
func checkNames(r *Report) error {
	const longest = 76
	lists := [][]Field{r.Fields}
	for i := range r.Recipients {
		lists = append(lists, r.Recipients[i].Fields)
	}
	for _, list := range lists {
		for _, f := range list {
			if !isAtom(f.Name) || len(f.Name) > longest {
				return fmt.Errorf("smtp: %q cannot be the name of a field of a report", f.Name)
			}
		}
	}
	return nil
}

// third returns what is returned of the message, and whether a line of the message begins with delimiter.
func (c *composer) third(delimiter []byte) (p part, taken bool, err error) {
	o, taken, err := scan(io.NewSectionReader(c.m.Content, 0, math.MaxInt64), delimiter)
	if err != nil {
		return part{}, false, err
	}
	c.size = o.size
	mail, _ := ehlo.ReadDSNMail(c.m.Mail) // with REQUIRETLS it says headers
	if c.r.kind() == ehlo.Failed && mail.Return != ehlo.ReturnHeaders && (c.opt.MaxReturn < 0 || o.size <= c.opt.MaxReturn) {
		if p, ok := o.full(c.opt.Carries); ok {
			return p, taken, nil
		}
	}
	return o.headers(c.opt.Carries), taken, nil
}
