package tlsrpt

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

// A Record is the TXT record by which a domain asks for reports (RFC 8460 section 3).
type Record struct {
	// RUA are the aggregate report URIs, to which reports go: those with the scheme mailto or https, in their order, ten
	// at most. [LookupRecord] returns no record without one.
	RUA []*url.URL
}

// maxRUA is how many destinations of a record are used. The RFC has no number. Whoever controls a domain can name hosts
// of others here (RFC 8460 section 7), so it is a small one.
const maxRUA = 10

// maxURI is the longest URI of a record that is used, in octets.
const maxURI = 2048

// LookupRecord asks r for the record of a domain, at _smtp._tls and the domain. It returns nil and no error if the
// domain asks for no reports: it has no record, or several, or a record without a destination that can be used.
//
// The error says why it is not known whether the domain asks: a [*dns.Error], or that of ctx. A record that is there
// and is malformed is a [*RecordError]; the domain asks for no reports then.
func LookupRecord(ctx context.Context, r dns.Resolver, domain string) (*Record, error) {
	a, err := r.Lookup(ctx, "_smtp._tls."+domain, dns.TXT)
	if err != nil {
		return nil, err
	}
	text, ok := choose(a.TXT)
	if !ok {
		return nil, nil
	}
	rec, err := ParseRecord(text)
	if err != nil || len(rec.RUA) == 0 {
		return nil, err
	}
	return rec, nil
}

// choose returns the one record that may be a record of TLSRPT. Of several records, those that begin in another way do
// not count. If several are left, or none, there is none.
func choose(records []string) (string, bool) {
	if len(records) == 1 {
		return records[0], strings.HasPrefix(records[0], version)
	}
	found, n := "", 0
	for _, text := range records {
		if strings.HasPrefix(text, version+";") {
			found = text
			n++
		}
	}
	return found, n == 1
}

const version = "v=TLSRPTv1"

// A RecordError says what is wrong with a record, which was to ask for reports. It is permanent: the owner of the
// domain has to mend it.
type RecordError struct {
	Text string // the record
	Err  error
}

func (e *RecordError) Error() string {
	return "smtp: the TLSRPT record " + quote(e.Text) + ": " + strings.TrimPrefix(e.Err.Error(), "smtp: ")
}

// Unwrap returns what is wrong.
func (e *RecordError) Unwrap() error { return e.Err }

var (
	errVersion = errors.New("it does not begin with v=TLSRPTv1 and a semicolon")
	errField   = errors.New("between the semicolons there have to be fields such as rua=mailto:reports@example.org")
	errNoRUA   = errors.New("it has no field rua")
)

// ParseRecord parses the text of a record, such as "v=TLSRPTv1; rua=mailto:reports@example.org". Fields with other
// names are ignored, and so are URIs that cannot be used: those of another scheme, and malformed ones. The error is a
// [*RecordError].
func ParseRecord(text string) (*Record, error) {
	rest, ok := strings.CutPrefix(text, version)
	if ok {
		rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " \t"), ";")
	}
	if !ok {
		return nil, &RecordError{Text: text, Err: errVersion}
	}
	rec := &Record{}
	asked := false
	for more := true; more; {
		var field string
		field, rest, more = strings.Cut(rest, ";")
		field = strings.Trim(field, " \t")
		if field == "" && !more {
			break // the last semicolon ends the record
		}
		name, value, _ := strings.Cut(field, "=")
		if !isFieldName(name) || value == "" {
			return nil, &RecordError{Text: text, Err: errField}
		}
		if name == "rua" {
			asked = true
			rec.add(value)
		}
	}
	if !asked {
		return nil, &RecordError{Text: text, Err: errNoRUA}
	}
	return rec, nil
}

// isFieldName reports whether s is a tlsrpt-ext-name, to which "rua" belongs too.
func isFieldName(s string) bool {
	for i := range len(s) {
		switch c := s[i] | 0x20; {
		case 'a' <= c && c <= 'z', '0' <= s[i] && s[i] <= '9':
		case i > 0 && strings.IndexByte("_-.", s[i]) >= 0:
		default:
			return false
		}
	}
	return 0 < len(s) && len(s) <= 32
}

// add adds the URIs of a list that can be used.
func (rec *Record) add(list string) {
	for text := range strings.SplitSeq(list, ",") {
		if len(rec.RUA) == maxRUA {
			return
		}
		if u, err := parseURI(strings.Trim(text, " \t")); err == nil {
			rec.RUA = append(rec.RUA, u)
		}
	}
}

var errURI = errors.New("it is no URI to which a report can go")

// parseURI parses one URI of a list. A "!" has to be encoded (RFC 8460 section 3): in DMARC it has a meaning.
func parseURI(text string) (*url.URL, error) {
	if len(text) > maxURI || strings.Contains(text, "!") {
		return nil, errURI
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] >= 0x7f {
			return nil, errURI
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "mailto":
		_, err = mailbox(u)
	case "https":
		if u.Hostname() == "" || u.User != nil {
			err = errURI
		}
	default:
		err = errURI
	}
	if err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// mailbox returns the address of a mailto URI (RFC 6068). Header fields in the URI are ignored: a report has a form of
// its own. Several addresses in one URI are not permitted here, since the comma would be encoded.
func mailbox(u *url.URL) (proto.Address, error) {
	text, err := url.PathUnescape(u.Opaque)
	if err != nil {
		return proto.Address{}, err
	}
	return proto.ParseAddress(text)
}
