package ehlo

import (
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// ConNeg returns the extension CONNEG (RFC 4141 section 5): a client asks with RCPT what content the recipient can take, and
// converts the message accordingly.
//
// A server offers it if the session is a [ConNegSession]. A session whose recipient has the parameter, as
// [ReadConNeg] tells, answers with [ContentReply]. On a client the caller adds the parameter with [AddConNeg], and
// reads the answer, the reply to RCPT (Rcpt in proto.Outcome), with [ReadContent]. The extension is not among those of [Default].
func ConNeg() ext.Extension {
	return ext.Extension{
		Keyword:   "CONNEG",
		Rcpt:      []ext.Param{{Key: "CONNEG", MaxLength: len(" CONNEG"), Flag: true}},
		Advertise: advertiseIf(ConNegSession.NegotiatesContent),
	}
}

// A ConNegSession is a session that can honour CONNEG.
type ConNegSession interface {
	// NegotiatesContent reports whether the session knows what content recipients can take. Where it does, its Rcpt
	// returns [ContentReply].
	NegotiatesContent() bool
}

// ReadConNeg reports whether the parameters of a RCPT command have CONNEG.
func ReadConNeg(p proto.Params) bool { return p.Has("CONNEG") }

// AddConNeg returns p with CONNEG.
func AddConNeg(p proto.Params) proto.Params { return p.SetFlag("CONNEG") }

// longestContent is how much of a filter goes in one line of a reply.
const maxConNegReply = 400

// ContentReply returns the reply with which a session accepts a recipient who can take content that matches filter, an
// expression of RFC 2533 such as "(image-file-structure=TIFF)" (RFC 4141 section 5.2). Its Rcpt gives it to the Reply
// method of server.Conn. The filter is cut into lines at spaces and closing parentheses.
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

// ReadContent returns the filter in a reply to RCPT, whose lines are put together with spaces between them; ok is false if it
// has none. It comes from the server, and nothing has been checked.
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
