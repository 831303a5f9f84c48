package queue

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// A decoder parses JSON (RFC 8259). Its methods parse the value at i and go behind it. Its first error stays: then
// everything is zero, and nothing follows. Strings without escapes are parts of s.
type decoder struct {
	s   string
	i   int
	err error
}

const (
	minInt = math.MinInt
	maxInt = math.MaxInt
)

// maxNesting bounds the depth of a value that is skipped.
const maxNesting = 100

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("smtp: malformed JSON of the queue at octet %d: %w", d.i, fmt.Errorf(format, args...))
	}
}

// peek skips white space and returns the octet there, or 0 at the end and after an error.
func (d *decoder) peek() byte {
	for d.err == nil && d.i < len(d.s) {
		switch c := d.s[d.i]; c {
		case ' ', '\t', '\n', '\r':
			d.i++
		default:
			return c
		}
	}
	return 0
}

// take goes behind the octet c if it is next, and reports whether it was.
func (d *decoder) take(c byte) bool {
	if d.peek() != c {
		return false
	}
	d.i++
	return true
}

func (d *decoder) want(c byte) bool {
	if d.take(c) {
		return true
	}
	d.fail("%q expected", c)
	return false
}

// end fails if something follows.
func (d *decoder) end() {
	if d.peek(); d.err == nil && d.i < len(d.s) {
		d.fail("nothing expected to follow")
	}
}

// object calls member for each member, before its value. The member has to parse the value.
func (d *decoder) object(member func(key string)) {
	if !d.want('{') || d.take('}') {
		return
	}
	for d.err == nil {
		key := d.string()
		if !d.want(':') {
			return
		}
		member(key)
		if !d.take(',') {
			d.want('}')
			return
		}
	}
}

// array calls element before each element, which it has to parse.
func (d *decoder) array(element func()) {
	if !d.want('[') || d.take(']') {
		return
	}
	for d.err == nil {
		element()
		if !d.take(',') {
			d.want(']')
			return
		}
	}
}

func (d *decoder) string() string {
	if !d.want('"') {
		return ""
	}
	start := d.i
	for i := start; i < len(d.s); i++ {
		switch c := d.s[i]; {
		case c == '"':
			d.i = i + 1
			return d.valid(d.s[start:i])
		case c == '\\':
			return d.escaped(start, i)
		case c < ' ':
			d.i = i
			d.fail("a control character in a string")
			return ""
		}
	}
	d.fail("the string has no end")
	return ""
}

func (d *decoder) valid(s string) string {
	if !utf8.ValidString(s) {
		d.fail("the string is not in UTF-8")
		return ""
	}
	return s
}

// escaped returns a string that begins at start and has its first escape at i.
func (d *decoder) escaped(start, i int) string {
	b := append(make([]byte, 0, i-start+32), d.s[start:i]...)
	d.i = i
	raw := start // where what is copied as it is begins
	for d.i < len(d.s) {
		c := d.s[d.i]
		d.i++
		switch {
		case c == '"':
			d.valid(d.s[raw : d.i-1])
			return string(b)
		case c < ' ':
			d.fail("a control character in a string")
			return ""
		case c == '\\':
			d.valid(d.s[raw : d.i-1])
			b = d.escape(b)
			if d.err != nil {
				return ""
			}
			raw = d.i
		default:
			b = append(b, c)
		}
	}
	d.fail("the string has no end")
	return ""
}

// escape appends the character for what follows a backslash.
func (d *decoder) escape(b []byte) []byte {
	if d.i >= len(d.s) {
		d.fail("the string has no end")
		return b
	}
	c := d.s[d.i]
	d.i++
	switch c {
	case '"', '\\', '/':
		return append(b, c)
	case 'b':
		return append(b, '\b')
	case 'f':
		return append(b, '\f')
	case 'n':
		return append(b, '\n')
	case 'r':
		return append(b, '\r')
	case 't':
		return append(b, '\t')
	case 'u':
		r := d.hex()
		if r&^0x7f == surrogate|0x80 {
			return append(b, byte(r))
		}
		if utf16.IsSurrogate(r) {
			if !strings.HasPrefix(d.s[d.i:], `\u`) {
				d.fail("half of a surrogate pair")
				return b
			}
			d.i += 2
			if r = utf16.DecodeRune(r, d.hex()); r == utf8.RuneError {
				d.fail("half of a surrogate pair")
			}
		}
		return utf8.AppendRune(b, r)
	}
	d.fail("unknown escape")
	return b
}

func (d *decoder) hex() rune {
	if d.i+4 <= len(d.s) {
		if n, err := strconv.ParseUint(d.s[d.i:d.i+4], 16, 16); err == nil {
			d.i += 4
			return rune(n)
		}
	}
	d.fail("four hexadecimal digits expected")
	return 0
}

