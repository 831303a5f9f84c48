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

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// Options are the options of a notification.
type Options struct {
	// Hostname is the name of the host that reports, a domain name or an address literal. It is required. A name without a
	// dot is marked as one that others do not know (RFC 3461 section 6.3).
	Hostname string
	// From is the address in the header to which people write with questions. The default is postmaster at Hostname.
	From proto.Address
	// Carries has the features that the servers on the way back are known to provide. The default is none.
	//
	// Then the notification gets through everywhere. But of a message with octets above 127 only the header is returned,
	// and a message with UTF-8 in its header is encoded (RFC 6533 section 4.5). With [ext.EightBit] the first is returned
	// as it is, and with [ext.UTF8] the second too; a server that does not provide the feature refuses the notification. A
	// reverse-path in UTF-8 implies ext.UTF8.
	Carries ext.Feature
	// MaxReturn is the largest message, in octets, that is returned whole; of a larger one only the header is. The default
	// is 1 MiB, and a negative value means no limit. At most 64 KiB of a header are returned.
	MaxReturn int64
	// Subject returns the subject, one line, and Text the part for people to read. They may use any script. The defaults
	// are [DefaultSubject] and [DefaultText], in English. Texts in the report are untrusted.
	Subject, Text func(*Report) string
	// Date is the time in the header; the default is now.
	Date time.Time
}

const defaultMaxReturn = 1 << 20

// A Notification is a message that carries a report. Send it from the null reverse-path (RFC 3461 section 6.1); see the
// example.
type Notification struct {
	// Mail are the parameters of the MAIL command: REQUIRETLS if the message had it (RFC 8689 section 5), and the priority
	// of the message (RFC 6710 section 4.6). There is no RET and no NOTIFY. See Relax.
	Mail proto.Params
	// To is the only recipient, the reverse-path of the message.
	To []proto.Recipient
	// Needs has the features that the content needs. It is zero unless Options.Carries or the reverse-path permits more.
	Needs ext.Feature
	// Body is the content. All its lines end in CRLF and have at most 998 octets. Seek can go only to the beginning, so
	// that the notification can be sent again. Reading Body reads Message.Content.
	Body io.ReadSeeker
}

// Compose makes a notification of r, a report that m.Due has returned or another one about m. It reads m.Content once
// to the end.
//
// The message is returned whole if it has failed for a recipient and can be sent as it is. Otherwise only its header is
// returned (RFC 3461 section 6.2). So it is too if the sender has asked for that (RET=HDRS), if the message had
// REQUIRETLS (RFC 8689 section 5), or if it is larger than Options.MaxReturn. The header ends at the first line that is
// no field. Characters that could be taken for the end of a line or of a field become question marks.
//
// Compose returns an error if
//
//   - m is from the null reverse-path,
//   - Options.Hostname is missing or malformed,
//   - r has no recipient, or one without Final,
//   - the name of a field is not an atom of RFC 822, or is longer than 76 octets, or
//   - m.Content cannot be read.
//
// Compose may be called concurrently.
func Compose(m *Message, r *Report, opt *Options) (*Notification, error) {
	return compose(m, r, opt, rand.Text)
}

// compose is Compose with boundaries that next returns.
func compose(m *Message, r *Report, opt *Options, next func() string) (*Notification, error) {
	c, err := newComposer(m, r, opt)
	if err != nil {
		return nil, err
	}
	parts := []part{c.text(), c.status()}
	for {
		// A second round is not expected, since nobody can guess a boundary.
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

// begins reports whether any line of text begins with s.
func begins(text []byte, s string) bool {
	return bytes.HasPrefix(text, []byte(s)) || bytes.Contains(text, []byte("\n"+s))
}

// A composer makes one notification.
type composer struct {
	m        *Message
	r        Report
	opt      Options
	host     proto.Domain
	from, to []byte      // paths in the header of the notification
	needs    ext.Feature // what the reverse-path needs
	size     int64       // of m.Content
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
		c.needs |= ext.UTF8
	}
	if c.opt.Carries&ext.UTF8 != 0 {
		c.opt.Carries |= ext.EightBit // RFC 6531 section 3.1
	}
	if c.to, err = m.From.AppendPath(nil, c.needs&ext.UTF8 != 0); err != nil {
		return nil, fmt.Errorf("smtp: the reverse-path of a message to be reported on: %w", err)
	}
	if c.from, err = c.opt.From.AppendPath(nil, c.needs&ext.UTF8 != 0); err != nil {
		return nil, fmt.Errorf("smtp: Options.From of a report: %w", err)
	}
	c.fill()
	return c, nil
}

// fill sets the defaults.
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
	const maxName = 76
	lists := [][]Field{r.Fields}
	for i := range r.Recipients {
		lists = append(lists, r.Recipients[i].Fields)
	}
	for _, list := range lists {
		for _, f := range list {
			if !isAtom(f.Name) || len(f.Name) > maxName {
				return fmt.Errorf("smtp: %q cannot be the name of a field of a report", f.Name)
			}
		}
	}
	return nil
}

// third returns the third part of the notification: the message or its header. It reports whether a line of the message
// begins with delimiter.
func (c *composer) third(delimiter []byte) (p part, taken bool, err error) {
	o, taken, err := scan(io.NewSectionReader(c.m.Content, 0, math.MaxInt64), delimiter)
	if err != nil {
		return part{}, false, err
	}
	c.size = o.size
	mail, _ := ehlo.ReadDSNMail(c.m.Mail) // REQUIRETLS counts as RET=HDRS
	if c.r.kind() == ehlo.Failed && mail.Return != ehlo.ReturnHeaders && (c.opt.MaxReturn < 0 || o.size <= c.opt.MaxReturn) {
		if p, ok := o.full(c.opt.Carries); ok {
			return p, taken, nil
		}
	}
	return o.headers(c.opt.Carries), taken, nil
}
