package exttest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

const ruleEnds = "package exttest: what the client of an extension sends, its server accepts"

const ruleAddition = "ext.Extension: Prepare may add parameters to the envelope, or refuse the message"

// client lets the real client use the extension, with servers that advertise it and with others.
func (s *suite) client() { clientPart{s}.run() }

// A clientPart is the part of a suite that is about the real client.
type clientPart struct{ *suite }

func (s clientPart) run() {
	for _, st := range s.settings {
		s.withOffer(st)
		s.withoutOffer(st)
	}
}

// connect connects a client that uses the extension to a server with the extensions in list. The client adds the lines
// that it sends to sent. The function that is returned closes the connection.
func (st *setting) connect(list []ext.Extension, rec *record, sent *[]string) (*client.Client, func(), error) {
	srv, err := st.server(list, rec)
	if err != nil {
		return nil, nil, err
	}
	conn, cancel, ended := pipe(srv, st.tls)
	opt := &client.Options{
		Hostname: "client.example", Protocol: st.protocol, Extensions: st.list, TLS: ext.TLSInsecureNone,
		Timeouts: client.AllTimeouts(timeout),
		Trace: &client.Trace{Command: func(_ context.Context, _ *client.Client, verb, args string) {
			*sent = append(*sent, strings.TrimSpace(verb+" "+args))
		}},
	}
	if st.tls {
		opt.TLS, opt.TLSConfig = ext.TLSImplicit, clientTLS()
	}
	ctx, stop := context.WithTimeout(context.Background(), timeout)
	defer stop()
	c, err := client.NewClient(ctx, conn, clienttest.Hostname, opt)
	leave := func() {
		if c != nil {
			_ = c.Close() // always nil
		}
		cancel()
		st.delays.closed(ended)
	}
	if err != nil {
		leave()
		return nil, nil, err
	}
	return c, leave, nil
}

// message returns a small message with parameters for MAIL, and with a recipient for each of rcpt.
func message(mail string, rcpt ...string) *client.Message {
	to := make([]string, len(rcpt))
	for i := range rcpt {
		to[i] = fmt.Sprintf("c%d@d.example", i)
	}
	m, err := client.NewMessage("a@b.example", to, strings.NewReader("Subject: x\r\n\r\nx\r\n"))
	if err != nil {
		panic(err) // the addresses are well-formed
	}
	m.Mail = parse(mail)
	for i, params := range rcpt {
		m.To[i].Params = parse(params)
	}
	return m
}

func send(c *client.Client, m *client.Message) error {
	ctx, stop := context.WithTimeout(context.Background(), timeout)
	defer stop()
	_, err := c.Send(ctx, m)
	return err
}

// messages returns the messages to try with a client: plain ones, and one for each parameter of the sample.
func (s clientPart) messages(st *setting) []*client.Message {
	list := []*client.Message{message("", ""), message("", "", "", "")}
	open := ""
	if len(st.sample.Mail) > 0 {
		open = st.sample.Mail[0]
	}
	for _, text := range st.sample.Mail {
		list = append(list, message(text, ""))
	}
	for _, text := range st.sample.Rcpt {
		list = append(list, message(open, text))
	}
	return list
}

// withOffer sends messages to a server that advertises the extension.
func (s clientPart) withOffer(st *setting) {
	if !st.on() {
		return
	}
	for _, m := range s.messages(st) {
		rec, sent := &record{}, []string{}
		c, leave, err := st.connect(st.list, rec, &sent)
		if err != nil {
			s.broken(ruleEnds, "a client cannot connect to a server of the same extension, having sent %q: %v", sent, err)
			return
		}
		what := write(m.Mail)
		for _, r := range m.To {
			what = strings.Trim(what+" "+write(r.Params), " ")
		}
		if s.prepare(c.Caps(), m); s.found.none() {
			err = send(c, m)
		}
		leave()
		if !s.found.none() {
			return
		}
		if err != nil {
			s.broken(ruleEnds, "the server does not accept what the client sends for a message with %q: %v; it sent %q",
				what, err, sent)
			continue
		}
		s.arrived(m, rec)
	}
}

// arrived compares the parameters of m with those that the session got.
func (s clientPart) arrived(m *client.Message, rec *record) {
	missing := func(command string, want, got proto.Params) {
		for _, p := range want {
			// Prepare may change the value, as that of SIZE does.
			if v, ok := got.Get(p.Key); !ok || v != p.Value && s.e.Prepare == nil {
				s.broken(ruleService, "a message with the %s parameter %s gives the session %q",
					command, write(proto.Params{p}), write(got))
			}
		}
	}
	if rec.messages != 1 {
		return // a session with DataEach takes the message, and its Data is not called
	}
	missing("MAIL", m.Mail, last(rec.mail))
	for i, r := range m.To {
		if i < len(rec.rcpt) {
			missing("RCPT", r.Params, rec.rcpt[i])
		}
	}
}

// withoutOffer sends messages to a server that does not know the extension.
func (s clientPart) withoutOffer(st *setting) {
	before := s.found.negotiations()
	for _, m := range s.messages(st) {
		sent := []string{}
		c, leave, err := st.connect(st.others, nil, &sent)
		if err != nil {
			s.broken(ruleService, "a client cannot connect to a server that does not advertise it, having sent %q: %v", sent, err)
			return
		}
		err = send(c, m)
		own := s.own(st, m)
		if _, need := grammar.AsType[*ext.UnsupportedError](err); own != "" && !need {
			s.broken(ruleService, "a message with %s and a server that does not advertise it: %v, want an ext.UnsupportedError",
				own, err)
		} else if own == "" && err != nil && !need {
			s.broken(ruleService, "a message without parameters of its own does not get to a server that does not "+
				"advertise it: %v", err)
		}
		for i := range s.e.Verbs {
			ctx, stop := context.WithTimeout(context.Background(), timeout)
			if _, err := c.Do(ctx, s.e.Verbs[i].Name, ""); err == nil {
				s.broken(ruleService, "the client sends %s to a server that does not advertise it", s.e.Verbs[i].Name)
			}
			stop()
		}
		leave()
		for _, line := range sent {
			if s.names(st, line) {
				s.broken(ruleService, "the client sends %q to a server that does not advertise it", line)
			}
		}
	}
	after := s.found.negotiations()
	if after != before {
		s.broken(ruleService, "Negotiate was called although the extension was not advertised")
	}
}

