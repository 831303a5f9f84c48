package exttest

import (
	"fmt"
	"sync"

	"smtpkit.example/smtp/proto/prototest"
)

// dialogues plays the scripts of the samples, with their octets cut at many places.
func (s *suite) dialogues() {
	for _, st := range s.settings {
		for i, text := range st.sample.Dialogues {
			script, err := prototest.Parse(fmt.Sprintf("dialogue %d", i+1), []byte(text))
			if err != nil {
				s.broken("package prototest has the form of scripts", "%v", err)
				continue
			}
			length := len(script.Steps.ClientBytes())
			for cut := 0; cut <= length; cut += 1 + length/100 {
				if err := play(st, script.Steps, cut); err != nil {
					s.broken("what the Sample says", "cut at %d: %v", cut, err)
					break
				}
			}
		}
	}
}

// play plays the client's part of a script, which begins after EHLO. It sends the octets in two parts, cut at cut.
func play(st *setting, steps prototest.Steps, cut int) error {
	t, _ := st.enter()
	defer t.close()
	in := steps.ClientBytes()
	written := make(chan struct{})
	go func() {
		defer close(written)
		t.send(string(in[:min(cut, len(in))]))
		t.send(string(in[min(cut, len(in)):]))
	}()
	var out []byte
	for _, step := range steps {
		var err error
		if out, err = follow(t, step, out); err != nil {
			t.raw.Close()
			<-written
			return err
		}
	}
	<-written
	if len(out) > 0 {
		return fmt.Errorf("the server says %q after the last step", out)
	}
	return nil
}

// follow receives what the server has to send in a step. Out is what was received before and not used; follow returns
// what remains.
func follow(t *peer, step prototest.Step, out []byte) ([]byte, error) {
	switch step.Kind {
	case prototest.Send, prototest.Hangup:
		return out, nil
	case prototest.TLS:
		return nil, fmt.Errorf("%v: TLS cannot be started in a dialogue of a Sample", step)
	}
	for {
		n, err := step.Take(out)
		if n > 0 || err != nil {
			return out[n:], err
		}
		a := t.receive()
		out = append(out, a.raw...)
		switch {
		case a.code == 0 && len(out) == 0 && (step.Optional || step.Kind == prototest.Close):
			return nil, nil
		case a.code == 0:
			return nil, fmt.Errorf("%v: the server says %q and nothing more", step, out)
		case step.Kind == prototest.Close:
			return nil, fmt.Errorf("%v: the server says %q", step, out)
		}
	}
}

// concurrency lets many sessions do at the same time what each did alone.
func (s *suite) concurrency() {
	const many = 8
	for _, st := range s.settings {
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() { s.alongside(st) })
		}
		if !s.completes(wg.Wait) {
			s.broken("ext.Extension: safe for concurrent use", "sessions at the same time wait for each other")
		}
	}
}

// alongside is one of the sessions of concurrency.
func (s *suite) alongside(st *setting) {
	const rule = "ext.Extension: the functions are shared by all sessions and safe for concurrent use"
	for _, text := range st.sample.Dialogues {
		script, err := prototest.Parse("dialogue", []byte(text))
		if err != nil {
			return // dialogues has reported it
		}
		if err := play(st, script.Steps, 0); err != nil {
			s.broken(rule, "among sessions at the same time: %v", err)
			return
		}
	}
	if !st.on() {
		return
	}
	for _, c := range s.commands(st) {
		for _, text := range c.samples(st.sample) {
			if a := c.try(text); a.code/100 != 2 {
				s.broken(rule, "among sessions at the same time %s with %s is answered %v", c.name, text, a)
			}
		}
	}
}
