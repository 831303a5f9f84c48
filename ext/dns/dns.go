package dns

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// A Resolver answers questions about the DNS. [Stub] is the one for production, [FromNet] makes one of a net.Resolver,
// and package dnstest has one for tests. Its method may be called by several goroutines at once.
type Resolver interface {
	// Lookup asks for the records of one type that a name has. It follows aliases (CNAME), unless t is CNAME.
	//
	// The name is in any case, with or without the dot at its end, in A-labels or U-labels. A name without records of the
	// type is an answer without records, and so is a name that does not exist: Answer.NoName tells them apart. An error
	// means that there is no answer now: it is an [*Error], or wraps that of ctx.
	Lookup(ctx context.Context, name string, t Type) (*Answer, error)
}

// A Type is a type of records. Its value is the number that IANA has given it.
type Type uint16

// The types that mail needs.
const (
	A     Type = 1
	CNAME Type = 5
	PTR   Type = 12
	MX    Type = 15
	TXT   Type = 16
	AAAA  Type = 28
	TLSA  Type = 52
)

// String returns the name of t, such as "MX".
func (t Type) String() string {
	switch t {
	case A:
		return "A"
	case CNAME:
		return "CNAME"
	case PTR:
		return "PTR"
	case MX:
		return "MX"
	case TXT:
		return "TXT"
	case AAAA:
		return "AAAA"
	case TLSA:
		return "TLSA"
	}
	return "TYPE" + itoa(uint16(t)) // RFC 3597 section 5
}

func itoa(n uint16) string {
	var b [5]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// An Answer has the records of one type at one name. It is shared by all who ask, and must not be changed.
type Answer struct {
	// Name is the name that has the records, or that would have them: the name asked for, or the one at the end of the
	// chain of aliases. It is in the form that [Normal] returns.
	Name string
	// NoName says that Name does not exist (NXDOMAIN).
	NoName bool
	// Authentic says that DNSSEC proves the answer, all of the chain included, or that there are no records. It is set
	// only if the resolver can be trusted to have validated it (RFC 4035 section 3.2.3).
	Authentic bool
	// TTL is for how long the answer may be used. Zero means for this time only, or unknown.
	TTL time.Duration

	// The records, in the field for their type.

	Addrs []netip.Addr   // A, AAAA
	MX    []MailExchange // MX
	TXT   []string       // TXT: the strings of each record, joined
	TLSA  []Association  // TLSA
	Names []string       // CNAME, PTR, in the form of Normal
}

// Empty reports whether there are no records.
func (a *Answer) Empty() bool {
	return len(a.Addrs)+len(a.MX)+len(a.TXT)+len(a.TLSA)+len(a.Names) == 0
}

// A MailExchange is an MX record (RFC 5321 section 5.1).
type MailExchange struct {
	Preference uint16 // lower numbers are preferred
	Host       string // in the form of Normal; "." for the null MX of RFC 7505
}

// An Association is a TLSA record: what a certificate has to match (RFC 6698 section 2.1).
type Association struct {
	Usage    uint8  // 0 PKIX-TA, 1 PKIX-EE, 2 DANE-TA, 3 DANE-EE
	Selector uint8  // 0 the whole certificate, 1 its public key
	Matching uint8  // 0 as it is, 1 SHA-256, 2 SHA-512
	Data     []byte // what is compared
}

// String returns the record in the form of a zone file (RFC 6698 section 2.2), such as "3 1 1 8CB0FC6C…".
func (a Association) String() string {
	return fmt.Sprintf("%d %d %d %X", a.Usage, a.Selector, a.Matching, a.Data)
}

// Normal returns name in the form in which packages of this library have names: A-labels in lower case, without the dot
// at the end. The root is ".". It returns false if name cannot be one: it is empty, has an empty label, a label of more
// than 63 octets, or more than 253 in all (RFC 1035 section 2.3.4). Labels may have any other octets, such as "_".
func Normal(name string) (string, bool) {
	if name == "." {
		return name, true
	}
	name, ok := toASCII(strings.TrimSuffix(name, "."))
	if !ok || name == "" || len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", false
		}
	}
	return strings.ToLower(name), true
}

// dots has the other characters that end a label (RFC 3490 section 3.1).
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

// toASCII turns U-labels into A-labels. The others stay as they are, since "_25" and "*" are no labels of IDNA.
func toASCII(name string) (string, bool) {
	if !strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		return name, true
	}
	if len(name) > 4*253 || !utf8.ValidString(name) {
		return "", false
	}
	labels := strings.Split(dots.Replace(name), ".")
	for i, label := range labels {
		if strings.ContainsFunc(label, func(r rune) bool { return r >= 0x80 }) {
			ascii, err := idna.Lookup.ToASCII(label)
			if err != nil || strings.Contains(ascii, ".") {
				return "", false
			}
			labels[i] = ascii
		}
	}
	return strings.Join(labels, "."), true
}
