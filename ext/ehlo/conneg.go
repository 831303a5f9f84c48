package ehlo

import (
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// ConNeg returns the extension CONNEG (RFC 4141 section 5), by which a client learns what content a recipient can take.
// The client then converts the message, for a fax machine for example.
//
// A server offers it if the session implements [ConNegSession] and its NegotiatesContent is true. If [ReadConNeg] finds
// the parameter in a RCPT command, the session accepts the recipient with [ContentReply].
//
// On a client, add the parameter with [AddConNeg], and read the answer with [ReadContent] from the reply to RCPT (Rcpt
// in proto.Outcome). If the server does not offer the extension, the client refuses the message with an
// [ext.UnsupportedError].
//
// The extension is not in [Default].
func ConNeg() ext.Extension {
	return ext.Extension{
		Keyword:    "CONNEG",
		Interfaces: []reflect.Type{reflect.TypeFor[ConNegSession]()},
		Rcpt:       []ext.Param{{Key: "CONNEG", MaxLength: len(" CONNEG"), Flag: true}},
		Advertise:  advertiseIf(ConNegSession.NegotiatesContent),
	}
}

// A ConNegSession is a session that knows what content its recipients can take.
type ConNegSession interface {
	// NegotiatesContent reports whether Rcpt answers the parameter CONNEG with [ContentReply].
	NegotiatesContent() bool
}

// ReadConNeg reports whether the parameters of a RCPT command have CONNEG.
func ReadConNeg(p proto.Params) bool { return p.Has("CONNEG") }

// AddConNeg returns p with the parameter CONNEG.
func AddConNeg(p proto.Params) proto.Params { return p.SetFlag("CONNEG") }

// maxConNegReply is how many octets of a filter go in one line of a reply.
const maxConNegReply = 400

// ContentReply returns the reply by which a session accepts a recipient who can take content that matches filter. The
// filter is an expression of RFC 2533, such as "(image-file-structure=TIFF)" (RFC 4141 section 5.2). Give the reply to
// the Reply method of server.Conn in Rcpt. ContentReply divides a long filter into lines, at spaces and closing
// parentheses.
func ContentReply(filter string) proto.Reply {
	lines := []string{"Recipient OK"}
	for rest := strings.TrimSpace(filter); rest != ""; {
		n := len(rest)
		if n > maxConNegReply {
			n = maxConNegReply
			if i := strings.LastIndexAny(rest[:n], " )"); i >= 0 {
				n = i + 1
			}
		}
		lines = append(lines, "CONNEG "+strings.TrimSpace(rest[:n]))
		rest = strings.TrimSpace(rest[n:])
	}
	return proto.Reply{Code: 250, Status: proto.Status{2, 1, 5}, Text: strings.Join(lines, "\n")}
}

// ReadContent returns the filter in a reply to RCPT. It joins the lines of the filter with spaces. It reports false if
// the reply has none. The filter is the server's text, unchecked.
func ReadContent(r proto.Reply) (filter string, ok bool) {
	if r.Code != 250 {
		return "", false
	}
	var parts []string
	for line := range strings.SplitSeq(r.Text, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		if grammar.EqualFold(word, "CONNEG") {
			parts = append(parts, strings.TrimSpace(rest))
			ok = true
		}
	}
	return strings.Join(parts, " "), ok
}
