package queue

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// The JSON of messages and jobs is what stores keep and operators read. Addresses are as people write them, parameters
// are strings KEY or KEY=VALUE, and times are RFC 3339 in UTC with milliseconds. A field with its zero value is left
// out. A reader takes the fields in any order, and ignores those that it does not know.
//
// An octet 0xNN that is not part of valid UTF-8 is written as half of a surrogate pair, \udcNN. Here it is read back as
// it was; other programs see U+FFFD, or complain.

// MarshalJSON returns m as JSON. Everything comes back from UnmarshalJSON as it was, and times in milliseconds.
func (m Message) MarshalJSON() ([]byte, error) { return encoded(make([]byte, 0, 512), m.appendJSON) }

// UnmarshalJSON sets m from JSON. Fields of m that are not in it become zero. The strings of m share memory with each
// other. An error leaves m as it was.
func (m *Message) UnmarshalJSON(b []byte) error {
	return decode(b, m, func(d *decoder, m *Message) { d.message(m) })
}

// MarshalJSON returns j as JSON. Everything comes back from UnmarshalJSON as it was, and times in milliseconds.
func (j Job) MarshalJSON() ([]byte, error) { return encoded(make([]byte, 0, 512), j.appendJSON) }

// UnmarshalJSON sets j from JSON. Fields of j that are not in it become zero. The strings of j share memory with each
// other. An error leaves j as it was.
func (j *Job) UnmarshalJSON(b []byte) error {
	return decode(b, j, func(d *decoder, j *Job) { d.job(j) })
}

// MarshalJSON returns r as JSON.
func (r Recipient) MarshalJSON() ([]byte, error) { return encoded(nil, r.appendJSON) }

// UnmarshalJSON sets r from JSON. An error leaves r as it was.
func (r *Recipient) UnmarshalJSON(b []byte) error {
	return decode(b, r, func(d *decoder, r *Recipient) { d.recipient(r) })
}

// MarshalJSON returns f as JSON.
func (f Failure) MarshalJSON() ([]byte, error) { return encoded(nil, f.appendJSON) }

// UnmarshalJSON sets f from JSON. An error leaves f as it was.
func (f *Failure) UnmarshalJSON(b []byte) error {
	return decode(b, f, func(d *decoder, f *Failure) { d.failure(f) })
}

func encoded(buf []byte, appendJSON func(*encoder)) ([]byte, error) {
	e := encoder{b: buf}
	appendJSON(&e)
	return e.b, e.err
}

// An encoder appends JSON to b. Its first error stays.
type encoder struct {
	b     []byte
	first bool // the next member is the first of its object
	err   error
}

func (m *Message) appendJSON(e *encoder) {
	e.open()
	e.text("id", string(m.ID))
	e.time("arrived", m.Arrived)
	if !m.From.IsNull() {
		e.key("from")
		e.address(m.From)
	}
	e.params(m.Params)
	e.features(m.Needs)
	if m.ReceivedFrom != (report.MTA{}) {
		e.key("received_from")
		e.open()
		e.text("type", m.ReceivedFrom.Type)
		e.text("name", m.ReceivedFrom.Name)
		e.text("comment", m.ReceivedFrom.Comment)
		e.close()
	}
	e.text("tag", m.Tag)
	e.number("size", m.Size)
	e.close()
}

func (j *Job) appendJSON(e *encoder) {
	e.open()
	if j.ID != (JobID{}) {
		e.key("id")
		e.b = append(e.b, '"')
		e.inside(string(j.ID.Message))
		e.b = strconv.AppendInt(append(e.b, '.'), int64(j.ID.N), 10)
		e.b = append(e.b, '"')
	}
	e.text("destination", j.Destination)
	if len(j.To) > 0 {
		e.key("to")
		for i := range j.To {
			e.b = append(e.b, "[,"[min(i, 1)])
			j.To[i].appendJSON(e)
		}
		e.b = append(e.b, ']')
		e.first = false
	}
	switch j.State {
	case Queued:
	case Held:
		e.text("state", j.State.String())
	default:
		e.fail("state %d is unknown", j.State)
	}
	e.text("why", j.Why)
	e.number("lane", int64(j.Lane))
	e.time("due", j.Due)
	e.time("alarm", j.Alarm)
	e.time("expires", j.Expires)
	e.number("attempts", int64(j.Attempts))
	e.time("last_attempt", j.LastAttempt)
	if j.Told {
		e.key("told")
		e.b = append(e.b, "true"...)
	}
	e.number("edits", int64(j.Edits))
	e.number("epoch", j.Epoch)
	e.close()
}

func (r *Recipient) appendJSON(e *encoder) {
	e.open()
	e.key("address")
	e.address(r.Address)
	e.params(r.Params)
	if r.Last != nil {
		e.key("last")
		r.Last.appendJSON(e)
	}
	e.close()
}

func (f *Failure) appendJSON(e *encoder) {
	e.open()
	e.status(f.Status)
	if f.Reply != (proto.Reply{}) {
		e.key("reply")
		e.open()
		e.number("code", int64(f.Reply.Code))
		e.status(f.Reply.Status)
		e.text("text", f.Reply.Text)
		e.close()
	}
	e.text("host", f.Host)
	e.text("text", f.Text)
	e.close()
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("smtp: the queue cannot keep this: "+format, args...)
	}
}

