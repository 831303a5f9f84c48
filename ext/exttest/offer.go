package exttest

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// maxReplyLine is the maximum length of a line of a reply, with code and CRLF (RFC 5321 section 4.5.3.1.5).
const maxReplyLine = 512

// offer sends EHLO in every setting, and chooses the settings for the rest of the test.
func (s *suite) offer() {
	s.settings = make([]*setting, len(s.samples))
	for i := range s.samples {
		sample := &s.samples[i]
		var refusing, first *setting
		var offering []*setting
		var unserved error
		var taken []string // where it is advertised to a session that takes part
		for _, taking := range []bool{true, false} {
			for _, p := range s.protocols() {
				for _, secure := range []bool{false, true} {
					st := s.setting(sample, taking, p, secure)
					if !s.enterSetting(st) {
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
					s.checkInterfaces(st, &taken)
					if st.offered && !s.settings[i].on() {
						s.settings[i] = st
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
		if s.settings[i] == nil {
			s.settings[i] = first
			if !s.refuses() && s.found.none() {
				s.broken("nothing of it can be tested", "it is never advertised: give a Sample whose Session takes part in it")
			}
		}
		if s.settings[i] == nil {
			return
		}
		s.settings[i].refusing, s.settings[i].offering = refusing, offering
	}
}

// checkInterfaces checks that the extension names the interface of the session's, if it is advertised to sessions that
// take part and not to others. Taken has where it was advertised, and grows.
func (s *suite) checkInterfaces(st *setting, taken *[]string) {
	where := fmt.Sprint(st.protocol, st.tls)
	if st.taking {
		if st.offered && st.sample.Session != nil {
			*taken = append(*taken, where)
		}
		return
	}
	if st.offered || !slices.Contains(*taken, where) {
		return
	}
	part := st.sample.Session()
	if !slices.ContainsFunc(s.e.Interfaces, func(t reflect.Type) bool { return ext.Implements(part, t) }) {
		s.broken("ext.Extension: Interfaces", "whether it is advertised depends on the session, %T, which implements none "+
			"of Interfaces: name the interface that is looked for there, so that a server can tell of methods with a "+
			"wrong signature", part)
	}
}

// on reports whether the extension is advertised in the setting.
func (st *setting) on() bool { return st != nil && st.offered }

// refuses reports whether the extension is never advertised and exists to refuse commands. Then the server need not
// serve every kind of client.
func (s *suite) refuses() bool { return s.e.Keyword == "" }

// enterSetting starts the server of a setting and checks the replies to EHLO.
func (s *suite) enterSetting(st *setting) bool {
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
	if _, again := offers(t.command(st.hello()), s.e.Keyword); again != times {
		s.broken("what comes and goes cannot be tested", "it is advertised in one reply to EHLO and not in the next, %v: "+
			"let the result of Advertise depend on nothing that changes by itself", st)
	}
	return true
}

// plain checks that the server serves a client that does not use the extension, with EHLO and with HELO.
func (s *suite) plain(st *setting) error {
	t, _ := st.enter()
	defer t.close()
	err := st.serves(t)
	if err == nil && st.protocol == proto.SMTP && t.command("HELO client.example").code == 250 {
		err = st.serves(t)
	}
	return err
}

// serves sends a message like a client that knows no extensions.
func (st *setting) serves(t *peer) error {
	for _, step := range []struct {
		line string
		code int
	}{{from, 250}, {to, 250}, {"NOOP", 250}, {"DATA", 354}, {"Subject: x\r\n\r\nx\r\n.", 250}, {"RSET", 250}} {
		if a := t.command(step.line); a.code != step.code {
			return fmt.Errorf("%q is answered %v %v, want %d", step.line, a, st, step.code)
		}
	}
	return nil
}

// checkAdvertised calls Advertise, and checks what it returns.
func (s *suite) checkAdvertised(f func(ext.ServerConn) (string, bool), x ext.ServerConn) (args string, ok bool) {
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
	if n := len("250-" + line + "\r\n"); n > maxReplyLine {
		s.broken(ruleReplyLine, "the keyword and what Advertise returns make a line of %d octets, and %d is the "+
			"most: leave something out", n, maxReplyLine)
	}
	return args, ok
}

// isPrintable reports whether s is an ehlo-param of RFC 5321 section 4.1.1.1.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}
