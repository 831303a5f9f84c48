package proto

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ParseMailArgs parses what follows "MAIL " in a command: `FROM:<reverse-path> KEY=VALUE ...`
// (RFC 5321 section 4.1.1.2). A source route is checked and left out of the address (RFC 5321 section 4.1.1.3). UTF-8
// is accepted in the address and in the values of parameters. The caller checks whether the transaction permits UTF-8,
// and whether the parameters are known.
//
// With lax set, ParseMailArgs also accepts what broken clients are known to send: spaces after the colon, no angle
// brackets, dots anywhere in the local part, underscores in the domain. It always accepts more than one space before a
// parameter, and spaces at the end.
//
// The error is the reply to send: 501 5.5.2 without FROM:, 501 5.1.7 for a malformed address, 553 5.6.7 for one that is
// not valid UTF-8, and 501 5.5.4 for parameters that are malformed or given twice.
func ParseMailArgs(args []byte, lax bool) (Address, Params, *Error) {
	return parseArgs(args, false, lax)
}

// ParseRcptArgs parses what follows "RCPT " in a command: `TO:<forward-path> KEY=VALUE ...` (RFC 5321 section 4.1.1.3).
// It is like [ParseMailArgs] with three differences. The null path is an error. <Postmaster> without a domain is
// accepted, in any case, and gives an address with a zero Domain. A malformed address gives 501 5.1.3.
func ParseRcptArgs(args []byte, lax bool) (Address, Params, *Error) {
	return parseArgs(args, true, lax)
}

