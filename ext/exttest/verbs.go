package exttest

import (
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// verbs sends the verbs in every state and with arguments of all kinds.
func (s *suite) verbs() {
	for _, st := range s.settings {
		set, err := ext.NewSet(st.protocol, st.list)
		if err != nil {
			s.broken(ruleDefinition, "%v", err)
			return
		}
		for i := range s.e.Verbs {
			v := set.Table().Lookup(s.e.Verbs[i].Name)
			b := &verbTest{s: s, st: st, v: v}
			b.args, b.accepted = dialogueArgs(st.sample, v.Name)
			for _, part := range []func(){
				func() { b.cuts(set.Table()) }, b.unknown, b.promise, b.states, b.arguments, b.group,
			} {
				if part(); !s.found.none() {
					return
				}
			}
		}
	}
}

// dialogueArgs returns the arguments that the verb has in the dialogues of the sample, and those of them to which the
// reply is positive.
func dialogueArgs(sample *Sample, name string) (list, accepted []string) {
	for _, text := range sample.Dialogues {
		script, err := prototest.Parse("dialogue", []byte(text))
		if err != nil {
			continue // dialogues reports it
		}
		for i, step := range script.Steps {
			word, args, _ := strings.Cut(strings.TrimRight(string(step.Raw), "\r\n"), " ")
			if step.Kind == prototest.Send && strings.EqualFold(word, name) && !strings.ContainsAny(args, "\r\n") {
				list = append(list, args)
				if next := script.Steps[i+1:]; len(next) > 0 && strings.ContainsAny(next[0].Text[:min(1, len(next[0].Text))], "23") {
					accepted = append(accepted, args)
				}
			}
		}
	}
	return list, accepted
}

// A verbTest tests one verb.
type verbTest struct {
	s        *suite
	st       *setting
	v        *proto.Verb
	args     []string // the arguments that the verb has in dialogues
	accepted []string // those of them to which the reply is positive
}

// command returns the command with args, with the octets of its payload, and the row for them. It reports false if the
// command would make the server close the connection, or has a very large payload.
func (b *verbTest) command(args string) (text string, row *proto.Verb, ok bool) {
	const maxPayload = 1 << 16
	row, text = b.v, with(b.v.Name, args)+"\r\n"
	n := int64(0)
	if !b.s.completes(func() {
		defer b.s.recovered("Variant or Payload of "+b.v.Name+", for "+clip(args)+",", nil)
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
	if n < 0 || n > maxPayload {
		return "", nil, false
	}
	return text + strings.Repeat("x", int(n)), row, true
}

// easy returns arguments with which the command can always be sent.
func (b *verbTest) easy() string {
	for _, args := range append(slices.Clone(b.args), "", "0", "1") {
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

// unknown sends the verb to servers that do not use the extension, and to those that do not advertise it.
func (b *verbTest) unknown() {
	srv, err := b.st.server(b.st.others, nil)
	if err != nil {
		b.s.broken(ruleDefinition, "the others cannot be used without it: %v", err)
		return
	}
	if a := b.st.run(srv, b.v.Name); a.code != 500 && a.code != 502 {
		b.s.broken(ruleCommand, "%s is answered %v by a server that does not use the extension, want 500", b.v.Name, a)
	}
	st := b.st.refusing
	if st == nil || st == b.st {
		return
	}
	for _, args := range append(slices.Clone(b.args), "", "x") {
		a, ok := b.once(st, args)
		if !b.s.found.none() {
			return
		}
		if ok && a.code < 400 {
			b.s.broken(ruleCommand, "%s is answered %v %v, where the extension is not advertised: have Serve return "+
				"502, since it is called there too", clip(with(b.v.Name, args)), a, st)
		}
	}
}

// promise sends the verb in each setting in which the extension is advertised. There the reply must not be one of a
// command that is not implemented. If a dialogue has success with some arguments, the same arguments may fail in
// another setting, but the command must be known.
func (b *verbTest) promise() {
	list := b.accepted
	if len(list) == 0 {
		list = append(slices.Clone(b.args), "", "0", "x")
	}
	for _, st := range b.st.offering {
		tried, unknown := 0, 0
		var what string
		var reply answer
		for _, args := range list {
			a, ok := b.once(st, args)
			if !b.s.found.none() {
				return
			}
			if !ok {
				continue
			}
			tried++
			if a.code == 502 || a.code == 500 && len(b.accepted) > 0 {
				unknown++
				what, reply = with(b.v.Name, args), a
			}
		}
		if unknown > 0 && (len(b.accepted) > 0 || unknown == tried) {
			b.s.broken(ruleCommand, "%s is answered %v %v, where the extension is advertised: have Advertise offer it only "+
				"to sessions for which Serve can carry it out", clip(what), reply, st)
		}
	}
}

// once sends the verb to the server of st, and returns the reply.
func (b *verbTest) once(st *setting, args string) (a answer, ok bool) {
	text, _, ok := b.command(args)
	if !ok {
		return answer{}, false
	}
	t, before, found := st.reach(b.v.In)
	defer t.close()
	if !found || before.code == 0 {
		return answer{}, false
	}
	t.send(text)
	if a = t.receive(); a.code == 0 {
		b.noReply(clip(with(b.v.Name, args)), t)
		return a, false
	}
	return a, true
}

// noReply records that there was no reply.
func (b *verbTest) noReply(what string, t *peer) {
	how := "the connection ends"
	if t.late {
		how = "Serve does not return"
	}
	b.s.broken(ruleReply, "%s has no reply, although every command has exactly one: %s", what, how)
}

// A step leads from one state to the next.
type step struct {
	state proto.State
	line  string // the command that leads there from the state before
}

// steps returns the states in which a verb may be sent, in order.
func (st *setting) steps() []step {
	return []step{
		{proto.Hello, ""}, {proto.Ready, st.hello()}, {proto.Mail, from}, {proto.Rcpt, to}, {proto.Chunks, "BDAT 0"},
	}
}

// reach returns a connection in one of the states of in, and the last reply. It prefers the states after EHLO.
func (st *setting) reach(in proto.State) (t *peer, a answer, ok bool) {
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
			a = t.command(step.line)
		}
		return t, a, true
	}
	t, a = st.enter()
	return t, a, false
}

// states sends the verb in every state, whether or not it may be sent there.
func (b *verbTest) states() {
	text, _, ok := b.command(b.easy())
	for _, step := range b.st.steps() {
		if step.state == proto.Chunks && (!has(b.st.list, "CHUNKING") || b.s.e.Chunk != "") {
			continue
		}
		if b.v.In&step.state != 0 {
			for _, args := range append(slices.Clone(b.args), "", "x", b.easy()) {
				b.try(b.v.Name, args, step.state)
			}
			continue
		}
		if !ok {
			continue
		}
		t, _, _ := b.st.reach(step.state)
		t.send(text)
		if a := t.receive(); a.code != 503 {
			b.s.broken(ruleOrder, "%s in the state %v, where it may not be sent, is answered %v, want 503",
				b.v.Name, step.state, a)
		} else {
			b.stays(t, step.state, step.state)
		}
		t.close()
	}
}

// stays checks that a session is in the state next, after the verb was sent in the state state.
func (b *verbTest) stays(t *peer, state, next proto.State) {
	on := map[proto.State]string{proto.Hello: b.st.hello(), proto.Ready: from, proto.Mail: to, proto.Rcpt: "DATA"}[next]
	if on == "" {
		return
	}
	if a := t.command(on); a.code/100 != 2 && a.code != 354 {
		b.s.broken(ruleOrder, "after %s in the state %v, which leads to %v, %s is answered %v", b.v.Name, state, next, on, a)
	}
}

// arguments sends the verb, in upper and lower case, with arguments of all kinds.
func (b *verbTest) arguments() {
	limit := 512 + b.v.Grow
	fill := strings.Repeat("x", limit-len(b.v.Name+" \r\n"))
	list := append(slices.Clone(b.args),
		"", " ", "x", "=", "*", "+", "-1", "0", "%s%n", "<>", "@", "#", ",", "\"", "\\", "é", "\xff", "\x00", "\t", "a\tb",
		"99999999999999999999", "a b c d e f", strings.Repeat("x ", 100), strings.Repeat("=", 200),
		strings.Repeat(" ", 100)+"x", fill)
	seeds := append(slices.Clone(b.args), "x")
	for _, v := range hostile(seeds, 8) {
		if len(list) > 80 {
			break
		}
		if len(v) < 100 && !strings.ContainsAny(v, "\r\n") {
			list = append(list, v)
		}
	}
	for _, args := range list {
		if b.s.delays.exceeded() {
			return
		}
		upper, okUpper := b.try(b.v.Name, args, b.v.In)
		lower, okLower := b.try(strings.ToLower(b.v.Name), args, b.v.In)
		if okUpper && okLower && upper.code != lower.code { // Serve gets the verb in upper case
			b.s.fickle(clip(with(b.v.Name, args)), upper, lower)
		}
	}
	if b.v.Payload == nil {
		if a, ok := b.try(b.v.Name, fill+"x", b.v.In); ok && a.code != 500 {
			b.s.broken(ruleLine, "%s in a line of %d octets is answered %v, want 500", b.v.Name, limit+1, a)
		}
	}
}

// try sends the verb once in one of the states, and checks the replies until the end of the command. It returns the
// first reply.
func (b *verbTest) try(name, args string, in proto.State) (first answer, ok bool) {
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
	t.send(name + text[len(name):])
	a := t.receive()
	first = a
	for rounds := 0; a.code/100 == 3; rounds++ {
		if rounds == 20 {
			b.s.broken(ruleReply, "the exchange that %s begins does not end: bound the number of lines", what)
			return first, true
		}
		if next, _ := row.After(row.In, a.code); next == proto.Content {
			t.send(".\r\n")
			a = t.receive()
			break
		}
		a = t.command("*")
	}
	if a.code == 0 {
		b.noReply(what, t)
		return first, true
	}
	if n := row.Replies; n != nil {
		for range n(1) - 1 {
			t.receive()
		}
	}
	next, known := row.After(row.In, a.code)
	if !known || next&(proto.Handover|proto.Closed) != 0 {
		return first, true
	}
	if end := t.command("XEXTTEST-UNKNOWN"); end.code != 500 {
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

// group sends the verb in a group of commands.
func (b *verbTest) group() {
	args := b.easy()
	text, row, ok := b.command(args)
	if !ok || row.More != 0 || row.OK == proto.Handover || row.Replies != nil {
		return
	}
	single, said := b.try(b.v.Name, args, b.v.In)
	t, before, found := b.st.reach(b.v.In)
	defer t.close()
	if !said || !found || before.code >= 400 {
		return
	}
	t.send(text + "XEXTTEST-UNKNOWN\r\nQUIT\r\n")
	got := []int{t.receive().code, t.receive().code, t.receive().code}
	want := []int{single.code, 500, 221}
	if next, _ := row.After(row.In, single.code); next == proto.Closed {
		want = []int{single.code, 0, 0}
	}
	if !slices.Equal(got, want) {
		b.s.broken(ruleGroups, "%s in a group with an unknown command and QUIT is answered %v, want %v",
			clip(with(b.v.Name, args)), got, want)
	}
}

// cuts lets the engine read the verb, cut at every place. This finds rows whose functions keep state.
func (b *verbTest) cuts(table *proto.Table) {
	answer := func(ev proto.Event) proto.Reply {
		if ev.Err == nil && ev.Verb != nil && ev.Verb.OK == proto.Never && ev.Verb.More == 0 {
			return proto.Reply{Code: 502, Text: "no"}
		}
		return prototest.Accept(ev)
	}
	var input []byte
	for _, line := range []string{b.st.hello(), from, to} {
		for _, args := range append(slices.Clone(b.args), "x", b.easy()) {
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
	ok := b.s.completes(func() {
		defer b.s.recovered("Variant, Payload or Replies of "+b.v.Name, nil)
		_, err = prototest.AnyCut(table, answer, input)
	})
	if err != nil || !ok {
		b.s.broken("law 3 of package proto", "the answer to %s depends on how the octets were cut on the way: let "+
			"Variant, Payload and Replies depend on their arguments alone", b.v.Name)
	}
}
