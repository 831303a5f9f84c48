package mtasts

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"smtpkit.example/smtp/ext/dns"
)

// A Mode says what a sender does if a host fails the policy (RFC 8461 section 5).
type Mode string

// The modes. There are no others.
const (
	Enforce Mode = "enforce" // the host is not used
	Testing Mode = "testing" // the host is used, and the failure reported
	None    Mode = "none"    // as if there were no policy
)

// MaxMaxAge is the longest life of a policy (RFC 8461 section 3.2). A policy that states more lives as long as this.
const MaxMaxAge = 31557600 * time.Second

// MaxPolicySize is how many octets a policy has at most (RFC 8461 section 3.3). Larger ones are errors.
const MaxPolicySize = 64 << 10

// A Policy is what a domain states about the hosts that take its mail (RFC 8461 section 3.2). It is shared by all who
// ask for it, and must not be changed.
type Policy struct {
	// Mode is Enforce, Testing or None.
	Mode Mode
	// MX has the patterns for the names of MX hosts: "mail.example.com", or "*.example.com" for exactly one label in
	// place of the "*". [Parse] writes them in A-labels and lower case, without a dot at the end.
	MX []string
	// MaxAge is for how long the policy applies, from the time of its fetch.
	MaxAge time.Duration
}

// Parse parses a policy as a domain serves it (RFC 8461 section 3.2).
//
// Lines end with LF or CRLF and stand in any order. An empty line is ignored, and so is a line with an unknown name.
// Of a line that may stand only once the first counts. A pattern in U-labels, which the RFC forbids, is converted.
func Parse(text []byte) (*Policy, error) {
	if len(text) > MaxPolicySize {
		return nil, fmt.Errorf("smtp: the MTA-STS policy has more than %d octets", MaxPolicySize)
	}
	p := new(Policy)
	seen := make(map[string]bool, 3)
	n := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		n++
		key, value, err := parseLine(line)
		if err == nil && key != "" && !seen[key] {
			err = p.set(key, value, seen)
		}
		if err != nil {
			return nil, fmt.Errorf("smtp: line %d of the MTA-STS policy: %w", n, err)
		}
	}
	for _, key := range []string{"version", "mode", "max_age"} {
		if !seen[key] {
			return nil, fmt.Errorf("smtp: the MTA-STS policy has no line %q", key)
		}
	}
	if len(p.MX) == 0 && p.Mode != None {
		return nil, errors.New(`smtp: the MTA-STS policy has no line "mx"`)
	}
	return p, nil
}

// parseLine parses a line without its LF. An empty line has no key.
func parseLine(line []byte) (key, value string, err error) {
	s := strings.TrimRight(strings.TrimSuffix(string(line), "\r"), " \t")
	if s == "" {
		return "", "", nil
	}
	key, value, ok := strings.Cut(s, ":")
	if !ok || !isName(key) {
		return "", "", errors.New("it is not a name, a colon and a value")
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(strings.Trim(value, " \t"), isControl) {
		return "", "", errors.New("its value has control characters or is not UTF-8")
	}
	return key, strings.TrimLeft(value, " \t"), nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7F }

// isName reports whether s is the name of a field of a policy or of a TXT record. Both have the same syntax.
func isName(s string) bool {
	if s == "" || len(s) > 32 || !isAlnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// set takes the value of a line. It adds the key to seen if other lines with it do not count.
func (p *Policy) set(key, value string, seen map[string]bool) error {
	switch key {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("version %q is not STSv1", value)
		}
	case "mode":
		p.Mode = Mode(value)
		if p.Mode != Enforce && p.Mode != Testing && p.Mode != None {
			return fmt.Errorf("mode %q is not enforce, testing or none", value)
		}
	case "max_age":
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil || len(value) > 10 {
			return fmt.Errorf("max_age %q is not a number of 1 to 10 digits", value)
		}
		p.MaxAge = time.Duration(min(seconds, uint64(MaxMaxAge/time.Second))) * time.Second
	case "mx":
		pattern, ok := normalPattern(value)
		if !ok {
			return fmt.Errorf("mx %q is not a host, nor a wildcard such as *.example.com", value)
		}
		p.MX = append(p.MX, pattern)
		return nil
	default:
		return nil
	}
	seen[key] = true
	return nil
}

// normalPattern returns a pattern in A-labels and lower case, without the dot at its end.
func normalPattern(pattern string) (string, bool) {
	host, wildcard := strings.CutPrefix(pattern, "*.")
	host, ok := dns.Normal(host)
	if !ok || !isHost(host) {
		return "", false
	}
	if wildcard {
		host = "*." + host
	}
	return host, true
}

// isHost reports whether a normal name consists of labels that hosts have. Underscores are none of those, but there are
// hosts with them.
func isHost(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// Matches reports whether an MX host has a name that the policy permits (RFC 8461 section 4.1). Case, the dot at the
// end, and the form of labels make no difference. The name is that in the MX record, not the end of its aliases. What
// the Mode says about a host that does not match is up to the caller.
func (p *Policy) Matches(host string) bool {
	host, ok := dns.Normal(host)
	if !ok || !isHost(host) {
		return false
	}
	_, parent, _ := strings.Cut(host, ".")
	for _, pattern := range p.MX {
		pattern, ok := normalPattern(pattern)
		if !ok {
			continue
		}
		suffix, wildcard := strings.CutPrefix(pattern, "*.")
		if wildcard && suffix == parent || !wildcard && suffix == host {
			return true
		}
	}
	return false
}

// Lines returns the policy line by line, as reports have it in policy-string (RFC 8460 section 4.4).
func (p *Policy) Lines() []string {
	lines := make([]string, 0, len(p.MX)+3)
	lines = append(lines, "version: STSv1", "mode: "+string(p.Mode))
	for _, pattern := range p.MX {
		lines = append(lines, "mx: "+pattern)
	}
	return append(lines, "max_age: "+strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
}
