package servertest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// places are the names of what a fault can be for and that are no verbs, as a test writes them.
var places = []struct{ name, written string }{
	{Greeting, "servertest.Greeting"}, {Content, "servertest.Content"}, {Handshake, "servertest.Handshake"},
	{Any, "servertest.Any"},
}

// callText returns the call that declares a fault, as in a test.
func callText(call, verb string, more []any) string {
	args := []string{fmt.Sprintf("%q", verb)}
	for _, p := range places {
		if p.name == verb {
			args[0] = p.written
		}
	}
	if call == "DropContent" {
		args = nil
	}
	for _, a := range more {
		switch a := a.(type) {
		case int, int64, time.Duration:
			args = append(args, fmt.Sprint(a))
		default:
			args = append(args, "…")
		}
	}
	return call + "(" + strings.Join(args, ", ") + ")"
}

// verbError says what to write in place of verb, or "" if a fault can be for it.
func verbError(verb string) string {
	for _, p := range places {
		switch {
		case p.name == verb:
			return ""
		case strings.EqualFold(p.name, verb):
			return "write " + p.written
		}
	}
	other := func(r rune) bool { return r <= ' ' || r >= 0x7f || 'a' <= r && r <= 'z' || r == ':' }
	if verb != "" && strings.IndexFunc(verb, other) < 0 {
		return ""
	}
	const rule = "a verb is one word in upper case"
	word := strings.ToUpper(verb)
	if words := strings.FieldsFunc(word, other); len(words) > 0 {
		return fmt.Sprintf("%s: write %q, and add For for what is behind it", rule, words[0])
	}
	return rule + `, such as "RCPT"`
}

// saw notes that a command has come, for those faults that never act.
func (s *faults) saw(verb string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		if f.verb == verb {
			f.came++
		}
		f.chunks = f.chunks || f.verb == "DATA" && verb == "BDAT"
	}
}

// idle returns the faults that were declared and have not acted as text, or "" if there are none.
func (s *faults) idle() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, f := range slices.Concat(s.past, s.list) {
		if f.hits == 0 {
			b.WriteString("\n\t" + f.idle())
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "servertest: these faults were declared and have not acted:" + b.String()
}

// idle says what is known of why the fault has not acted.
func (f *Fault) idle() string {
	text := f.made
	if f.who != "" {
		text += fmt.Sprintf(".For(%q)", f.who)
	}
	isVerb := !slices.ContainsFunc(places, func(p struct{ name, written string }) bool { return p.name == f.verb })
	switch {
	case f.came == 0 && f.chunks:
		text += ": the client has sent BDAT in place of DATA: use servertest.Content"
	case f.came == 0 && isVerb:
		text += ": no client has sent " + f.verb
	case isVerb:
		text += fmt.Sprintf(": %s has come %d times", f.verb, f.came)
	}
	return text
}
