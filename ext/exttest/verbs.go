package exttest

import (
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// verbs has the verbs come in every state and with arguments of all kinds.
func (s *suite) verbs() {
	for _, st := range s.stages {
		set, err := ext.NewSet(st.protocol, st.list)
		if err != nil {
			s.broken(ruleDefinition, "%v", err)
			return
		}
		for i := range s.e.Verbs {
			v := set.Table().Lookup(s.e.Verbs[i].Name)
			b := &barrage{s: s, st: st, v: v}
			b.said, b.works = said(st.sample, v.Name)
			for _, part := range []func(){
				func() { b.cuts(set.Table()) }, b.unknown, b.promise, b.states, b.arguments, b.group,
			} {
				if part(); !s.sound() {
					return
				}
			}
		}
	}
}

// said returns the arguments with which the dialogues of the sample say the verb, and those to which the reply is positive.
func said(sample *Sample, name string) (list, works []string) {
	for _, text := range sample.Dialogues {
		script, err := prototest.Parse("dialogue", []byte(text))
		if err != nil {
			continue // which is told where it is played
		}
		for i, step := range script.Steps {
			word, args, _ := strings.Cut(strings.TrimRight(string(step.Raw), "\r\n"), " ")
			if step.Kind == prototest.Send && strings.EqualFold(word, name) && !strings.ContainsAny(args, "\r\n") {
				list = append(list, args)
				if next := script.Steps[i+1:]; len(next) > 0 && strings.ContainsAny(next[0].Text[:min(1, len(next[0].Text))], "23") {
					works = append(works, args)
				}
			}
		}
	}
	return list, works
}

// A barrage tests one verb.
type barrage struct {
	s     *suite
	st    *stage
	v     *proto.Verb
	said  []string // the arguments of dialogues
	works []string // those of them to which the reply is positive
}

// command returns the command with arguments, and the octets that follow it. It reports false if the command cannot be
// said without losing the server, or drowning it.
func (b *barrage) command(args string) (text string, row *proto.Verb, ok bool) {
	const most = 1 << 16
	row, text = b.v, with(b.v.Name, args)+"\r\n"
	n := int64(0)
	if !b.s.within(func() {
		defer b.s.caught("Variant or Payload of "+b.v.Name+", for "+clip(args)+",", nil)
		octets := []byte(strings.TrimRight(args, " \t"))
		if b.v.Variant != nil {
			if other := b.v.Variant(octets); other != nil {
				row = other
			}
		}
		if b.v.Payload != nil {
			n, _ = b.v.Payload(octets)
		}
	}) {
		b.s.broken(ruleCommand, "Variant or Payload of %s does not return for %s", b.v.Name, clip(args))
	}
	if n < 0 || n > most {
		return "", nil, false
	}
	return text + strings.Repeat("x", int(n)), row, true
}

// easy returns arguments with which the command can be said at all times.
func (b *barrage) easy() string {
	for _, args := range append(slices.Clone(b.said), "", "0", "1") {
		if text, _, ok := b.command(args); ok && (b.v.Payload == nil || len(text) < 512) {
			if b.v.Payload == nil {
				return args
			}
			if _, err := b.v.Payload([]byte(args)); err == nil {
				return args
			}
		}
	}
	return ""
}

// unknown says the verb to servers that do not use the extension, and to those that do not offer it.
func (b *barrage) unknown() {
	srv, err := b.st.server(b.st.others, nil)
	if err != nil {
		b.s.broken(ruleDefinition, "the others cannot be used without it: %v", err)
		return
	}
	if a := b.st.last(srv, b.v.Name); a.code != 500 && a.code != 502 {
		b.s.broken(ruleCommand, "%s is answered %v by a server that does not use the extension, want 500", b.v.Name, a)
	}
	st := b.st.refusing
	if st == nil || st == b.st {
		return
	}
	for _, args := range append(slices.Clone(b.said), "", "x") {
		a, ok := b.once(st, args)
		if !b.s.sound() {
			return
		}
		if ok && a.code < 400 {
			b.s.broken(ruleCommand, "%s is answered %v %v, where the extension is not on offer: have Serve return "+
				"502, since it is called there too", clip(with(b.v.Name, args)), a, st)
		}
	}
}

// promise says the verb in each kind of session to which the extension is on offer: there it must not be answered as one
// that is not implemented. What a dialogue says with success does not have to be understood elsewhere, but to be known.
func (b *barrage) promise() {
	list := b.works
	if len(list) == 0 {
		list = append(slices.Clone(b.said), "", "0", "x")
	}
	for _, st := range b.st.offering {
		tried, unknown := 0, 0
		var what string
		var reply answer
		for _, args := range list {
			a, ok := b.once(st, args)
			if !b.s.sound() {
				return
			}
			if !ok {
				continue
			}
			tried++
			if a.code == 502 || a.code == 500 && len(b.works) > 0 {
				unknown++
				what, reply = with(b.v.Name, args), a
			}
		}
		if unknown > 0 && (len(b.works) > 0 || unknown == tried) {
			b.s.broken(ruleCommand, "%s is answered %v %v, where the extension is on offer: have Advertise offer it only "+
				"to sessions for which Serve can carry it out", clip(what), reply, st)
		}
	}
}

// once says the verb to a server of st, and returns the reply.
func (b *barrage) once(st *stage, args string) (a answer, ok bool) {
	text, _, ok := b.command(args)
	if !ok {
		return answer{}, false
	}
	t, before, found := st.reach(b.v.In)
	defer t.close()
	if !found || before.code == 0 {
		return answer{}, false
	}
	t.say(text)
	if a = t.hear(); a.code == 0 {
		b.silent(clip(with(b.v.Name, args)), t)
		return a, false
	}
	return a, true
}

// silent records that there was no reply.
func (b *barrage) silent(what string, t *talk) {
	how := "the connection ends"
	if t.late {
		how = "Serve does not return"
	}
	b.s.broken(ruleReply, "%s has no reply, although every command has exactly one: %s", what, how)
}

// A step leads from one state to the next.
type step struct {
	state proto.State
	line  string // that leads there from the one before
}

func (st *stage) steps() []step {
	return []step{
		{proto.Hello, ""}, {proto.Ready, st.hello()}, {proto.Mail, from}, {proto.Rcpt, to}, {proto.Chunks, "BDAT 0"},
	}
}

// reach returns a connection in the first state of in that can be reached; Hello is the last resort.
func (st *stage) reach(in proto.State) (t *talk, a answer, ok bool) {
	steps := st.steps()
	for _, i := range []int{1, 2, 3, 4, 0} {
		if in&steps[i].state == 0 {
			continue
		}
		if i == 0 {
			return st.dial(st.srv), answer{code: 220}, true
		}
		t, a = st.enter()
		for _, step := range steps[2:max(2, i+1)] {
			a = t.ask(step.line)
		}
		return t, a, true
	}
	t, a = st.enter()
	return t, a, false
}

// states says the verb in every state: where it may be sent, and where it may not.
func (b *barrage) states() {
	text, _, ok := b.command(b.easy())
	for _, step := range b.st.steps() {
		if step.state == proto.Chunks && (!has(b.st.list, "CHUNKING") || b.s.e.Chunk != "") {
			continue
		}
		if b.v.In&step.state != 0 {
			for _, args := range append(slices.Clone(b.said), "", "x", b.easy()) {
				b.say(b.v.Name, args, step.state)
			}
			continue
		}
		if !ok {
			continue
		}
		t, _, _ := b.st.reach(step.state)
		t.say(text)
		if a := t.hear(); a.code != 503 {
			b.s.broken(ruleOrder, "%s in the state %v, where it may not be sent, is answered %v, want 503",
				b.v.Name, step.state, a)
		} else {
			b.stays(t, step.state, step.state)
		}
		t.close()
	}
}

// stays finds out whether a session that was in a state, and is to be in next, goes on from there.
func (b *barrage) stays(t *talk, state, next proto.State) {
	on := map[proto.State]string{proto.Hello: b.st.hello(), proto.Ready: from, proto.Mail: to, proto.Rcpt: "DATA"}[next]
	if on == "" {
		return
	}
	if a := t.ask(on); a.code/100 != 2 && a.code != 354 {
		b.s.broken(ruleOrder, "after %s in the state %v, which leads to %v, %s is answered %v", b.v.Name, state, next, on, a)
	}
}

// arguments says the verb with arguments of all kinds, in any case, where it may be sent.
func (b *barrage) arguments() {
	limit := 512 + b.v.Grow
	fill := strings.Repeat("x", limit-len(b.v.Name+" \r\n"))
	list := append(slices.Clone(b.said),
		"", " ", "x", "=", "*", "+", "-1", "0", "%s%n", "<>", "@", "#", ",", "\"", "\\", "é", "\xff", "\x00", "\t", "a\tb",
		"99999999999999999999", "a b c d e f", strings.Repeat("x ", 100), strings.Repeat("=", 200),
		strings.Repeat(" ", 100)+"x", fill)
	seeds := append(slices.Clone(b.said), "x")
	for _, v := range hostile(seeds, 8) {
		if len(list) > 80 {
			break
		}
		if len(v) < 100 && !strings.ContainsAny(v, "\r\n") {
			list = append(list, v)
		}
	}
	for _, args := range list {
		if b.s.slow.exceeded() {
			return
		}
		upper, okUpper := b.say(b.v.Name, args, b.v.In)
		lower, okLower := b.say(strings.ToLower(b.v.Name), args, b.v.In)
		if okUpper && okLower && upper.code != lower.code { // the case itself is gone when Serve is called
			b.s.fickle(clip(with(b.v.Name, args)), upper, lower)
		}
	}
	if b.v.Payload == nil {
		if a, ok := b.say(b.v.Name, fill+"x", b.v.In); ok && a.code != 500 {
			b.s.broken(ruleLine, "%s in a line of %d octets is answered %v, want 500", b.v.Name, limit+1, a)
		}
	}
}

// say says the verb once in the first of the states, and looks at the replies until the end of the command. It returns the
// first.
func (b *barrage) say(name, args string, in proto.State) (first answer, ok bool) {
	text, row, ok := b.command(args)
	if !ok {
		return answer{}, false
	}
	t, before, found := b.st.reach(in)
	defer t.close()
	if !found || before.code == 0 || before.code >= 400 {
		return answer{}, false
	}
	what := clip(with(name, args))
	t.say(name + text[len(name):])
	a := t.hear()
	first = a
	for rounds := 0; a.code/100 == 3; rounds++ {
		if rounds == 20 {
			b.s.broken(ruleReply, "the exchange that %s begins does not end: bound the number of lines", what)
			return first, true
		}
		if next, _ := row.After(row.In, a.code); next == proto.Content {
			t.say(".\r\n")
			a = t.hear()
			break
		}
		a = t.ask("*")
	}
	if a.code == 0 {
		b.silent(what, t)
		return first, true
	}
	if n := row.Replies; n != nil {
		for range n(1) - 1 {
			t.hear()
		}
	}
	next, known := row.After(row.In, a.code)
	if !known || next&(proto.Handover|proto.Closed) != 0 {
		return first, true
	}
	if end := t.ask("XEXTTEST-UNKNOWN"); end.code != 500 {
		b.s.broken(ruleReply, "a command after %s is answered %v, want the 500 of one that is unknown: every "+
			"command has exactly one reply", what, end)
		return first, true
	}
	if in&(in-1) == 0 {
		next, _ = row.After(in, a.code)
		b.stays(t, in, next)
	}
	return first, true
}

// group says the verb in a group of commands.
func (b *barrage) group() {
	args := b.easy()
	text, row, ok := b.command(args)
	if !ok || row.More != 0 || row.OK == proto.Handover || row.Replies != nil {
		return
	}
	single, said := b.say(b.v.Name, args, b.v.In)
	t, before, found := b.st.reach(b.v.In)
	defer t.close()
	if !said || !found || before.code >= 400 {
		return
	}
	t.say(text + "XEXTTEST-UNKNOWN\r\nQUIT\r\n")
	got := []int{t.hear().code, t.hear().code, t.hear().code}
	want := []int{single.code, 500, 221}
	if next, _ := row.After(row.In, single.code); next == proto.Closed {
		want = []int{single.code, 0, 0}
	}
	if !slices.Equal(got, want) {
		b.s.broken(ruleGroups, "%s in a group with an unknown command and QUIT is answered %v, want %v",
			clip(with(b.v.Name, args)), got, want)
	}
}

// cuts has the engine read the verb cut in every way, which finds rows whose functions remember something.
func (b *barrage) cuts(table *proto.Table) {
	answer := func(ev proto.Event) proto.Reply {
		if ev.Err == nil && ev.Verb != nil && ev.Verb.OK == proto.Never && ev.Verb.More == 0 {
			return proto.Reply{Code: 502, Text: "no"}
		}
		return prototest.Accept(ev)
	}
	var input []byte
	for _, line := range []string{b.st.hello(), from, to} {
		for _, args := range append(slices.Clone(b.said), "x", b.easy()) {
			if text, row, ok := b.command(args); ok && len(text) < 512 && row.More == 0 && row.OK != proto.Handover {
				input = append(input, text...)
			}
		}
		input = append(input, line+"\r\n"...)
	}
	input = append(input, "RSET\r\n"...)
	if text, _, ok := b.command(b.easy()); ok {
		input = append(input, text+"NOOP\r\n"...)
	}
	var err error
	ok := b.s.within(func() {
		defer b.s.caught("Variant, Payload or Replies of "+b.v.Name, nil)
		_, err = prototest.AnyCut(table, answer, input)
	})
	if err != nil || !ok {
		b.s.broken("law 3 of package proto", "the answer to %s depends on how the octets were cut on the way: let "+
			"Variant, Payload and Replies depend on their arguments alone", b.v.Name)
	}
}
