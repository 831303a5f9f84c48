package exttest

import (
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
		for _, taking := range []bool{true, false} {
			for _, p := range s.protocols() {
				for _, secure := range []bool{false, true} {
					st := s.stage(sample, taking, p, secure)
					if !s.enterStage(st) {
						continue
					}
					if first == nil {
						first = st
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
		if s.stages[i] == nil {
			s.stages[i] = first
			if s.e.Keyword != "" {
				s.broken("nothing of it can be tested", "it is never on offer: give a Sample whose Session takes part in it")
			}
		}
		if s.stages[i] == nil {
			s.hopeless = true
			return
		}
		s.stages[i].refusing = refusing
	}
}

// on reports whether the extension is on offer.
func (st *stage) on() bool { return st != nil && st.offered }

// enterStage looks at the replies to EHLO, and at how a client fares that does not use the extension.
func (s *suite) enterStage(st *stage) bool {
	var err error
	if st.srv, err = st.server(st.list, nil); err != nil {
		s.broken(ruleDefinition, "it cannot be used beside ext.Default: %s", strings.TrimPrefix(err.Error(), "smtp: "))
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
		s.broken(ruleOffer, "it is on offer in one reply to EHLO and not in the next, %v: let Advertise depend on "+
			"nothing that changes by itself", st)
	}
	s.plain(t, st)
	if st.protocol == proto.SMTP && t.ask("HELO client.example").code == 250 {
		s.plain(t, st)
	}
	return true
}

// plain sends a message as a client does that knows no extensions.
func (s *suite) plain(t *talk, st *stage) {
	for _, step := range []struct {
		line string
		code int
	}{{from, 250}, {to, 250}, {"NOOP", 250}, {"DATA", 354}, {"Subject: x\r\n\r\nx\r\n.", 250}, {"RSET", 250}} {
		if a := t.ask(step.line); a.code != step.code {
			s.broken(ruleService, "a client that does not use it is not served: %q is answered %v %v, want %d",
				step.line, a, st, step.code)
			return
		}
	}
}

// advertised calls Advertise, and looks at what it returns.
func (s *suite) advertised(f func(ext.Info) (string, bool), x ext.Info) (args string, ok bool) {
	args, ok = f(x)
	// Something that changes by itself, such as a time, may do so once between calls, but not each time.
	changes := 0
	before, was := args, ok
	for range 4 {
		again, still := f(x)
		if again != before || still != was {
			changes++
		}
		before, was = again, still
	}
	if changes > 1 {
		s.broken(ruleOffer, "Advertise returns something else each time, such as %q and %q: the same EHLO has the same reply",
			args, before)
	}
	if !ok {
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
