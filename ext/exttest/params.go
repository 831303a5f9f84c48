package exttest

import (
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A command is MAIL or RCPT, with what is known about its parameters.
type command struct {
	st      *setting
	name    string
	params  []ext.Param
	of      func(*ext.Extension) []ext.Param // the parameters that an extension adds to the command
	samples func(*Sample) []string           // the valid parameters of a sample
	bad     []string                         // parameters that have to be refused
	prelude []string                         // the commands before it
	line    string                           // the command without parameters
}

func (s *suite) commands(st *setting) []*command {
	mail := &command{st: st, name: "MAIL", params: s.e.Mail, bad: st.sample.BadMail, line: from,
		of:      func(e *ext.Extension) []ext.Param { return e.Mail },
		samples: func(x *Sample) []string { return x.Mail }}
	open := from
	if len(st.sample.Mail) > 0 {
		open = with(from, st.sample.Mail[0])
	}
	rcpt := &command{st: st, name: "RCPT", params: s.e.Rcpt, bad: st.sample.BadRcpt, line: to, prelude: []string{open},
		of:      func(e *ext.Extension) []ext.Param { return e.Rcpt },
		samples: func(x *Sample) []string { return x.Rcpt }}
	return []*command{mail, rcpt}
}

// try sends the command with parameters, after its prelude. It returns the reply, or that of the first command that is
// refused.
func (c *command) try(params string) (a answer) {
	t, _ := c.st.enter()
	defer t.close()
	for _, line := range append(slices.Clone(c.prelude), with(c.line, params)) {
		if a = t.command(line); a.code/100 != 2 {
			break
		}
	}
	return a
}

// parameters sends parameters to servers, valid ones and others.
func (s *suite) parameters() {
	for _, st := range s.settings {
		if !st.on() {
			continue
		}
		commands := s.commands(st)
		for i, c := range commands {
			s.sampled(c)
			for j := range c.params {
				if s.found.none() {
					s.parameter(c, commands[1-i], &c.params[j])
				}
			}
			for _, text := range c.bad {
				if a := c.try(text); a.code != 501 {
					s.broken(ruleSyntax, "%s with %s is answered %v, want 501: let Check refuse it", c.name, text, a)
				}
			}
			if !s.found.none() {
				return // RCPT follows a MAIL of the Sample, which has to work
			}
		}
		s.lines(commands)
	}
}

// sampled sends the parameters of the sample that have to be accepted.
func (s *suite) sampled(c *command) {
	for _, text := range c.samples(c.st.sample) {
		a := c.try(text)
		if a.code/100 == 2 {
			continue
		}
		if again := c.try(text); again.code != a.code {
			s.fickle(with(c.name, "with "+text), a, again)
			continue
		}
		s.broken(ruleUnknown, "%s with %s is answered %v %v, want 250: the Sample says that it is valid",
			c.name, text, a, c.st)
	}
}

// fickle records that the same commands got different replies, a and b.
func (s *suite) fickle(what string, a, b answer) {
	s.broken("Sample.Session: the same dialogue has to have the same replies each time", "%s is answered once %v, and once "+
		"%v: let replies depend on nothing but what the session was told, and sessions not share what they are told",
		what, a, b)
}

// parameter tests one parameter of c.
func (s *suite) parameter(c, other *command, p *ext.Param) {
	list, fromSample := s.valid(c.st, c.samples, p)
	if len(list) == 0 {
		if !fromSample {
			s.broken("the parameter cannot be tested", "there is no value to be known that Check of the %s "+
				"parameter %s accepts: give one in %s of a Sample",
				c.name, p.Key, strings.ToUpper(c.name[:1])+strings.ToLower(c.name[1:]))
		}
		return
	}
	for _, text := range list {
		s.accepted(c, p, text, fromSample)
	}
	if !s.found.none() {
		return
	}
	text := list[0]
	own, rest := split(text, p)
	own.Key = strings.ToLower(own.Key)
	s.malformed(c, text+" "+write(proto.Params{own}), "given twice")
	alone := func(own string) string { return with(write(rest), own) }
	switch {
	case p.Flag:
		s.malformed(c, alone(p.Key+"=x"), "a flag with a value")
	case !p.Optional:
		s.malformed(c, alone(p.Key), "without its value")
	default:
		if a := c.try(alone(p.Key)); a.code == 501 || a.code == 555 {
			s.broken(ruleUnknown, "%s with %s is answered %v, although its value is Optional", c.name, p.Key, a)
		}
	}
	if p.Values != nil {
		s.malformed(c, alone(p.Key+"=XEXTTEST"), "with a value that is not among its Values")
	}
	if p.Check != nil {
		s.refused(c, p, alone)
	}
	if conflict := find(c.params, p.ConflictsWith); conflict != nil && p.ConflictsWith != "" {
		if others, _ := s.valid(c.st, c.samples, conflict); len(others) > 0 {
			s.malformed(c, text+" "+others[0], "together with "+p.ConflictsWith)
		}
	}
	s.unknown(c, other, p, text)
}

// split divides the parameters in text into p and the others.
func split(text string, p *ext.Param) (own proto.Param, rest proto.Params) {
	for _, q := range parse(text) {
		if strings.EqualFold(q.Key, p.Key) {
			own = q
		} else {
			rest = append(rest, q)
		}
	}
	return own, rest
}

// write returns parameters as they stand in a command.
func write(params proto.Params) string {
	var words []string
	for _, p := range params {
		if p.HasValue {
			p.Key += "=" + p.Value
		}
		words = append(words, p.Key)
	}
	return strings.Join(words, " ")
}

// malformed sends c with parameters that have to be refused. What says what is wrong with them.
func (s *suite) malformed(c *command, params string, what string) {
	if a := c.try(params); a.code != 501 {
		s.broken(ruleSyntax, "%s with %s, %s, is answered %v, want 501", c.name, clip(params), what, a)
	}
}

// accepted sends the parameters in text, which are valid, and checks what the session gets. FromSample says that they
// are in the sample.
func (s *suite) accepted(c *command, p *ext.Param, text string, fromSample bool) {
	rec := &record{}
	srv, err := c.st.server(c.st.list, rec)
	if err != nil {
		s.broken(ruleDefinition, "%v", err)
		return
	}
	params := parse(text)
	value, _ := params.Get(p.Key)
	a := c.st.run(srv, append(slices.Clone(c.prelude), with(c.line, text))...)
	switch {
	case !s.found.none():
		return
	case fromSample && a.code/100 != 2:
		s.fickle(with(c.name, "with "+text), answer{250, "250 ..."}, a)
		return
	case a.code == 501 || a.code == 555 || a.code == 500 || a.code == 0:
		s.broken(ruleUnknown, "%s with %s is answered %v %v, although the description says that it is valid",
			c.name, text, a, c.st)
		return
	}
	if n := len(" " + p.Key + "=" + value); fromSample && value != "" && n > p.MaxLength {
		s.broken(ruleLine, "the %s parameter %s=%s takes %d octets with the space before it, and its MaxLength is %d: raise it",
			c.name, p.Key, clip(value), n, p.MaxLength)
	}
	seen := rec.mail
	if c.name == "RCPT" {
		seen = rec.rcpt
	}
	if got, ok := last(seen).Get(p.Key); a.code/100 == 2 && (!ok || got != value) {
		s.broken(ruleUnknown, "%s with %s gives the session %s", c.name, text, write(last(seen)))
	}
	own, rest := split(text, p)
	for _, change := range []func(string) string{strings.ToUpper, strings.ToLower} {
		q := own
		q.Key = change(q.Key)
		if p.Values != nil {
			q.Value = change(q.Value)
		}
		again := c.try(write(append(slices.Clone(rest), q)))
		if again.code == a.code {
			continue
		}
		if same := c.try(text); same.code != a.code {
			s.fickle(with(c.name, "with "+text), a, same)
		} else {
			s.broken(ruleCase, "%s with %s is answered %v, and with %s %v: names, and the values in Values, have no case",
				c.name, text, a,
				write(proto.Params{q}), again)
		}
	}
}

func last(list []proto.Params) proto.Params {
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1]
}

