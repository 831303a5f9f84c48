package tracefield

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// A Received is the content of a Received field: how a message came to a server (RFC 5321 section 4.4). A server fills
// one with server.Received, and a program of another kind by hand.
//
// All text may come from a stranger. A clause whose text its grammar does not admit is written as a comment, such as
// "(helo=my_pc)", without control characters. Text of more than 255 octets is cut off there. The field has at most 10
// KiB, and no line of it more than 998 octets.
type Received struct {
	// Hello is the argument of EHLO, HELO or LHLO as the client gave it. "" if it gave none.
	Hello string
	// Addr is the client's address, as the server knows it from the connection. The zero value is an address that is not
	// known, or that is none, as over a Unix socket.
	Addr netip.Addr
	// Name is the name of the client's host, if the server has verified that it belongs to Addr. Default: none.
	Name string
	// By is the name of the server. What is neither a domain name nor an address literal becomes "localhost".
	By string
	// Via is the link, such as "UUCP". Leave it empty on the Internet.
	Via string
	// With is the protocol, such as "ESMTPSA" (RFC 3848) or "UTF8SMTPS" (RFC 6531 section 4.3).
	With string
	// ID is by what the server's log calls the message: letters, digits and hyphens, or a msg-id such as
	// "<1234@mail.example>".
	ID string
	// For is the recipient, if there is one alone. The zero value leaves the clause out, which has to be so if there are
	// several: one of them may be a blind copy (RFC 5321 section 7.2). It is left out, too, if the field is not in
	// UTF-8 and the address is, and for the postmaster without a domain.
	For proto.Address
	// TLS is the cipher suite by its name in the registry, such as "TLS_AES_128_GCM_SHA256", or by its number in the form
	// "0x1301" (RFC 8314 section 4.3). Group is the group of the key exchange, such as "x25519", and needs TLS. SetTLS
	// sets both.
	TLS, Group string
	// Priority is the message's priority, from -9 to 9, nil for none (RFC 6710 section 4.1). SetPriority sets it.
	Priority *int
	// Comments are added in front of the date, at most 8 of them. Everybody who gets the message can read them.
	Comments []string
	// Time is when the server received the message. The zero value means now, and so does a time before the year 1900 or
	// after the year 9999.
	Time time.Time
	// UTF8 permits UTF-8 in the field. Set it if MAIL had SMTPUTF8 (RFC 6531 section 3.7.3), and never otherwise. Domains
	// have U-labels then, and A-labels without it.
	UTF8 bool
}

// SetTLS sets TLS and Group to what was agreed on in a handshake. Nil means that the connection has no TLS.
func (r *Received) SetTLS(state *tls.ConnectionState) {
	r.TLS, r.Group = "", ""
	if state != nil {
		r.TLS, r.Group = tls.CipherSuiteName(state.CipherSuite), groups[state.CurveID]
	}
}

// groups has the names by which the registry calls the groups that crypto/tls may use.
var groups = map[tls.CurveID]string{
	23: "secp256r1", 24: "secp384r1", 25: "secp521r1", 29: "x25519",
	0x11EB: "SecP256r1MLKEM768", 0x11EC: "X25519MLKEM768", 0x11ED: "SecP384r1MLKEM1024",
}

// SetPriority sets Priority to that in the parameters of a MAIL command, or to nil if they have none.
func (r *Received) SetPriority(mail proto.Params) {
	r.Priority = nil
	if value, _ := mail.Get("MT-PRIORITY"); isPriority(value) {
		n, _ := strconv.Atoi(value)
		r.Priority = &n
	}
}

// String returns the field, with CRLF at the end of each line.
func (r Received) String() string { return string(r.Append(nil)) }

// Append appends the field to dst, with CRLF at the end of each line.
func (r Received) Append(dst []byte) []byte {
	w := begin(dst, "Received:", r.UTF8)
	r.from(&w)
	by, ok := r.domain(r.By)
	switch {
	case !ok:
		w.words("by", "localhost")
	case by[0] == '[': // never alone, by the grammar
		w.words("by", by, "("+by+")")
	default:
		w.words("by", by)
	}
	w.clause("via", r.Via, isAtom)
	w.clause("with", r.With, isAtom)
	w.clause("id", r.ID, isID)
	if path := r.path(); path != "" {
		w.words("for", path)
	}
	if w.clause("tls", r.TLS, isCipher) {
		w.clause("group", r.Group, isGroup)
	} else {
		w.comment("group=", r.Group)
	}
	if r.Priority != nil {
		w.clause("priority", strconv.Itoa(*r.Priority), isPriority)
	}
	for _, c := range r.Comments[:min(len(r.Comments), maxComments)] {
		w.comment("", c)
	}
	w.b = append(w.b, ';')
	w.words(dateTime(r.Time))
	return append(w.b, "\r\n"...)
}

