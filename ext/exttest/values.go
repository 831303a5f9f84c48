package exttest

import (
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// common has values that many parameters accept.
var common = []string{"1", "x", "a@b.example", "2030-01-01T00:00:00Z", "rfc822;a@b.example", "10;R", "<>", "YES", "a:b",
	"c0ffee"}

// valid returns parameters, p among them, that a server has to accept. FromSample reports whether a sample has them.
func (s *suite) valid(st *setting, samples func(*Sample) []string, p *ext.Param) (list []string, fromSample bool) {
	for i := range s.samples {
		for _, text := range samples(&s.samples[i]) {
			if has := parse(text).Has(p.Key); has {
				fromSample = true
				if &s.samples[i] == st.sample {
					list = append(list, text)
				}
			}
		}
	}
	if fromSample {
		return list, true
	}
	switch {
	case p.Flag:
		return []string{p.Key}, false
	case p.Values != nil:
		for _, v := range p.Values {
			list = append(list, p.Key+"="+v)
		}
		return list, false
	}
	for _, v := range common {
		if p.Check == nil || s.accepts(p, v) {
			return []string{p.Key + "=" + v}, false
		}
	}
	return nil, false
}

// accepts reports whether Check of p accepts value.
func (s *suite) accepts(p *ext.Param, value string) bool {
	ok := false
	s.completes(func() {
		defer s.recovered("Check of "+p.Key+", for "+clip(value)+",", nil)
		ok = p.Check(value) == nil
	})
	return ok
}

// parse parses parameters as they stand in a command. It returns nil if they are malformed.
func parse(text string) proto.Params {
	_, p, err := proto.ParseMailArgs([]byte("FROM:<> "+text), false)
	if err != nil {
		return nil
	}
	return p
}

// isValue reports whether s can be the value of a parameter: printable ASCII without "=", or UTF-8 (RFC 6531 section
// 3.3).
func isValue(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == '=' || s[i] == 0x7f {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}

// values calls the Checks with values of all kinds.
func (s *suite) values() {
	for _, c := range []struct {
		params  []ext.Param
		samples func(*Sample) []string
	}{
		{s.e.Mail, func(x *Sample) []string { return slices.Concat(x.Mail, x.BadMail) }},
		{s.e.Rcpt, func(x *Sample) []string { return slices.Concat(x.Rcpt, x.BadRcpt) }},
	} {
		for i := range c.params {
			p := &c.params[i]
			if p.Check == nil {
				continue
			}
			seeds := slices.Concat(common, p.Values)
			for j := range s.samples {
				for _, text := range c.samples(&s.samples[j]) {
					if v, ok := parse(text).Get(p.Key); ok {
						seeds = append(seeds, v)
					}
				}
			}
			s.check(p, hostile(seeds, p.MaxLength))
		}
	}
}

// check calls the Check of p twice with each value, the second time in another order.
func (s *suite) check(p *ext.Param, list []string) {
	first := make(map[string]string, len(list))
	ok := s.completes(func() {
		for range 2 {
			for _, at := range list {
				again := s.verdict(p, at)
				if before, seen := first[at]; seen && again != before {
					s.broken(ruleValue, "Check of %s answers once %q and once %q to %s: let it depend on nothing "+
						"but the value", p.Key, before, again, clip(at))
					return
				}
				first[at] = again
			}
			slices.Reverse(list)
		}
	})
	if !ok {
		s.broken(ruleValue, "Check of %s does not return for one of %d values, the longest of which have 64 KiB: "+
			"bound what it does", p.Key, len(list))
	}
}

// verdict calls the Check of p. It returns the text of the refusal, or "" if Check accepts the value.
func (s *suite) verdict(p *ext.Param, value string) string {
	defer s.recovered("Check of "+p.Key+", for "+clip(value)+",", nil)
	err := p.Check(value)
	if err == nil {
		return "" // or value is none that the grammar permits: a command with it is refused anyway
	}
	text := strings.TrimPrefix(err.Error(), "smtp: ")
	if e, ok := grammar.AsType[*proto.Error](err); ok {
		text = e.Text
	}
	if text == "" {
		s.broken(ruleReply, "Check of %s refuses %s without a text: say what the value has to be", p.Key, clip(value))
		return "(refused)"
	}
	// A server folds a long text. It replaces by question marks what a text repeats of a value that is not ASCII.
	if isPrintable(value) && strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		s.broken(ruleReply, "Check of %s refuses %s with a text that cannot be sent in a line of a reply, %s: say in "+
			"printable ASCII what the value has to be", p.Key, clip(value), clip(text))
	}
	return text
}

// hostile returns values of all kinds. Most are seeds with mistakes in them.
func hostile(seeds []string, length int) []string {
	list := []string{
		"", " ", "=", "==", "\x00", "\r\n", "a\r\nRCPT TO:<x@y.example>", "\n", "\t", "+", "+4", "+ZZ", "+0D+0A", "+00", "%s%n",
		";", ":", ",", ",,,", "@", "<", "<>", ">", "\"", "\\", "-", "--", ".", "/", "0", "-0", "-1", "00", "1e9", "0x1",
		"é", "\xff", "\xc3", "٣", "１", "\u2028", "\u200f", "99999999999999999999999999", "-99999999999999999999",
		"0000-00-00T00:00:00Z", "9999-99-99T99:99:99Z",
	}
	for _, c := range "a9+;,:@<.-é" {
		for _, n := range []int{length, 100, 1 << 12, 1 << 16} {
			list = append(list, strings.Repeat(string(c), n))
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2)) // the same values each time
	for _, seed := range seeds {
		list = append(list, seed, seed+seed, strings.ToLower(seed), strings.ToUpper(seed))
		for i := range min(len(seed), 64) + 1 {
			i = min(i, len(seed))
			list = append(list, seed[:i], seed[i:])
			for _, c := range []string{"\x00", "\r\n", "\n", " ", "=", "\x7f", "é", "\xff", "+", ";"} {
				list = append(list, seed[:i]+c+seed[i:])
			}
		}
		for range 200 {
			b := []byte(seed)
			for range 1 + rnd.IntN(4) {
				b = mutate(rnd, b)
			}
			list = append(list, string(b))
		}
	}
	for range 500 {
		b := make([]byte, rnd.IntN(length+8))
		for i := range b {
			b[i] = byte(' ' + 1 + rnd.IntN('~'-' '))
		}
		list = append(list, string(b))
	}
	return list
}

// mutate returns b with a mistake in it.
func mutate(rnd *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return []byte{byte(rnd.IntN(256))}
	}
	i := rnd.IntN(len(b))
	switch rnd.IntN(4) {
	case 0:
		b[i] = byte(rnd.IntN(256))
	case 1:
		b[i] = byte('!' + rnd.IntN('~'-'!'))
	case 2:
		return slices.Delete(b, i, i+1)
	default:
		return slices.Insert(b, i, b[rnd.IntN(len(b))])
	}
	return b
}
