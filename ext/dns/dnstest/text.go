package dnstest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

// types has the types by their names in a text.
var types = map[string]dns.Type{
	"A": dns.A, "CNAME": dns.CNAME, "PTR": dns.PTR, "MX": dns.MX, "TXT": dns.TXT, "AAAA": dns.AAAA, "TLSA": dns.TLSA,
	"ANY": Any,
}

// parse reads a text: see the package's documentation.
func parse(text string) (map[question]*set, error) {
	sets := map[question]*set{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		words, err := split(line)
		if err == nil && len(words) > 0 {
			err = parseLine(sets, words)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d, %q: %w", number, strings.TrimSpace(line), err)
		}
	}
	return sets, nil
}

// A word is a part of a line, in quotes or not.
type word struct {
	text   string
	quoted bool
}

// split cuts a line into words, as RFC 1035 section 5.1 describes. A comment begins with ";".
func split(line string) ([]word, error) {
	var words []word
	for {
		line = strings.TrimLeft(line, " \t\r\n")
		if line == "" || line[0] == ';' {
			return words, nil
		}
		if line[0] != '"' {
			i := strings.IndexAny(line, " \t\r\n;\"")
			if i < 0 {
				i = len(line)
			}
			words = append(words, word{text: line[:i]})
			line = line[i:]
			continue
		}
		var text []byte
		i := 1
		for ; i < len(line) && line[i] != '"'; i++ {
			c := line[i]
			if c == '\\' && i+1 < len(line) {
				i++
				c = line[i]
				if i+2 < len(line) {
					if n, err := strconv.ParseUint(line[i:i+3], 10, 8); err == nil {
						c = byte(n)
						i += 2
					}
				}
			}
			text = append(text, c)
		}
		if i >= len(line) {
			return nil, errors.New(`the quote (") has no end`)
		}
		words = append(words, word{string(text), true})
		line = line[i+1:]
	}
}

// parseLine reads "name [TTL] [IN] type data".
func parseLine(sets map[question]*set, words []word) error {
	name, ok := dns.Normal(words[0].text)
	if !ok || words[0].quoted {
		return fmt.Errorf("%s is not a domain name", words[0].text)
	}
	rec := record{ttl: unset}
	words = words[1:]
	for len(words) > 0 {
		seconds, err := strconv.ParseUint(words[0].text, 10, 31)
		if err == nil && rec.ttl == unset {
			rec.ttl = time.Duration(seconds) * time.Second
		} else if !strings.EqualFold(words[0].text, "IN") {
			break
		}
		words = words[1:]
	}
	if len(words) < 2 {
		return errors.New("want a name, a type and data")
	}
	if rec.t, ok = types[strings.ToUpper(words[0].text)]; !ok {
		return fmt.Errorf("%s is not a type known here: use %s", words[0].text,
			strings.Join(slices.Sorted(maps.Keys(types)), ", "))
	}
	q := question{name, rec.t}
	if sets[q] == nil {
		sets[q] = &set{}
	}
	s := sets[q]
	data := words[1:]
	fault := faults[strings.ToUpper(data[0].text)]
	switch {
	case len(data) == 1 && !data[0].quoted && fault != none:
		s.fault = fault
	case rec.t == Any:
		return errors.New("ANY is for a fault, such as SERVFAIL")
	default:
		if err := rec.parse(data); err != nil {
			return err
		}
		s.records = append(s.records, rec)
	}
	if s.fault != none && len(s.records) > 0 {
		return errors.New("there are records and a fault of the same name and type")
	}
	if rec.t == dns.CNAME && len(s.records) > 1 {
		return errors.New("there is more than one CNAME of this name")
	}
	return nil
}

// parse reads the data of a record of type rec.t.
func (rec *record) parse(data []word) (err error) {
	want := map[dns.Type]int{dns.A: 1, dns.AAAA: 1, dns.CNAME: 1, dns.PTR: 1, dns.MX: 2, dns.TLSA: 4}[rec.t]
	if want != 0 && len(data) != want && (rec.t != dns.TLSA || len(data) < want) {
		return fmt.Errorf("want %d words after the type, not %d", want, len(data))
	}
	ok := true
	switch rec.t {
	case dns.A, dns.AAAA:
		rec.addr, err = netip.ParseAddr(data[0].text)
		ok = rec.addr.Is4() == (rec.t == dns.A) && rec.addr.Zone() == ""
	case dns.CNAME, dns.PTR:
		rec.name, ok = dns.Normal(data[0].text)
	case dns.MX:
		rec.mx.Preference, err = number[uint16](data[0].text, 16)
		rec.mx.Host, ok = dns.Normal(data[1].text)
	case dns.TLSA:
		for i, field := range []*uint8{&rec.tlsa.Usage, &rec.tlsa.Selector, &rec.tlsa.Matching} {
			if err == nil {
				*field, err = number[uint8](data[i].text, 8)
			}
		}
		var digits string
		for _, w := range data[3:] {
			digits += w.text
		}
		if err == nil {
			rec.tlsa.Data, err = hex.DecodeString(digits)
		}
	case dns.TXT:
		for _, w := range data {
			if !w.quoted {
				return fmt.Errorf(`put the text in quotes: "%s"`, w.text)
			}
			rec.txt = append(rec.txt, w.text)
		}
	}
	if err == nil && !ok {
		err = fmt.Errorf("%s is not what the type needs", data[len(data)-1].text)
	}
	return err
}

func number[T uint8 | uint16](text string, bits int) (T, error) {
	n, err := strconv.ParseUint(text, 10, bits)
	return T(n), err
}
