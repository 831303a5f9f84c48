package ehlo

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// ETRN returns the extension ETRN (RFC 1985), by which a client asks the server to send the mail that waits for a host
// now. The server sends it over connections that it makes to that host itself, so the client need not prove who it is.
//
// A server offers it if the session implements [ETRNSession]. It refuses ETRN with 502 in LMTP and on the submission
// ports 465 and 587 (RFC 6409 section 7), and with 503 in a transaction. A server with a [SubmissionPolicy] cannot use
// the extension at all.
//
// On a client, call [SendETRN].
//
// The extension is not in [Default]: add it to the lists of both sides.
func ETRN() ext.Extension {
	return ext.Extension{
		Keyword:    "ETRN",
		Interfaces: []reflect.Type{reflect.TypeFor[ETRNSession]()},
		Role:       ext.NeverSubmission,
		Verbs:      []proto.Verb{{Name: "ETRN", In: proto.Ready, Last: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[ETRNSession](x.Session())
			return "", ok && !forbidsETRN(x)
		},
		Serve: serveETRN,
	}
}

// forbidsETRN reports whether x is a session that must not offer ETRN: on a submission port, or in LMTP.
func forbidsETRN(x ext.ServerConn) bool {
	port := grammar.Port(x.LocalAddr())
	return port == 465 || port == 587 || x.Protocol() == proto.LMTP
}

// An ETRNSession is a session that can have waiting messages sent.
type ETRNSession interface {
	// StartQueue starts to send the messages that wait for node, and returns without waiting for that. Pending is the
	// number of messages, [PendingSome] if there are some, or [PendingUnknown].
	//
	// StartQueue returns [ErrNotYours] if the client may not ask for node, which is common for everything below a domain.
	// A *proto.Error is the reply. After any other error the client gets 458: try again later.
	StartQueue(ctx context.Context, node Node) (pending int, err error)
}

// Values that stand for an unknown number of messages, and the reply code of each.
const (
	PendingUnknown = -1 // 250
	PendingSome    = -2 // 252
)

// A Node is what ETRN asks for: the mail for a host, for a domain and everything below it, or in a queue.
type Node struct {
	Name  string // a domain name, or the name of a queue; SendETRN takes U-labels too
	Below bool   // the domain and everything below it: "@" on the wire
	Queue bool   // Name is the name of a queue, which the server chooses: "#" on the wire
}

// String returns n in its wire form.
func (n Node) String() string {
	switch {
	case n.Queue:
		return "#" + n.Name
	case n.Below:
		return "@" + n.Name
	}
	return n.Name
}

// maxQueue is the longest name of a queue in octets, the same as that of a domain name.
const maxQueue = 255

// parseNode reads [<option character>]<node name>. The name of a host has to be fully qualified (RFC 1985 section 5).
func parseNode(s string) (Node, bool) {
	if name, ok := strings.CutPrefix(s, "#"); ok {
		ok := name != "" && len(name) <= maxQueue && grammar.Printable(name) && !strings.Contains(name, " ")
		return Node{Name: name, Queue: true}, ok
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
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "ETRN is not for submission") // nor may it be 521
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

// refuseNode returns the reply to an error of StartQueue.
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

// SendETRN asks the server at the other end of c, such as a *client.Client, to send the mail that waits for node. It
// returns the number of messages, [PendingSome] or [PendingUnknown]. 0 means that nothing waits. If the server refuses,
// SendETRN returns a *proto.Error, which wraps [ErrNotYours] for code 459.
func SendETRN(ctx context.Context, c ext.Client, node Node) (pending int, err error) {
	if d, err := proto.ParseDomain(node.Name); err == nil && !node.Queue {
		node.Name = d.ASCII() // U-labels become A-labels
	}
	args := node.String()
	if n, ok := parseNode(args); !ok || n != node {
		return 0, fmt.Errorf("smtp: ETRN cannot ask for the mail of %q: "+
			"it is neither a full domain name nor the name of a queue", args)
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