// AppendMailArgs appends what follows "MAIL ": `FROM:<reverse-path> KEY=VALUE ...`. Unless utf8 is set, the domain has
// A-labels and there is no UTF-8. Nothing in the address or in a parameter can add a parameter or a line.
//
// It returns an error, and dst as it was, if the address or a parameter cannot be written. The caller checks the length
// of the line.
func AppendMailArgs(dst []byte, from Address, p Params, utf8 bool) ([]byte, error) {
	if !from.IsNull() && from.Domain.IsZero() {
		return dst, fmt.Errorf("smtp: sender %q cannot be sent: %w", from.String(), faultNoDomain)
	}
	out := append(dst, "FROM:"...)
	out, err := appendArgs(out, from, p, utf8)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// AppendRcptArgs appends what follows "RCPT ": `TO:<forward-path> KEY=VALUE ...`. It is like [AppendMailArgs], except
// that the null path is an error and postmaster needs no domain.
func AppendRcptArgs(dst []byte, to Address, p Params, utf8 bool) ([]byte, error) {
	if to.IsNull() {
		return dst, fmt.Errorf("smtp: the recipient is empty: %w", faultNull)
	}
	out := append(dst, "TO:"...)
	out, err := appendArgs(out, to, p, utf8)
	if err != nil {
		return dst, err
	}
	return out, nil
}

func appendArgs(dst []byte, a Address, p Params, utf8 bool) ([]byte, error) {
	dst, err := a.AppendPath(dst, utf8)
	if err != nil {
		return dst, err
	}
	return appendParams(dst, p, utf8)
}

func parseArgs(args []byte, rcpt, lax bool) (Address, Params, *Error) {
	s := string(args) // the address and the parameters are parts of this one string
	keyword, usage := "FROM:", "Syntax error: MAIL FROM:<address> expected"
	if rcpt {
		keyword, usage = "TO:", "Syntax error: RCPT TO:<address> expected"
	}
	if len(s) < len(keyword) || !equalFold(s[:len(keyword)], keyword) {
		return Address{}, nil, Refuse(501, Status{5, 5, 2}, usage)
	}
	s = s[len(keyword):]
	switch {
	case lax:
		s = strings.TrimLeft(s, " ")
	case strings.HasPrefix(s, " "):
		return Address{}, nil, badPath(rcpt, faultColonSpace)
	}
	var a Address
	rest, f := parsePath(&a, s, rcpt, lax)
	if f != "" {
		return Address{}, nil, badPath(rcpt, f)
	}
	p, f := parseParams(rest)
	if f != "" {
		return Address{}, nil, &Error{Code: 501, Status: Status{5, 5, 4}, Text: "Syntax error: " + string(f), Err: f}
	}
	return a, p, nil
}

// badPath returns the reply to a path with the fault f.
func badPath(rcpt bool, f fault) *Error {
	e := &Error{Code: 501, Status: Status{5, 1, 7}, Text: "Bad sender address: " + string(f), Err: f}
	if rcpt {
		e.Status[2] = 3
		e.Text = "Bad recipient address: " + string(f)
	}
	if f == faultUTF8 {
		e.Code, e.Status = 553, Status{5, 6, 7} // RFC 6531 section 3.5
	}
	return e
}

// parsePath parses a reverse-path or forward-path at the beginning of s into a, which is zero. The rest of s is empty
// or begins with a space. If there is a fault, a is of no use.
func parsePath(a *Address, s string, rcpt, lax bool) (rest string, f fault) {
	in, stop, routed := s, byte(' '), false
	switch {
	case strings.HasPrefix(s, "<>"):
		if rcpt {
			return "", faultNull
		}
		return s[2:], afterPath(s[2:])
	case strings.HasPrefix(s, "<"):
		in, stop = s[1:], '>'
		if routed = strings.HasPrefix(in, "@"); routed {
			if in, f = skipRoute(in, lax); f != "" {
				return "", f
			}
		}
	case !lax || s == "":
		return "", faultBracket
	}
	rest, f = cutMailbox(a, in, stop, lax)
	if f == faultNoDomain && rcpt && !routed && isPostmaster(a.Local) {
		f = "" // RFC 5321 section 4.1.1.3
	}
	if f == "" && stop == '>' {
		if rest == "" {
			return "", faultUnclosed
		}
		rest = rest[1:]
	}
	if f == "" && len(s)-len(rest) > maxPath {
		f = faultPathLong
	}
	if f == "" {
		f = afterPath(rest)
	}
	return rest, f
}

func afterPath(rest string) fault {
	if rest != "" && rest[0] != ' ' {
		return faultAfterPath
	}
	return ""
}

// skipRoute checks a source route, `@a.example,@b.example:`, and returns what follows it.
func skipRoute(s string, lax bool) (rest string, f fault) {
	// Neither the names of a route nor what separates them contain a colon.
	route, rest, ok := strings.Cut(s, ":")
	if !ok {
		return "", faultRoute
	}
	for hop := range strings.SplitSeq(route, ",") {
		if len(hop) < 2 || hop[0] != '@' || hop[1] == '[' {
			return "", faultRoute
		}
		if _, f := parseDomain(hop[1:], lax); f == faultUTF8 {
			return "", f
		} else if f != "" {
			return "", faultRoute
		}
	}
	return rest, ""
}

// cutMailbox parses the mailbox at the beginning of s into a, which is zero. The mailbox ends before the octet stop, or
// at the end of s if stop is zero or missing. If there is only a local part, a has that, and there is faultNoDomain. If
// there is another fault, a is of no use.
func cutMailbox(a *Address, s string, stop byte, lax bool) (rest string, f fault) {
	if strings.HasPrefix(s, `"`) {
		a.Local, rest, f = scanQuoted(s)
	} else {
		a.Local, rest, f = scanDotString(s, lax)
	}
	switch {
	case f != "":
		return "", f
	case len(a.Local) > maxLocal:
		return "", faultLocalLong
	case rest == "" || rest[0] == stop:
		return rest, faultNoDomain
	case rest[0] != '@':
		return "", faultLocalChar
	}
	end := len(rest)
	if stop != 0 {
		if i := strings.IndexByte(rest, stop); i >= 0 {
			end = i
		}
	}
	if a.Domain, f = parseDomain(rest[1:end], lax); f != "" {
		return "", f
	}
	return rest[end:], ""
}

// scanDotString cuts s after the dot-string at its beginning.
func scanDotString(s string, lax bool) (local, rest string, f fault) {
	i := 0
	dot := true // whether a dot here would have no atom before it
scan:
	for i < len(s) {
		switch c := s[i]; {
		case c == '.' && dot && !lax:
			return "", "", faultLocalDot
		case c == '.' || isAtext(c):
			dot = c == '.'
			i++
		case c >= utf8.RuneSelf:
			_, n := utf8.DecodeRuneInString(s[i:])
			if n == 1 {
				return "", "", faultUTF8
			}
			dot = false
			i += n
		default:
			break scan
		}
	}
	switch {
	case i == 0 && (s == "" || s[0] == '@' || s[0] == '>'):
		return "", "", faultLocalEmpty
	case i == 0:
		return "", "", faultLocalChar
	case dot && !lax:
		return "", "", faultLocalDot
	}
	return s[:i], s[i:], ""
}

// scanQuoted cuts s after the quoted string at its beginning, and decodes the string. UTF-8 may stand in it, but not
// behind a backslash (RFC 6531 section 3.3).
func scanQuoted(s string) (local, rest string, f fault) {
	var decoded []byte // up to start
	start := 1
	for i := 1; i < len(s); {
		switch c := s[i]; {
		case c == '"':
			if decoded == nil {
				local = s[start:i]
			} else {
				local = string(append(decoded, s[start:i]...))
			}
			if local == "" {
				return "", "", faultLocalEmpty // allowed by RFC 5321, and certainly a mistake
			}
			return local, s[i+1:], ""
		case c == '\\':
			if i+1 == len(s) || s[i+1] < ' ' || s[i+1] > '~' {
				return "", "", faultQuotedPair
			}
			decoded = append(decoded, s[start:i]...)
			start = i + 1
			i += 2
		case c >= utf8.RuneSelf:
			_, n := utf8.DecodeRuneInString(s[i:])
			if n == 1 {
				return "", "", faultUTF8
			}
			i += n
		case c < ' ' || c == 0x7f:
			return "", "", faultControl
		default:
			i++
		}
	}
	return "", "", faultQuote
}

// isAtext reports whether c is an atext of RFC 5322 section 3.2.3.
func isAtext(c byte) bool { return classes[c]&atext != 0 }

// The classes of octets.
const (
	alnum = 1 << iota // a letter or a digit
	atext             // an atext of RFC 5322 section 3.2.3
)

// classes has the classes of each octet.
var classes = func() (t [256]uint8) {
	for c := range t {
		switch c := byte(c); {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			t[c] = alnum | atext
		case strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0:
			t[c] = atext
		}
	}
	return t
}()