// from writes the clause FROM. It needs a domain, so that a client whose argument of EHLO is none is named by its
// address; what it said is a comment.
func (r *Received) from(w *writer) {
	literal := proto.AddrLiteral(r.Addr)
	hello, err := proto.ParseDomain(r.Hello)
	name, named := r.domain(strings.TrimSuffix(r.Name, "."))
	named = named && name[0] != '['
	source := "unknown"
	greeted := err == nil && (!literal.IsZero() || hello.Name() != "")
	switch {
	case greeted && r.UTF8:
		source = hello.String()
	case greeted:
		source = hello.ASCII()
	case !literal.IsZero():
		source = literal.String()
	}
	switch {
	case literal.IsZero():
		w.words("from", source)
		w.comment("name=", r.Name)
	case named:
		w.words("from", source, "("+name, literal.String()+")")
	default:
		w.words("from", source, "("+literal.String()+")")
		w.comment("name=", r.Name)
	}
	if !greeted {
		w.comment("helo=", r.Hello)
	}
}

// path returns the path of the clause FOR, or "".
func (r *Received) path() string {
	a := r.For
	if a.Domain.IsZero() {
		return ""
	}
	if r.UTF8 {
		a.Domain = toUnicode(a.Domain)
	}
	path, err := a.AppendPath(nil, r.UTF8)
	if err != nil {
		return ""
	}
	return string(path)
}

// domain returns s in the form that the field permits, if it is a domain name or an address literal.
func (r *Received) domain(s string) (string, bool) {
	if s == "" {
		return "", false // an error costs more than the rest of the field
	}
	d, err := proto.ParseDomain(s)
	switch {
	case err != nil:
		return "", false
	case r.UTF8:
		return toUnicode(d).String(), true
	}
	return d.ASCII(), true
}

// toUnicode returns d with U-labels, if it has A-labels that stand for some (RFC 6531 section 3.7.3).
func toUnicode(d proto.Domain) proto.Domain {
	name, err := idna.Lookup.ToUnicode(d.Name())
	if err != nil || name == d.Name() {
		return d
	}
	u, err := proto.ParseDomain(name)
	if err != nil || !u.Equal(d) {
		return d
	}
	return u
}

// dateTime returns a date-time without the forms that RFC 5322 section 4.3 calls obsolete.
func dateTime(t time.Time) string {
	if t.IsZero() || t.Year() < 1900 || t.Year() > 9999 {
		t = time.Now()
	}
	if _, offset := t.Zone(); offset <= -24*3600 || offset >= 24*3600 {
		t = t.UTC()
	}
	return t.Format("Mon, 02 Jan 2006 15:04:05 -0700")
}

// isAtom reports whether s is an Atom (RFC 5321 section 4.1.2).
func isAtom(s string) bool {
	for i := range len(s) {
		if !grammar.IsAlnum(s[i]) && !strings.Contains("!#$%&'*+-/=?^_`{|}~", s[i:i+1]) {
			return false
		}
	}
	return s != ""
}

// isID reports whether s is an Atom or a msg-id (RFC 5322 section 3.6.4).
func isID(s string) bool {
	if isAtom(s) {
		return true
	}
	inner, closed := strings.CutSuffix(strings.TrimPrefix(s, "<"), ">")
	left, right, ok := strings.Cut(inner, "@")
	return ok && closed && len(inner) == len(s)-2 && isDotAtom(left) && isDotAtom(right)
}

// isDotAtom reports whether s consists of Atoms with dots in between.
func isDotAtom(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !isAtom(part) {
			return false
		}
	}
	return true
}

// isCipher reports whether s is a tls-cipher (RFC 8314 section 4.3). All names in the registry begin with "TLS_"; the
// names that other libraries use do not.
func isCipher(s string) bool {
	if number, ok := strings.CutPrefix(s, "0x"); ok {
		return len(number) == 4 && strings.Trim(number, "0123456789ABCDEFabcdef") == ""
	}
	return strings.HasPrefix(s, "TLS_") && isName(s, "_")
}

// isGroup reports whether s is a dh-group (RFC 8314 section 4.3).
func isGroup(s string) bool { return isName(s, "_-") }

// isName reports whether s is a letter, and then letters, digits and what more has.
func isName(s, more string) bool {
	for i := range len(s) {
		if !grammar.IsAlnum(s[i]) && !strings.Contains(more, s[i:i+1]) {
			return false
		}
	}
	return s != "" && grammar.IsAlpha(s[0])
}

// isPriority reports whether s is a priority-value (RFC 6710 section 7).
func isPriority(s string) bool {
	digit := strings.TrimPrefix(s, "-")
	return len(digit) == 1 && '0' <= digit[0] && digit[0] <= '9' && s != "-0"
}
