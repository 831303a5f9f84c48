package exttest

import (
	"cmp"
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// longestReply is the length of a line of a reply, with code and CRLF (RFC 5321 section 4.5.3.1.5).
const longestReply = 512

// offer has every kind of session asked what is on offer, and finds the stages for the rest.
func (s *suite) offer() {
	s.stages = make([]*stage, len(s.samples))
	for i := range s.samples {
		sample := &s.samples[i]
		var refusing, first *stage
		var offering []*stage
		var unserved error
		for _, taking := range []bool{true, false} {
			for _, p := range s.protocols() {
				for _, secure := range []bool{false, true} {
					st := s.stage(sample, taking, p, secure)
					if !s.enterStage(st) {
						continue
					}
					if err := s.plain(st); err != nil {
						unserved = cmp.Or(unserved, err)
						if s.refuses() {
							continue
						}
					}
					if first == nil {
						first = st
					}
					if st.offered {
						offering = append(offering, st)
					}
					if st.offered && !s.stages[i].on() {
						s.stages[i] = st
					}
					if !st.offered && refusing == nil {
						refusing = st
					}
				}
			}
		}
		switch {
		case unserved != nil && !s.refuses():
			s.broken(ruleService, "a client that does not use it is not served: %v", unserved)
		case unserved != nil && first == nil:
			s.broken(ruleService, "no client is served, with TLS or without, such as this one: %v: give a Sample with the "+
				"Session or the Identity that it takes", unserved)
		}
		if s.stages[i] == nil {
			s.stages[i] = first
			if !s.refuses() && s.sound() {
				s.broken("nothing of it can be tested", "it is never on offer: give a Sample whose Session takes part in it")
			}
		}
		if s.stages[i] == nil {
			return
		}
		s.stages[i].refusing, s.stages[i].offering = refusing, offering
	}
}

// on reports whether the extension is on offer.
func (st *stage) on() bool { return st != nil && st.offered }

// refuses reports whether the extension is one that is never on offer, and is there to refuse: then not every kind of
// session need be served.
func (s *suite) refuses() bool { return s.e.Keyword == "" }

// enterStage looks at the replies to EHLO.
func (s *suite) enterStage(st *stage) bool {
	var err error
	if st.srv, err = st.server(st.list, nil); err != nil {
		s.broken(ruleDefinition, "it cannot be used beside ehlo.Default: %s", strings.TrimPrefix(err.Error(), "smtp: "))
		return false
	}
	t, a := st.enter()
	defer t.close()
	if a.code != 250 {
		s.broken(ruleOffer, "the reply to EHLO is %v %v, want 250", a, st)
		return false
	}
	_, times := offers(a, s.e.Keyword)
	st.offered = times > 0
	if _, again := offers(t.ask(st.hello()), s.e.Keyword); again != times {
		s.broken("what comes and goes cannot be tested", "it is on offer in one reply to EHLO and not in the next, %v: "+
			"let whether Advertise offers it depend on nothing that changes by itself", st)
	}
	return true
}

// plain has a client be served that does not use the extension, with EHLO and with HELO.
func (s *suite) plain(st *stage) error {
	t, _ := st.enter()
	defer t.close()
	err := st.serves(t)
	if err == nil && st.protocol == proto.SMTP && t.ask("HELO client.example").code == 250 {
		err = st.serves(t)
	}
	return err
}

// serves sends a message as a client does that knows no extensions.
func (st *stage) serves(t *talk) error {
	for _, step := range []struct {
		line string
		code int
	}{{from, 250}, {to, 250}, {"NOOP", 250}, {"DATA", 354}, {"Subject: x\r\n\r\nx\r\n.", 250}, {"RSET", 250}} {
		if a := t.ask(step.line); a.code != step.code {
			return fmt.Errorf("%q is answered %v %v, want %d", step.line, a, st, step.code)
		}
	}
	return nil
}

// advertised calls Advertise, and looks at what it returns.
func (s *suite) advertised(f func(ext.ServerConn) (string, bool), x ext.ServerConn) (args string, ok bool) {
	if args, ok = f(x); !ok {
		return args, ok
	}
	line := s.e.Keyword
	if args != "" {
		line += " " + args
	}
	for word := range strings.SplitSeq(line, " ") {
		if !isPrintable(word) {
			s.broken(ruleOffer, "Advertise returns %q, which cannot stand behind the keyword: words of printable "+
				"ASCII with single spaces between them can", args)
			break
		}
	}
	if n := len("250-" + line + "\r\n"); n > longestReply {
		s.broken(ruleReplyLine, "the keyword and what Advertise returns make a line of %d octets, and %d is the "+
			"most: leave something out", n, longestReply)
	}
	return args, ok
}

// isPrintable reports whether s is an ehlo-param.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}
