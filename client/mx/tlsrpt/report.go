package tlsrpt

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// A Report is an aggregate report: what has happened in a day with the mail exchangers of a domain (RFC 8460 section
// 4.4). Its form in JSON is that of the RFC. [ReadReport] reads the reports of others.
type Report struct {
	// Domain is the domain that is reported to. It is not a part of the JSON, and empty in a report that was read.
	Domain string `json:"-"`

	Organization string         `json:"organization-name"`
	DateRange    DateRange      `json:"date-range"`
	Contact      string         `json:"contact-info"` // a mail address
	ID           string         `json:"report-id"`
	Policies     []PolicyReport `json:"policies"`
}

// A DateRange is the time on which a report is: a day in UTC. The JSON is in seconds.
type DateRange struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

// A PolicyReport is what has happened under one policy.
type PolicyReport struct {
	Policy   ReportedPolicy `json:"policy"`
	Summary  Summary        `json:"summary"`
	Failures []Failure      `json:"failure-details,omitempty"`
}

// A ReportedPolicy is a policy in a report; see [Policy]. In reports of others MXHosts may be one string in place of a
// list, as in the example of RFC 8460 appendix B, and Strings too.
type ReportedPolicy struct {
	Type    string   `json:"policy-type"`
	Strings []string `json:"policy-string,omitempty"`
	Domain  string   `json:"policy-domain"`
	MXHosts []string `json:"mx-host,omitempty"`
}

// A Summary has the number of sessions under a policy.
type Summary struct {
	Successful int64 `json:"total-successful-session-count"`
	Failed     int64 `json:"total-failure-session-count"`
}

// A Failure is a number of sessions that failed in the same way; see [Event].
type Failure struct {
	Result      string `json:"result-type"`
	SendingIP   string `json:"sending-mta-ip,omitempty"`
	MXHost      string `json:"receiving-mx-hostname,omitempty"`
	MXHello     string `json:"receiving-mx-helo,omitempty"`
	ReceivingIP string `json:"receiving-ip,omitempty"`
	Sessions    int64  `json:"failed-session-count"`
	Info        string `json:"additional-information,omitempty"` // a URI
	Code        string `json:"failure-reason-code,omitempty"`
}

// Compressed returns the report as JSON, compressed with gzip. It is what the media type application/tlsrpt+gzip has.
func (r *Report) Compressed() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	enc := json.NewEncoder(z)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("smtp: writing a report on TLS: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// What a report that is read may have.
const (
	maxReport = 25 << 20 // octets, as they come and when they are decompressed
	maxValues = 500000   // fields and entries, which take more memory than they have octets
	gzipMagic = 0x1f     // RFC 1952 section 2.3.1; no JSON begins so
)

// A ReportError says why a report could not be read.
type ReportError struct{ Err error }

func (e *ReportError) Error() string { return "smtp: reading a report on TLS: " + e.Err.Error() }

// Unwrap returns the reason: an error of the reader, or one that says what is wrong with the report.
func (e *ReportError) Unwrap() error { return e.Err }

var (
	errLarge = fmt.Errorf("it has more than %d MiB", maxReport>>20)
	errMany  = fmt.Errorf("it has more than %d fields and entries", maxValues)
)

// ReadReport reads the report of somebody else: JSON, or JSON compressed with gzip, as in the attachment of a mail or
// the body of a POST. It reads r to the end. Fields that it does not know are ignored. The error is a [*ReportError].
//
// A report may come from anybody, and say anything. ReadReport reads no more than 25 MiB, before and after it is
// decompressed, and takes no more than 500,000 fields and entries. It does not check what the fields say.
func ReadReport(r io.Reader) (*Report, error) {
	in := bufio.NewReader(io.LimitReader(r, maxReport+1))
	plain := io.Reader(in)
	if first, err := in.Peek(1); err == nil && first[0] == gzipMagic {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, &ReportError{Err: err}
		}
		plain = io.LimitReader(z, maxReport+1)
	}
	text, err := io.ReadAll(plain)
	switch {
	case len(text) > maxReport:
		err = errLarge
	case err == nil && values(text) > maxValues:
		err = errMany
	}
	if err != nil {
		return nil, &ReportError{Err: err}
	}
	rep := &Report{}
	if err := json.Unmarshal(text, rep); err != nil {
		return nil, &ReportError{Err: err}
	}
	return rep, nil
}

// values returns about how many fields and entries there are in a text of JSON: none is without one of the characters
// that it counts.
func values(text []byte) int {
	n := 0
	quoted := false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			quoted = !quoted
		case '\\':
			if quoted {
				i++
			}
		case ',', '[', '{':
			if !quoted {
				n++
			}
		}
	}
	return n
}

// UnmarshalJSON reads a policy in which lists may be single strings.
func (p *ReportedPolicy) UnmarshalJSON(text []byte) error {
	var lax struct {
		Type    string `json:"policy-type"`
		Strings list   `json:"policy-string"`
		Domain  string `json:"policy-domain"`
		MXHosts list   `json:"mx-host"`
	}
	if err := json.Unmarshal(text, &lax); err != nil {
		return err
	}
	*p = ReportedPolicy{Type: lax.Type, Strings: lax.Strings, Domain: lax.Domain, MXHosts: lax.MXHosts}
	return nil
}

// A list is a list of strings, or one string that stands for a list of one.
type list []string

func (l *list) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*l = list{""}
		return json.Unmarshal(text, &(*l)[0])
	}
	return json.Unmarshal(text, (*[]string)(l))
}