// own returns a parameter of m that only this extension describes, or "".
func (s clientPart) own(st *setting, m *client.Message) string {
	for _, p := range m.Mail {
		if s.alone(st, p.Key, false) {
			return p.Key
		}
	}
	for _, r := range m.To {
		for _, p := range r.Params {
			if s.alone(st, p.Key, true) {
				return p.Key
			}
		}
	}
	return ""
}

// alone reports whether only this extension describes the parameter.
func (s clientPart) alone(st *setting, key string, rcpt bool) bool {
	of := func(e *ext.Extension) []ext.Param {
		if rcpt {
			return e.Rcpt
		}
		return e.Mail
	}
	return find(of(&s.e), key) != nil &&
		!slices.ContainsFunc(st.others, func(e ext.Extension) bool { return find(of(&e), key) != nil })
}

// names reports whether a command line has a verb or a parameter of the extension.
func (s clientPart) names(st *setting, line string) bool {
	verb, args, _ := strings.Cut(line, " ")
	for i := range s.e.Verbs {
		if s.e.Verbs[i].Name == verb {
			return true
		}
	}
	read := proto.ParseMailArgs
	if verb == "RCPT" {
		read = proto.ParseRcptArgs
	}
	if verb != "MAIL" && verb != "RCPT" {
		return false
	}
	_, params, _ := read([]byte(args), false)
	return slices.ContainsFunc(params, func(p proto.Param) bool { return s.alone(st, p.Key, verb == "RCPT") })
}

// prepare calls Prepare with envelopes of all kinds.
func (s clientPart) prepare(caps proto.Caps, m *client.Message) {
	if s.e.Prepare == nil {
		return
	}
	for _, e := range []ext.Envelope{
		{},
		{Size: -1},
		{From: m.From, Mail: m.Mail},
		{From: m.From, Mail: m.Mail.Set("SIZE", "100"), To: m.To, Size: 100}, // as after the Prepare of another extension
		{From: m.From, Mail: m.Mail, To: m.To, Size: -1},
		{From: m.From, Mail: m.Mail, To: m.To, Size: 100, Verified: true},
		{Mail: m.Mail, To: append(slices.Clone(m.To), m.To...), Size: 100, Needs: ext.EightBit | ext.UTF8},
		{From: m.From, Mail: m.Mail, To: m.To, Size: 1 << 40, Needs: ext.Binary, Verified: true},
	} {
		s.prepared(caps, e)
	}
}

// prepared calls Prepare with a copy of e, and checks what it changes. What Prepare adds may differ each time, as an ID
// does.
func (s clientPart) prepared(caps proto.Caps, e ext.Envelope) {
	a, to := e, slices.Clone(e.To)
	mail := spare(e.Mail)
	var rcpts []proto.Params
	for i := range to {
		to[i].Params = spare(to[i].Params)
		rcpts = append(rcpts, to[i].Params)
	}
	a.Mail, a.To = mail, to
	var err error
	if !s.completes(func() { err = s.spied.Prepare(caps, &a) }) {
		s.broken(ruleAddition, "Prepare does not return")
		return
	}
	if err == errPanicked {
		return
	}
	spoilt := !slices.Equal(mail[:cap(mail)], spare(e.Mail)[:cap(mail)])
	for i, p := range rcpts {
		spoilt = spoilt || !slices.Equal(p[:cap(p)], spare(e.To[i].Params)[:cap(p)])
	}
	if spoilt {
		s.broken(ruleAddition, "Prepare modifies the parameters that the caller gave: use Params.Set, which "+
			"copies, and not append or an index")
	}
	if err != nil {
		return
	}
	if a.From != e.From || len(a.To) != len(e.To) {
		s.broken(ruleAddition, "Prepare changes the addresses of the envelope")
		return
	}
	s.added("MAIL", e.Mail, a.Mail, func(x *ext.Extension) []ext.Param { return x.Mail })
	for i := range a.To {
		s.added("RCPT", e.To[i].Params, a.To[i].Params, func(x *ext.Extension) []ext.Param { return x.Rcpt })
	}
}

// spare returns a copy of p with room for more parameters behind it, so that an append to it is noticed.
func spare(p proto.Params) proto.Params {
	return append(slices.Clone(p), proto.Param{Key: "SPARE"}, proto.Param{Key: "SPARE"})[: len(p) : len(p)+2]
}

// added checks that Prepare has only added parameters that the extension, or one that it requires, describes.
func (s clientPart) added(command string, before, after proto.Params, of func(*ext.Extension) []ext.Param) {
	for _, p := range after {
		known := find(of(&s.e), p.Key) != nil
		for _, other := range required(&s.e, s.samples[0].With, nil) {
			known = known || find(of(&other), p.Key) != nil
		}
		if !known && !before.Has(p.Key) {
			s.broken(ruleDefinition, "Prepare adds the %s parameter %s, which neither it nor what it Requires describes",
				command, p.Key)
		}
	}
}
