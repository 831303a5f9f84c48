package ehlo

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// MTPriority returns the extension MT-PRIORITY (RFC 6710), by which a sender asks a server to process some messages
// before others.
//
// A server offers it if the session implements [MTPrioritySession]. It refuses with 550 a priority above the highest
// that the session allows. The session reads the priority with [ReadPriority]. It may change the priority, and then
// accepts the message with [Priority.Reply].
//
// On a client, add the parameter with [Priority.AddTo]. If the server does not offer the extension, the client refuses
// the message with an [ext.UnsupportedError]. A relay drops the parameter in that case (RFC 6710 section 4.3).
//
// The extension is in [Default].
func MTPriority() ext.Extension {
	return ext.Extension{
		Keyword:    "MT-PRIORITY",
		Interfaces: []reflect.Type{reflect.TypeFor[MTPrioritySession]()},
		Mail:       []ext.Param{{Key: "MT-PRIORITY", MaxLength: len(" MT-PRIORITY=-9"), Check: checkPriority}},
		Advertise:  advertisePriority,
		CheckMail:  checkMailPriority,
	}
}

func advertisePriority(x ext.ServerConn) (string, bool) {
	s, ok := ext.As[MTPrioritySession](x.Session())
	if !ok {
		return "", false
	}
	policy := s.PriorityPolicy()
	if !isPriorityPolicy(policy) {
		policy = "" // the name is optional
	}
	return policy, true
}

func checkMailPriority(_ context.Context, x ext.ServerConn, _ proto.Address, p proto.Params) error {
	n, ok := ReadPriority(p)
	if !ok || n <= 0 {
		return nil
	}
	s, ok := ext.As[MTPrioritySession](x.Session())
	if !ok {
		return nil
	}
	if highest := max(s.HighestPriority(), 0); n > highest {
		return proto.Refuse(550, proto.Status{5, 7, 1},
			fmt.Sprintf("The priority %d is not for you to give; the highest is %d", n, highest))
	}
	return nil
}

// An MTPrioritySession is a session that processes messages by priority, or passes priorities on.
type MTPrioritySession interface {
	// PriorityPolicy returns the name of the policy by which priorities are assigned, which the server shows to clients.
	// The name has at most 20 letters, digits, hyphens, underscores and dots (RFC 6710 section 9.2). "" shows none.
	PriorityPolicy() string
	// HighestPriority returns the highest priority that the client may ask for. It has to be 0 for an untrusted client,
	// such as one that has not authenticated (RFC 6710 section 4.1); see Identity of server.Conn. To lower priorities in
	// place of refusing them, return 9, and lower them in Mail.
	HighestPriority() Priority
}

// A Priority is that of a message, from -9 to 9, the highest. 0 is that of a message without the parameter.
type Priority int

// ReadPriority returns the priority in the parameters of a MAIL command. It reports false if there is none.
func ReadPriority(p proto.Params) (n Priority, ok bool) {
	return readParam(p, "MT-PRIORITY", parsePriority)
}

// AddTo returns p with the parameter MT-PRIORITY.
func (n Priority) AddTo(p proto.Params) proto.Params {
	return p.Set("MT-PRIORITY", strconv.Itoa(int(n)))
}

// Reply returns the reply by which a session accepts a message whose priority it has changed to n (RFC 6710 section
// 4.1). Give the reply to the Reply method of server.Conn in Mail or Data.
func (n Priority) Reply() proto.Reply {
	return proto.Reply{Code: 250, Status: proto.Status{2, 3, 6},
		Text: strconv.Itoa(int(n)) + " is the priority that the message has got"}
}

// parsePriority reads (["-"] NZDIGIT) / "0" (RFC 6710 section 7).
func parsePriority(s string) (Priority, bool) {
	digits := strings.TrimPrefix(s, "-")
	if len(digits) != 1 || digits[0] < '0' || digits[0] > '9' || s == "-0" {
		return 0, false
	}
	n := Priority(digits[0] - '0')
	if digits != s {
		n = -n
	}
	return n, true
}

// checkPriority refuses a malformed priority with the status code that RFC 6710 section 4.1 suggests.
func checkPriority(value string) error {
	if _, ok := parsePriority(value); !ok {
		return proto.Refuse(501, proto.Status{5, 5, 2}, "MT-PRIORITY has to be a number from -9 to 9")
	}
	return nil
}

// isPriorityPolicy reports whether s is a priority-profile, 1*20(ALPHA / DIGIT / "-" / "_" / ".").
func isPriorityPolicy(s string) bool {
	for i := range len(s) {
		if c := s[i]; !grammar.IsAlnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 20
}