// refused sends values that Check refuses, as far as they can be sent.
func (s *suite) refused(c *command, p *ext.Param, alone func(string) string) {
	left := 16
	for _, v := range hostile(common, 8) {
		if left == 0 {
			return
		}
		if !isValue(v) || !isPrintable(v) || len(v) > 8 || slices.Contains(p.Values, strings.ToUpper(v)) || s.accepts(p, v) {
			continue
		}
		left--
		s.malformed(c, alone(p.Key+"="+v), "which Check refuses")
	}
}

// unknown sends the parameter where the server does not know it.
func (s *suite) unknown(c, other *command, p *ext.Param, text string) {
	shared := func(c *command) bool {
		return slices.ContainsFunc(c.st.others, func(e ext.Extension) bool { return find(c.of(&e), p.Key) != nil })
	}
	alone, _ := split(text, p)
	own := write(proto.Params{alone})
	refuse := func(where string, st *setting, srv *server.Server, lines ...string) {
		if a := st.run(srv, lines...); a.code != 555 {
			s.broken(ruleUnknown, "%q is answered %v %s, want 555", lines[len(lines)-1], a, where)
		}
	}
	if find(other.params, p.Key) == nil && !shared(other) {
		lines := append(slices.Clone(other.prelude), with(other.line, own))
		refuse("although the parameter is one of "+c.name, c.st, c.st.srv, lines...)
	}
	if shared(c) {
		return
	}
	var lines []string
	if c.name == "RCPT" {
		lines = []string{from}
	}
	lines = append(lines, with(c.line, own))
	srv, err := c.st.server(c.st.others, nil)
	if err != nil {
		s.broken(ruleDefinition, "the others cannot be used without it: %v", err)
		return
	}
	refuse("by a server that does not use the extension", c.st, srv, lines...)
	if c.st.protocol == proto.SMTP {
		refuse("after HELO", c.st, c.st.srv, append([]string{"HELO client.example"}, lines...)...)
	}
	if st := c.st.refusing; st != nil {
		refuse(st.String()+", where it is not advertised", st, st.srv, lines...)
	}
}

