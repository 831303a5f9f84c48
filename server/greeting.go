package server

import (
	"bytes"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A greeting is what the client has said of itself, by EHLO and AUTH, and what follows from that. It is replaced as a
// whole when the session begins anew. Nothing that the client said in plaintext may be known inside TLS (RFC 3207
// section 4.2). Nothing that one client said may be known of another that the same proxy speaks for.
type greeting struct {
	hello     string       // the argument of EHLO, HELO or LHLO
	extended  bool         // it was not HELO
	offer     ext.Offer    // which extensions the reply to EHLO advertised
	pipelines bool         // PIPELINING is one of them
	mails     int          // how many MAIL commands have come
	early     uint8        // the kinds of early talking that were noted
	identity  string       // the name that the client has authenticated as
	origin    *ext.Origin  // what a proxy told about the client; nil if it told nothing
	refusal   *proto.Error // of the backend, which made no session
	verdicts  []Verdict    // on the client
	lines     *lineCache   // nil until a MAIL has come, and again after a rest
}

// parse parses the arguments of MAIL, or of RCPT, as lineCache.parse does.
func (g *greeting) parse(args []byte, rcpt bool, o *Options) (*line, *proto.Error) {
	if g.lines == nil {
		g.lines = new(lineCache)
	}
	if !o.Strict {
		args = withoutSpace(args)
	}
	return g.lines.parse(args, rcpt, o.Lax)
}

// withoutSpace returns args without the spaces behind the first colon. It changes args.
func withoutSpace(args []byte) []byte {
	end := bytes.IndexByte(args, ':') + 1
	n := 0
	for end+n < len(args) && args[end+n] == ' ' {
		n++
	}
	if end == 0 || n == 0 {
		return args
	}
	copy(args[n:], args[:end])
	return args[n:]
}

// ofOrigin returns the greeting of a client that a proxy has described.
func ofOrigin(o *ext.Origin) greeting {
	g := greeting{origin: o, hello: o.Hello, identity: o.Login}
	if g.hello == ext.Unavailable {
		g.hello = ""
	}
	if g.identity == ext.Unavailable {
		g.identity = ""
	}
	return g
}

// afterHandover returns the greeting after a hand-over. Of what a proxy has told, the addresses and names of the client
// stay; what the client had said to the proxy belongs to the session that is over.
func (g *greeting) afterHandover() greeting {
	if g.origin == nil {
		return greeting{}
	}
	o := *g.origin
	o.Protocol, o.Hello, o.Login = "", "", ""
	return greeting{origin: &o}
}

// ehlo answers EHLO and LHLO.
func (m *commands) ehlo(ev *proto.Event) {
	c := m.c
	name, e := helloName(ev.Args, c.srv.opt.Lax)
	if e != nil {
		m.answer(ev.Verb, e.Reply())
		return
	}
	c.greeting.hello, c.greeting.extended = name, true
	offer, lines := c.srv.set.Offer(c)
	c.greeting.offer, c.greeting.pipelines = offer, c.srv.set.Pipelining(offer)
	lines = append([]string{c.srv.opt.Hostname + " at your service"}, lines...)
	c.replies.send(proto.Reply{Code: 250, Text: strings.Join(lines, "\n")})
	c.replies.setStatus(c.srv.set.StatusCodes(offer))
}

// helo answers HELO, after which no extension is available.
func (m *commands) helo(ev *proto.Event) {
	c := m.c
	name, e := helloName(ev.Args, c.srv.opt.Lax)
	if e != nil {
		m.answer(ev.Verb, e.Reply())
		return
	}
	c.greeting.hello, c.greeting.extended = name, false
	c.greeting.offer, c.greeting.pipelines = ext.Offer{}, false
	c.replies.setStatus(false)
	c.replies.send(proto.Reply{Code: 250, Text: c.srv.opt.Hostname})
}

func isHello(v *proto.Verb) bool { return v.Name == "EHLO" || v.Name == "LHLO" || v.Name == "HELO" }

// helloName returns the name in the arguments of EHLO. RFC 5321 section 4.1.4 forbids to refuse a client because the
// name is not its own. Many clients send something else than a domain, so only what could do harm is refused. With lax,
// the name may be missing, and a name that is not ASCII is made so; it is shown in logs and in Received.
func helloName(args []byte, lax bool) (string, *proto.Error) {
	if lax {
		args = bytes.TrimLeft(args, " ")
	}
	name, _, _ := bytes.Cut(args, []byte{' '})
	switch {
	case isGreetable(name):
		return string(name), nil
	case !lax || len(name) > maxHello:
		return "", errBadHello
	}
	return asciiName(string(name)), nil
}

// asciiName returns name with A-labels, if it is a domain name in UTF-8. Else it returns it with a question mark in
// place of each character that is not printable ASCII.
func asciiName(name string) string {
	if d, err := proto.ParseDomain(name); err == nil {
		return d.ASCII()
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
}
