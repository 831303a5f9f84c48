package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// maxUDP is the size of UDP messages that no network cuts into fragments (RFC 9715 section 3.1, DNS Flag Day 2020).
	maxUDP = 1232
	// maxAliases is how many CNAME records are followed for one question. BIND and Unbound follow 11 to 17.
	maxAliases = 12
	// maxNote is how many octets of a server's own words come into an error.
	maxNote = 120
)

// A question is what is asked for, and the key of what is known. Its name is in the form of Normal.
type question struct {
	name string
	t    Type
}

// pack returns the query for q.
func (q question) pack(id uint16, edns bool) ([]byte, error) {
	name, err := dnsmessage.NewName(strings.TrimSuffix(q.name, ".") + ".")
	if err != nil {
		return nil, err
	}
	// AD asks for the AD bit of the answer (RFC 6840 section 5.7).
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true, AuthenticData: edns})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	err = b.Question(dnsmessage.Question{Name: name, Type: dnsmessage.Type(q.t), Class: dnsmessage.ClassINET})
	if err != nil {
		return nil, err
	}
	if edns {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(maxUDP, dnsmessage.RCodeSuccess, true); err != nil {
			return nil, err
		}
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		if err := b.OPTResource(h, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// A response is what a server has said.
type response struct {
	rcode     dnsmessage.RCode
	truncated bool
	authentic bool // the AD bit, whoever says so
	edns      bool
	useless   bool   // neither records nor a word that there are none: the server does not look for them
	bogus     bool   // an extended error says so
	note      string // the server's own words

	answer  Answer // without Authentic
	aliases int    // how many the answer follows
	next    string // the alias at the end of the chain, if the message has nothing about it
}

var (
	errNotOurs   = errors.New("smtp: it answers another question")
	errMalformed = errors.New("smtp: the answer is malformed")
)

func malformed(why string) error { return fmt.Errorf("%w: %s", errMalformed, why) }

// parse reads a message that may answer q. The error is errNotOurs, or wraps errMalformed.
func parse(msg []byte, id uint16, q question) (*response, error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.ID != id || !h.Response || h.OpCode != 0 {
		return nil, errNotOurs
	}
	r := &response{rcode: h.RCode, truncated: h.Truncated, authentic: h.AuthenticData}
	asked, err := p.Question()
	if err == dnsmessage.ErrSectionDone && h.RCode == dnsmessage.RCodeFormatError {
		return r, nil // a server that could not read the question cannot repeat it
	}
	if err != nil || key(asked.Name) != q.name || Type(asked.Type) != q.t || asked.Class != dnsmessage.ClassINET {
		return nil, errNotOurs
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return nil, malformed("it has several questions")
	}
	if r.truncated {
		return r, nil // what it has may be a part only (RFC 2181 section 9)
	}
	records, err := parseAnswers(&p, q.t)
	if err != nil {
		return nil, err
	}
	denials, err := parseAuthorities(&p)
	if err != nil {
		return nil, err
	}
	if err := r.parseAdditionals(&p); err != nil {
		return nil, err
	}
	if r.rcode != dnsmessage.RCodeSuccess && r.rcode != dnsmessage.RCodeNameError {
		return r, nil
	}
	if err := r.follow(q, records, denials); err != nil {
		return nil, err
	}
	r.useless = !h.Authoritative && !h.RecursionAvailable && r.answer.Empty() && r.aliases == 0
	return r, nil
}

// A resource is a record of a message, as far as it is of use.
type resource struct {
	t     Type
	ttl   time.Duration
	alias string // for CNAME, as key returns it
	into  func(*Answer)
}

// parseAnswers reads the answer section. It returns the records of type t and the aliases, by their owner.
func parseAnswers(p *dnsmessage.Parser, t Type) (map[string][]resource, error) {
	records := map[string][]resource{}
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return records, nil
		}
		if err != nil {
			return nil, malformed(err.Error())
		}
		of := Type(h.Type)
		if h.Class != dnsmessage.ClassINET || of != t && of != CNAME {
			if err := p.SkipAnswer(); err != nil {
				return nil, malformed(err.Error())
			}
			continue
		}
		r := resource{t: of, ttl: seconds(h.TTL)}
		if err := r.parse(p, h); err != nil {
			return nil, malformed(err.Error())
		}
		owner := key(h.Name)
		records[owner] = append(records[owner], r)
	}
}

// parse reads the data of one record.
func (r *resource) parse(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) error {
	switch r.t {
	case A:
		body, err := p.AResource()
		addr := netip.AddrFrom4(body.A)
		r.into = func(a *Answer) { a.Addrs = append(a.Addrs, addr) }
		return sized(h, 4, err)
	case AAAA:
		body, err := p.AAAAResource()
		addr := netip.AddrFrom16(body.AAAA)
		r.into = func(a *Answer) { a.Addrs = append(a.Addrs, addr) }
		return sized(h, 16, err)
	case CNAME:
		body, err := p.CNAMEResource()
		r.alias = key(body.CNAME)
		r.into = func(a *Answer) { a.Names = append(a.Names, printable(r.alias)) }
		return err
	case PTR:
		body, err := p.PTRResource()
		name := printable(key(body.PTR))
		r.into = func(a *Answer) { a.Names = append(a.Names, name) }
		return err
	case MX:
		body, err := p.MXResource()
		mx := MailExchange{Preference: body.Pref, Host: printable(key(body.MX))}
		r.into = func(a *Answer) { a.MX = append(a.MX, mx) }
		return err
	case TXT:
		body, err := p.TXTResource()
		text := strings.Join(body.TXT, "")
		r.into = func(a *Answer) { a.TXT = append(a.TXT, text) }
		return err
	case TLSA:
		body, err := p.UnknownResource()
		if err != nil || len(body.Data) < 3 {
			return errors.Join(errors.New("a TLSA record is too short"), err)
		}
		d := body.Data
		record := Association{Usage: d[0], Selector: d[1], Matching: d[2], Data: d[3:]}
		r.into = func(a *Answer) { a.TLSA = append(a.TLSA, record) }
		return nil
	}
	_, err := p.UnknownResource()
	r.into = func(*Answer) {}
	return err
}