// lines checks how long the command lines may be.
func (s *suite) lines(commands []*command) {
	for _, c := range commands {
		text, longest := "", 0
		for i := range c.params {
			list, _ := s.valid(c.st, c.samples, &c.params[i])
			for _, one := range list {
				if a := c.try(one); a.code == 250 && len(one) > longest {
					text, longest = one, len(one)
				}
			}
		}
		if text == "" {
			continue
		}
		line := with(c.line, text)
		limit := 512 + c.length()
		for over, code := range []int{250, 500} {
			padded := line + strings.Repeat(" ", limit-len(line)-len("\r\n")+over)
			if a := c.st.run(c.st.srv, append(slices.Clone(c.prelude), padded)...); a.code != code {
				s.broken(ruleLine, "%s with %s in a line of %d octets is answered %v, want %d: 512 octets and each "+
					"MaxLength is the most", c.name, text, limit+over, a, code)
			}
		}
	}
}

// length returns how many octets the parameters of all extensions add to the command.
func (c *command) length() int {
	maxLength, conflicts := make(map[string]int), make(map[string]string)
	for i := range c.st.list {
		for _, p := range c.of(&c.st.list[i]) {
			maxLength[p.Key] = max(maxLength[p.Key], p.MaxLength)
			if p.ConflictsWith != "" {
				conflicts[p.Key] = p.ConflictsWith
			}
		}
	}
	sum := 0
	for key, n := range maxLength {
		if sum += n; conflicts[key] != "" {
			sum -= min(n, maxLength[conflicts[key]])
		}
	}
	return sum
}