// number returns the text of a number.
func (d *decoder) number() string {
	d.peek()
	start := d.i
	digits := func() bool {
		from := d.i
		for d.i < len(d.s) && '0' <= d.s[d.i] && d.s[d.i] <= '9' {
			d.i++
		}
		return d.i > from
	}
	is := func(chars string) bool {
		if d.i < len(d.s) && strings.IndexByte(chars, d.s[d.i]) >= 0 {
			d.i++
			return true
		}
		return false
	}
	is("-")
	ok := is("0") || digits()
	if ok && is(".") {
		ok = digits()
	}
	if ok && is("eE") {
		is("+-")
		ok = digits()
	}
	if !ok || d.err != nil {
		d.fail("a number expected")
		return ""
	}
	return d.s[start:d.i]
}

func (d *decoder) int64() int64 {
	n, err := strconv.ParseInt(d.number(), 10, 64)
	if err != nil {
		d.fail("an integer expected")
		return 0
	}
	return n
}

func (d *decoder) int(least, most int) int {
	n := d.int64()
	if n < int64(least) || n > int64(most) {
		d.fail("the number %d is out of range", n)
		return 0
	}
	return int(n)
}

func (d *decoder) word(w string) {
	if d.peek(); d.err != nil || !strings.HasPrefix(d.s[d.i:], w) {
		d.fail("%s expected", w)
		return
	}
	d.i += len(w)
}

func (d *decoder) bool() bool {
	if d.peek() == 't' {
		d.word("true")
		return d.err == nil
	}
	d.word("false")
	return false
}

// skip goes behind a value of any kind.
func (d *decoder) skip() { d.skipNested(0) }

func (d *decoder) skipNested(depth int) {
	if depth > maxNesting {
		d.fail("nested too deeply")
		return
	}
	switch c := d.peek(); c {
	case '{':
		d.object(func(string) { d.skipNested(depth + 1) })
	case '[':
		d.array(func() { d.skipNested(depth + 1) })
	case '"':
		d.string()
	case 't', 'f':
		d.bool()
	case 'n':
		d.word("null")
	default:
		d.number()
	}
}

func (d *decoder) time() time.Time {
	s := d.string()
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		d.fail("%q is not a time of RFC 3339", s)
		return time.Time{}
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		d.fail("the year of %q is outside 0 to 9999", s)
	}
	// More than encoder.time writes is left out, so that what is read once is the same again.
	return t.Add(-time.Duration(t.Nanosecond() % 1e6))
}

func (d *decoder) address() proto.Address {
	s := d.string()
	if d.err != nil {
		return proto.Address{}
	}
	a, err := parseAddress(s)
	if err != nil {
		d.fail("address %q: %w", s, err)
		return proto.Address{}
	}
	return a
}

func (d *decoder) params() (p proto.Params) {
	d.array(func() {
		var param proto.Param
		param.Key, param.Value, param.HasValue = strings.Cut(d.string(), "=")
		p = append(p, param)
	})
	return p
}

func (d *decoder) features() (f ext.Feature) {
	d.array(func() {
		s := d.string()
		for i, name := range featureNames {
			if s == name {
				f |= 1 << i
				return
			}
		}
		n, err := strconv.ParseUint(s, 10, 8)
		if err != nil {
			d.fail("%q is not a feature", s)
		}
		f |= ext.Feature(n)
	})
	return f
}

func (d *decoder) mta() (m report.MTA) {
	d.object(func(key string) {
		switch key {
		case "type":
			m.Type = d.string()
		case "name":
			m.Name = d.string()
		case "comment":
			m.Comment = d.string()
		default:
			d.skip()
		}
	})
	return m
}

func (d *decoder) jobID() JobID {
	s := d.string()
	i := strings.LastIndexByte(s, '.')
	if i >= 0 {
		if n, err := strconv.Atoi(s[i+1:]); err == nil {
			return JobID{ID(s[:i]), n}
		}
	}
	d.fail("%q is not the ID of a job", s)
	return JobID{}
}

func (d *decoder) state() State {
	switch s := d.string(); s {
	case Queued.String():
		return Queued
	case Held.String():
		return Held
	default:
		d.fail("%q is not the state of a job", s)
		return Queued
	}
}

// status parses three numbers with dots between them, whatever they are.
func (d *decoder) status() (s proto.Status) {
	text := d.string()
	rest := text
	for i := range s {
		part, after, more := strings.Cut(rest, ".")
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || more != (i < len(s)-1) {
			d.fail("%q is not a status", text)
			return proto.Status{}
		}
		s[i], rest = uint16(n), after
	}
	return s
}

func (d *decoder) reply() (r proto.Reply) {
	d.object(func(key string) {
		switch key {
		case "code":
			r.Code = d.int(minInt, maxInt)
		case "status":
			r.Status = d.status()
		case "text":
			r.Text = d.string()
		default:
			d.skip()
		}
	})
	return r
}
