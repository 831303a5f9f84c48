package servertest

import (
	"bytes"
	"regexp"
	"slices"

	"smtpkit.example/smtp/proto"
)

// examID finds the Message-ID of a message of an exam.
var examID = regexp.MustCompile(`<[0-9]+\.[0-9]+@servertest\.example>`)

// checkKept compares what is kept with what was accepted.
func (x *exam) checkKept() {
	if x.opt.Kept == nil {
		return
	}
	kept := make(map[string][]*Message)
	for _, m := range x.opt.Kept() {
		id := string(examID.Find(m.Raw))
		kept[id] = append(kept[id], m)
	}
	x.mu.Lock()
	messages := slices.Clone(x.messages)
	x.mu.Unlock()
	for _, m := range messages {
		all := kept[m.id]
		copies := merged(all)
		delete(kept, m.id)
		x.mu.Lock()
		accepted, arrived := m.accepted, m.tried && !m.cut
		x.mu.Unlock()
		switch {
		case len(copies) > 0 && !arrived:
			x.fail(ruleKept, "%s: the message did not arrive to its end, and there is one: %v", m.scenario, copies[0])
		case accepted && len(copies) != 1:
			x.fail(ruleOnce, "%s: the message was accepted, and %d are kept%s", m.scenario, len(copies), advice(copies))
		case !accepted && len(copies) > 0:
			x.fail(ruleOnce, "%s: the message was refused, and %d are kept", m.scenario, len(copies))
		case accepted:
			for _, k := range all {
				x.compareCopy(m, k)
			}
			x.compareTo(m, copies[0])
		}
	}
	for _, others := range kept {
		x.fail(ruleKept, "a message is kept that was not sent, or the beginning of one: %q",
			others[0].Raw[:min(len(others[0].Raw), 100)])
	}
}

// advice says what may be missing if several messages are kept.
func advice(list []*Message) string {
	if len(list) > 1 && slices.ContainsFunc(list, func(m *Message) bool { return len(m.To) == 0 }) {
		return ". If there is a copy for each recipient, have Kept fill in To"
	}
	return ""
}

// merged returns the messages, which have one Message-ID, as one if they are copies for different recipients. Each may
// have fields of its own in front.
func merged(list []*Message) []*Message {
	if len(list) < 2 {
		return list
	}
	one := *list[0]
	one.To = nil
	for _, m := range list {
		if len(m.To) == 0 {
			return list
		}
		for _, r := range m.To {
			if slices.ContainsFunc(one.To, func(o proto.Recipient) bool { return o.Address.Equal(r.Address) }) {
				return list
			}
			one.To = append(one.To, r)
		}
	}
	return []*Message{&one}
}

// compareCopy compares a copy that is kept, and its sender, with the message that was sent.
func (x *exam) compareCopy(m *sent, kept *Message) {
	if !bytes.HasSuffix(kept.Raw, []byte(m.content)) {
		x.fail(ruleOctets, "%s: the message has %d octets, and what is kept does not end with them: it has %d", m.scenario,
			len(m.content), len(kept.Raw))
	}
	if from, _ := proto.ParseAddress(m.from); !kept.From.IsNull() && kept.From.Key() != from.Key() {
		x.fail(m.shows, "%s: the message from <%s> is kept as one from %v", m.scenario, m.from, kept.From)
	}
}

// compareTo compares the recipients of the message that is kept with those of the one that was sent.
func (x *exam) compareTo(m *sent, kept *Message) {
	if len(kept.To) == 0 || m.loose {
		return
	}
	var to, want []string
	for _, r := range kept.To {
		to = append(to, r.Address.Key())
	}
	for _, a := range m.to {
		address, _ := proto.ParseAddress(a)
		want = append(want, address.Key())
	}
	slices.Sort(to)
	slices.Sort(want)
	if !slices.Equal(to, want) {
		x.fail(m.shows, "%s: the message to %v is kept for %v", m.scenario, want, to)
	}
}
