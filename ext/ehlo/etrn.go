package ehlo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// ETRN returns the extension ETRN (RFC 1985), by which a client asks the server to send the mail that waits for a host now.
// The server does so over connections that it makes to that host, and so the client need not prove who it is.
//
// A server offers it if the session is a [ETRNSession], but neither in LMTP nor on the ports of submission, 465 and 587
// (RFC 6409 section 7), where it is refused with 502. The engine refuses it in a transaction with 503. It is not among the
// extensions of [Default]. A client that has it in its list can call [SendETRN].
func ETRN() ext.Extension {
	return ext.Extension{
		Keyword: "ETRN",
		Role:    ext.NeverSubmission,
		Verbs:   []proto.Verb{{Name: "ETRN", In: proto.Ready, Last: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[ETRNSession](x.Session())
			return "", ok && !forbidsETRN(x)
		},
		Serve: serveETRN,
	}
}

// forbidsETRN reports whether x is a session on a port where ETRN must not be offered.
func forbidsETRN(x ext.ServerConn) bool {
	port := grammar.Port(x.LocalAddr())
	return port == 465 || port == 587 || x.Protocol() == proto.LMTP
}

// A ETRNSession is a session that can have waiting messages sent.
type ETRNSession interface {
	// StartQueue starts to send what waits for node, and returns without waiting for it. Pending is how many messages
	// that is, [PendingSome] if the number is not known but there are some, and [PendingUnknown] if nothing is. It
	// returns [ErrNotYours] if the client may not ask for that, as it often may not for everything below a domain;
	// with any other error it cannot be done now, and the client is told 458, unless it is a *proto.Error.
	StartQueue(ctx context.Context, node Node) (pending int, err error)
}

// What can be said of the messages that wait for a node, in place of their number.
const (
	PendingUnknown = -1 // 250
	PendingSome    = -2 // 252
)

// A Node is what ETRN asks for: the mail for a host, for all hosts below a domain, or in a queue.
type Node struct {
	Name  string // a domain name, which SendETRN takes with U-labels too, or the name of a queue
	Below bool   // of the domain and everything below it: "@" on the wire
	Queue bool   // of a queue, whose names are the server's own affair: "#" on the wire
}

// String returns n as it is sent.
func (n Node) String() string {
	switch {
	case n.Queue:
		return "#" + n.Name
	case n.Below:
		return "@" + n.Name
	}
	return n.Name
}

// longestQueue bounds the name of a queue, in octets; a domain name has as many at most.
const maxQueue = 255

// parseNode reads [<option character>]<node name>. The name of a host is fully-qualified (RFC 1985 section 5).
func parseNode(s string) (Node, bool) {
	if name, ok := strings.CutPrefix(s, "#"); ok {
		return Node{Name: name, Queue: true}, name != "" && len(name) <= maxQueue && grammar.Printable(name) && !strings.Contains(name, " ")
	}
	name, below := strings.CutPrefix(s, "@")
	d, err := proto.ParseDomain(name)
	if err != nil || d.Addr().IsValid() || !grammar.Printable(name) || !below && !strings.Contains(name, ".") {
		return Node{}, false
	}
	return Node{Name: name, Below: below}, true
}

func serveETRN(ctx context.Context, x ext.Command) (proto.Reply, error) {
	s, ok := ext.As[ETRNSession](x.Session())
	switch {
	case forbidsETRN(x):
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "ETRN is not for submission") // 521 must not be used there either
	case !ok:
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "There are no queues to be started here")
	case x.Args() == "":
		return proto.Reply{}, proto.Refuse(500, proto.Status{5, 5, 2}, "ETRN needs the name of a host")
	}
	node, ok := parseNode(x.Args())
	if !ok {
		return proto.Reply{}, grammar.BadArgs("ETRN takes a domain name, @ and a domain name, or # and the name of a queue")
	}
	pending, err := s.StartQueue(ctx, node)
	if err != nil {
		return proto.Reply{}, refuseNode(node, err)
	}
	code, text := 250, fmt.Sprintf("OK, queuing for node %v started", node)
	switch {
	case pending == 0:
		code, text = 251, fmt.Sprintf("OK, no messages waiting for node %v", node)
	case pending > 0:
		code, text = 253, fmt.Sprintf("OK, %d pending messages for node %v started", pending, node)
	case pending == PendingSome:
		code, text = 252, fmt.Sprintf("OK, pending messages for node %v started", node)
	}
	return proto.Reply{Code: code, Status: proto.Status{2, 0, 0}, Text: text}, nil
}

// refuseNode returns the reply for an error of StartQueue.
func refuseNode(node Node, err error) error {
	if e, ok := grammar.AsType[*proto.Error](err); ok {
		return e
	}
	e := proto.Refuse(458, proto.Status{4, 3, 0}, fmt.Sprintf("Unable to queue messages for node %v", node))
	if errors.Is(err, ErrNotYours) {
		e = proto.Refuse(459, proto.Status{4, 7, 1}, fmt.Sprintf("Node %v not allowed: it is not yours to ask for", node))
	}
	e.Err = err
	return e
}

// SendETRN asks the server at the other end of c, such as a *client.Client, to send the mail that waits for node. It returns how
// many messages there are, [PendingSome] or [PendingUnknown]; if that is 0, nothing waits. A refusal is a *proto.Error,
// which wraps [ErrNotYours] for the code 459.
func SendETRN(ctx context.Context, c ext.Client, node Node) (pending int, err error) {
	if d, err := proto.ParseDomain(node.Name); err == nil && !node.Queue {
		node.Name = d.ASCII() // a U-label
	}
	args := node.String()
	if n, ok := parseNode(args); !ok || n != node {
		return 0, fmt.Errorf("smtp: ETRN cannot ask for the mail of %q: it is neither a full domain name nor the name of a queue", args)
	}
	r, err := sendCommand(ctx, c, "ETRN", args, map[int]error{459: ErrNotYours})
	if err != nil {
		return 0, err
	}
	switch r.Code {
	case 251:
		return 0, nil
	case 252:
		return PendingSome, nil
	case 253:
		return parsePending(r.Text), nil
	}
	return PendingUnknown, nil
}

// parsePending returns the number in the text of a reply 253: "OK, <n> pending messages for node <x> started".
func parsePending(text string) int {
	for word := range strings.FieldsSeq(text) {
		if d, ok := parseSeconds(word); ok && d > 0 {
			return int(seconds(d))
		}
	}
	return PendingSome
}