func sized(h dnsmessage.ResourceHeader, want uint16, err error) error {
	if err == nil && h.Length != want {
		return errors.New("an address has a wrong length")
	}
	return err
}

// A denial is an SOA record in the authority section: there are no such records at names in this zone.
type denial struct {
	zone string
	ttl  time.Duration // for how long that holds (RFC 2308 section 5)
}

func parseAuthorities(p *dnsmessage.Parser) ([]denial, error) {
	var denials []denial
	for {
		h, err := p.AuthorityHeader()
		if err == dnsmessage.ErrSectionDone {
			return denials, nil
		}
		if err != nil {
			return nil, malformed(err.Error())
		}
		if h.Type != dnsmessage.TypeSOA || h.Class != dnsmessage.ClassINET {
			if err := p.SkipAuthority(); err != nil {
				return nil, malformed(err.Error())
			}
			continue
		}
		soa, err := p.SOAResource()
		if err != nil {
			return nil, malformed(err.Error())
		}
		denials = append(denials, denial{key(h.Name), min(seconds(h.TTL), seconds(soa.MinTTL))})
	}
}

// parseAdditionals looks for the OPT record: the rest of the response code, and extended errors (RFC 8914).
func (r *response) parseAdditionals(p *dnsmessage.Parser) error {
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return nil
		}
		if err != nil {
			return malformed(err.Error())
		}
		if h.Type != dnsmessage.TypeOPT {
			if err := p.SkipAdditional(); err != nil {
				return malformed(err.Error())
			}
			continue
		}
		opt, err := p.OPTResource()
		if err != nil {
			return malformed(err.Error())
		}
		if r.edns {
			return malformed("it has several OPT records") // RFC 6891 section 6.1.1
		}
		r.edns = true
		r.rcode = h.ExtendedRCode(r.rcode)
		for _, o := range opt.Options {
			if o.Code == 15 && len(o.Data) >= 2 {
				r.extended(binary.BigEndian.Uint16(o.Data), string(o.Data[2:]))
			}
		}
	}
}

// extended takes in an extended error (RFC 8914 section 4).
func (r *response) extended(code uint16, text string) {
	// DNSSEC Bogus, Signature Expired, Signature Not Yet Valid, DNSKEY Missing, RRSIGs Missing, No Zone Key Bit Set,
	// NSEC Missing
	if 6 <= code && code <= 12 {
		r.bogus = true
	}
	r.note = fmt.Sprintf("extended error %d", code)
	if text != "" {
		r.note += ", " + strings.Map(func(c rune) rune {
			if c < ' ' || c > '~' {
				return '?'
			}
			return c
		}, text[:min(len(text), maxNote)])
	}
}

// follow finds the answer to q among records, along the chain of aliases. Records of other names are not looked at.
func (r *response) follow(q question, records map[string][]resource, denials []denial) error {
	name := q.name
	r.answer.TTL = seconds(1<<31 - 1)
	for {
		found := false
		var alias *resource
		for i := range records[name] {
			record := &records[name][i]
			switch record.t {
			case q.t:
				found = true
				record.into(&r.answer)
				r.answer.TTL = min(r.answer.TTL, record.ttl)
			default:
				if alias != nil && alias.alias != record.alias {
					return malformed("a name has several aliases")
				}
				alias = record
			}
		}
		if found || alias == nil {
			break
		}
		if r.aliases++; r.aliases > maxAliases {
			return malformed("the chain of aliases (CNAME) is too long or has no end")
		}
		r.answer.TTL = min(r.answer.TTL, alias.ttl)
		name = alias.alias
	}
	r.answer.Name = printable(name)
	r.answer.NoName = r.rcode == dnsmessage.RCodeNameError
	if !r.answer.Empty() {
		if r.answer.NoName {
			return malformed("it has records of a name that it denies")
		}
		return nil
	}
	ttl, denied := time.Duration(0), false
	for _, d := range denials {
		if within(name, d.zone) {
			ttl, denied = d.ttl, true
		}
	}
	if !denied && r.aliases > 0 && !r.answer.NoName {
		r.next = name // RFC 7672 section 2.1.3
		return nil
	}
	r.answer.TTL = min(r.answer.TTL, ttl)
	return nil
}

// within reports whether name is zone or below it.
func within(name, zone string) bool {
	return zone == "." || name == zone || strings.HasSuffix(name, "."+zone)
}

// seconds returns a TTL. One with the highest bit set is zero (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl >= 1<<31 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// key returns a name of a message in lower case, without the dot at its end. It may have any octets.
func key(n dnsmessage.Name) string {
	if n.Length <= 1 {
		return "."
	}
	name := n.Data[:n.Length-1]
	lower := make([]byte, len(name))
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return string(lower)
}

// printable writes octets that no host name has, and that could harm a log or a command, as RFC 1035 section 5.1 does.
func printable(s string) string {
	odd := func(c byte) bool { return c <= ' ' || c >= 0x7f || c == '\\' || c == '"' }
	count := 0
	for i := range len(s) {
		if odd(s[i]) {
			count++
		}
	}
	if count == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+3*count)
	for i := range len(s) {
		if odd(s[i]) {
			b = fmt.Appendf(b, "\\%03d", s[i])
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}