func (e *encoder) open() { e.b, e.first = append(e.b, '{'), true }

func (e *encoder) close() { e.b, e.first = append(e.b, '}'), false }

func (e *encoder) key(k string) {
	if !e.first {
		e.b = append(e.b, ',')
	}
	e.first = false
	e.b = append(e.b, '"')
	e.b = append(e.b, k...)
	e.b = append(e.b, '"', ':')
}

// text appends a member unless s is "".
func (e *encoder) text(key, s string) {
	if s != "" {
		e.key(key)
		e.string(s)
	}
}

// number appends a member unless n is 0.
func (e *encoder) number(key string, n int64) {
	if n != 0 {
		e.key(key)
		e.b = strconv.AppendInt(e.b, n, 10)
	}
}

// time appends a member unless t is the zero time.
func (e *encoder) time(key string, t time.Time) {
	if t.IsZero() {
		return
	}
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		e.fail("the year %d is outside 0 to 9999", year)
		return
	}
	hour, minute, second := t.Clock()
	e.key(key)
	b := e.b
	b = append(b, '"', byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10))
	b = appendTwo(append(b, '-'), int(month))
	b = appendTwo(append(b, '-'), day)
	b = appendTwo(append(b, 'T'), hour)
	b = appendTwo(append(b, ':'), minute)
	b = appendTwo(append(b, ':'), second)
	ms := t.Nanosecond() / 1e6
	e.b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z', '"')
}

func appendTwo(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

func (e *encoder) status(s proto.Status) {
	if !s.IsZero() {
		e.text("status", s.String())
	}
}

var featureNames = [...]string{"8bit", "binary", "utf8"}

// features appends the names of the features, and the others as a number, so that a later version can read them.
func (e *encoder) features(f ext.Feature) {
	if f == 0 {
		return
	}
	e.key("needs")
	sep := byte('[')
	for i, name := range featureNames {
		if f&(1<<i) != 0 {
			e.b = append(e.b, sep)
			e.string(name)
			sep = ','
		}
	}
	if other := f >> len(featureNames) << len(featureNames); other != 0 {
		e.b = append(e.b, sep)
		e.string(strconv.Itoa(int(other)))
	}
	e.b = append(e.b, ']')
}

func (e *encoder) params(p proto.Params) {
	if len(p) == 0 {
		return
	}
	e.key("params")
	for i, param := range p {
		if strings.Contains(param.Key, "=") || !param.HasValue && param.Value != "" {
			e.fail("%q is not a parameter: KEY or KEY=VALUE expected", param.Key)
		}
		e.b = append(e.b, "[,"[min(i, 1)], '"')
		e.inside(param.Key)
		if param.HasValue {
			e.b = append(e.b, '=')
			e.inside(param.Value)
		}
		e.b = append(e.b, '"')
	}
	e.b = append(e.b, ']')
}

// address appends an address as Address.String has it, but with any control characters, so that it is the same again.
func (e *encoder) address(a proto.Address) {
	e.b = append(e.b, '"')
	if isDotString(a.Local) || a.IsNull() {
		e.inside(a.Local)
	} else {
		// A quoted string, and a JSON string around it: two backslashes for each.
		e.b = append(e.b, '\\', '"')
		rest := a.Local
		for {
			i := strings.IndexAny(rest, `"\`)
			if i < 0 {
				break
			}
			e.inside(rest[:i])
			e.b = append(e.b, '\\', '\\', '\\', rest[i])
			rest = rest[i+1:]
		}
		e.inside(rest)
		e.b = append(e.b, '\\', '"')
	}
	if !a.Domain.IsZero() {
		e.b = append(e.b, '@')
		e.inside(a.Domain.String())
	}
	e.b = append(e.b, '"')
}

// isDotString reports whether a local part needs no quotes (RFC 5321 section 4.1.2).
func isDotString(s string) bool {
	dot := true
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.' && dot:
			return false
		case c >= utf8.RuneSelf, 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.':
		case c <= ' ' || c == 0x7f || strings.IndexByte(`"(),:;<>@[\]`, c) >= 0:
			return false
		}
		dot = c == '.'
	}
	return !dot
}

func (e *encoder) string(s string) {
	e.b = append(e.b, '"')
	e.inside(s)
	e.b = append(e.b, '"')
}

// inside appends what stands between the quotes of a string. What a terminal might not show as it is gets escaped.
func (e *encoder) inside(s string) {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' || c == 0x7f {
				e.b = append(e.b, s[start:i]...)
				e.escape(rune(c))
				start = i + 1
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			e.b = append(e.b, s[start:i]...)
			if n == 1 {
				r = surrogate | rune(c)
			}
			e.escape(r)
			start = i + n
		}
		i += n
	}
	e.b = append(e.b, s[start:]...)
}

// surrogate is set in an escape that stands for an octet.
const surrogate = 0xdc00

func (e *encoder) escape(r rune) {
	switch r {
	case '"', '\\':
		e.b = append(e.b, '\\', byte(r))
		return
	case '\n':
		e.b = append(e.b, `\n`...)
		return
	}
	const hex = "0123456789abcdef"
	unit := func(u rune) {
		e.b = append(e.b, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
	}
	if r > 0xffff {
		r -= 0x10000
		unit(0xd800 + r>>10)
		r = 0xdc00 + r&0x3ff
	}
	unit(r)
}
