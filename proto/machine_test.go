package proto

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A play drives a Machine: "MAIL" sends a command, "250" is a reply, "." the end of content, "line" a line. After each
// an error may be named, and after "=" the states now and ahead.
func play(t *testing.T, m *Machine, script string) {
	t.Helper()
	for _, step := range strings.Split(strings.TrimSpace(script), "\n") {
		what, want, _ := strings.Cut(strings.TrimSpace(step), "=")
		word, _, _ := strings.Cut(strings.TrimSpace(what), " ")
		var err error
		switch code := 0; {
		case word == "":
			continue
		case word == ".":
			err = m.End()
		case word == "line":
			err = m.Line()
		case word == "refused":
			m.Refused(nil)
		default:
			if n, _ := fmt.Sscanf(word, "%d", &code); n == 1 {
				_, err = m.Reply(code)
				break
			}
			_, args, _ := strings.Cut(strings.TrimSpace(what), " ")
			err = m.Command(m.table.Lookup(word), []byte(args))
		}
		got := fmt.Sprintf("%v %v", m.Now(), m.Ahead())
		for name, e := range map[string]error{"sequence": ErrSequence, "wait": ErrMustWait, "step": ErrOutOfStep} {
			if errors.Is(err, e) {
				got = name
				err = nil
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if want = strings.TrimSpace(want); want != "" && got != want || want == "" && !strings.Contains(got, " ") {
			t.Fatalf("%s: got %q, want %q", step, got, want)
		}
	}
}

// chunkVerb is BDAT as RFC 3030 section 2 has it, for the tests of the engine.
func chunkVerb() Verb {
	last := &Verb{Name: "BDAT", In: Rcpt | Chunks, OK: Ready, Fail: Ready, PerRcpt: true}
	payload := func(args []byte) (int64, *Error) {
		var n int64
		if _, err := fmt.Sscanf(string(args), "%d", &n); err != nil || n < 0 {
			return -1, errPayloadSize
		}
		return n, nil
	}
	last.Payload = payload
	return Verb{Name: "BDAT", In: Rcpt | Chunks, OK: Chunks, Fail: Broken, Payload: payload, Variant: func(args []byte) *Verb {
		if strings.HasSuffix(string(args), " LAST") {
			return last
		}
		return nil
	}}
}

func TestMachineGroups(t *testing.T) {
	exchange := Verb{Name: "AUTH", In: Ready, Last: true, More: Exchange}
	tls := Verb{Name: "STARTTLS", In: Ready, Last: true, OK: Handover}
	const hello = "220 = Hello Hello\nEHLO\n250 = Ready Ready\n"
	for name, script := range map[string]string{
		"one group":        "MAIL = Ready Mail\nRCPT = Ready Rcpt\nRCPT\nDATA = Ready Content\n250\n250\n550\n354 = Content Content",
		"DATA ends it":     "MAIL\nRCPT\nDATA\nMAIL = wait\nRSET = wait",
		"NOOP ends it":     "NOOP\nMAIL = wait\n250\nMAIL = Ready Mail",
		"no recipient":     "MAIL\nDATA = sequence",
		"nested":           "MAIL\nMAIL = sequence",
		"sender refused":   "MAIL\nRCPT\nDATA\n550 = Ready Ready\n503\n503 = Ready Ready",
		"rcpts refused":    "MAIL\nRCPT\nDATA\n250\n550 = Mail Mail\n503 = Mail Mail\nRSET\n250 = Ready Ready",
		"354 all the same": "MAIL\nRCPT\nDATA\n250\n550\n354 = Content Content\n. = Content Ready\n554 = Ready Ready",
		"354 after 550":    "MAIL\nRCPT\nDATA\n550\n550\n354 = Content Content",
		"DATA 250":         "MAIL\nRCPT\nDATA\n250\n250\n250 = step",
		"MAIL 354":         "MAIL\n354 = step",
		"content refused":  "MAIL\nRCPT\n250\n250\nDATA\n354\n.\n554 = Ready Ready",
		"next in group": "MAIL\nRCPT\nDATA\n250\n250\n354\n. = Content Ready\nMAIL = Content Mail\nRCPT\n" +
			"DATA = Content Content\n250 = Ready Content\n250\n250\n354 = Content Content",
		"first refused":     "MAIL\nRCPT\nDATA\n250\n250\n354\n.\nMAIL\nRCPT\nDATA\n552 = Ready Content\n250\n250\n354 = Content Content",
		"behind last chunk": "MAIL\nRCPT\nBDAT 5 LAST = Ready Ready\nMAIL = Ready Mail\nRCPT\nBDAT 0 LAST\n250\n250\n250 = Ready Ready\n250\n250\n250 = Ready Ready",
		"chunk refused":     "MAIL\nRCPT\nBDAT 5\nBDAT 5 LAST\nMAIL\n250\n250\n552 = Broken Broken\n503\n503 = Broken Broken\nRSET\n250 = Ready Ready",
		"last refused":      "MAIL\nRCPT\nBDAT 5 LAST\nMAIL\n250\n250\n552 = Ready Mail\n250 = Mail Mail",
		"no rcpt, chunk":    "MAIL\nRCPT\nBDAT 5 LAST\nRSET\nMAIL\n250\n550\n503 = Mail Mail\n250 = Ready Mail\n250 = Mail Mail",
		"DATA after chunk":  "MAIL\nRCPT\nBDAT 5\nDATA = sequence\n250\n250\n250 = Chunks Chunks\nDATA = sequence",
		"RSET in chunks":    "MAIL\nRCPT\nBDAT 5\nRSET = Ready Ready",
		"421":               "MAIL\nRCPT\n421 = Closed Closed\n250 = step",
		"421 to nothing":    "421 = Closed Closed\n421 = step",
		"reply to nothing":  "250 = step",
		"EHLO again":        "MAIL\nRCPT\n250\n250\nEHLO\n250 = Ready Ready",
		"EHLO refused":      "MAIL\nRCPT\n250\n250\nEHLO\n501 = Rcpt Rcpt",
		"exchange":          "AUTH\nMAIL = wait\n334 = Exchange Exchange\nMAIL = sequence\nline\nline = wait\n334\nline\n235 = Ready Ready",
		"exchange fails":    "AUTH\n334\nline\n535 = Ready Ready\nline = sequence",
		"at once":           "AUTH\n235 = Ready Ready",
		"AUTH in mail":      "MAIL\n250\nAUTH = sequence",
		"handover":          "STARTTLS\nEHLO = wait\n220 = Handover Handover\nEHLO = sequence\n250 = step",
		"no handover":       "STARTTLS\n454 = Ready Ready",
		"QUIT":              "MAIL\n250\nQUIT = Mail Closed\n221 = Closed Closed\nNOOP = sequence",
		"refused":           "refused\n250 = step\n500 = Ready Ready",
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMachine(mustTable(t, SMTP, chunkVerb(), exchange, tls))
			play(t, m, hello+script)
		})
	}
	t.Run("greeting refused", func(t *testing.T) {
		m := NewMachine(mustTable(t, SMTP))
		play(t, m, "EHLO = wait\n554 = Greeting Greeting\nEHLO = sequence\nQUIT\n221 = Closed Closed")
	})
}

// TestMachineReplies has the replies of LMTP: as many after the content as there are recipients (RFC 2033 section 4.2),
// and one where the content was not due.
func TestMachineReplies(t *testing.T) {
	m := NewMachine(mustTable(t, LMTP, chunkVerb()))
	play(t, m, "220\nLHLO\n250\nMAIL\nRCPT\nRCPT\nRCPT\nDATA\n250\n250\n550\n250\n354\n.\nMAIL\nRCPT")
	if m.Due() != 2 || m.Rcpts() != 2 {
		t.Fatalf("%d replies due for %d recipients, want 2 for 2", m.Due(), m.Rcpts())
	}
	play(t, m, "250 = Content Rcpt\n450 = Ready Rcpt\n250\n250 = Rcpt Rcpt\nBDAT 1\n250\nBDAT 1 LAST")
	if m.Due() != 1 {
		t.Fatalf("%d replies due, want 1 for the one recipient of the second message", m.Due())
	}
	play(t, m, "250 = Ready Ready\nMAIL\nRCPT\nBDAT 1 LAST\n250\n550\n503 = Mail Mail")
}

func TestMachineQueueGrows(t *testing.T) {
	m := NewMachine(mustTable(t, SMTP))
	play(t, m, "220\nEHLO\n250\nMAIL\nRCPT\n250") // so that the ring has turned
	rcpt := m.table.Lookup("RCPT")
	for range 5000 {
		if err := m.Command(rcpt, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 5001 {
		if v, err := m.Reply(250); err != nil || v != rcpt {
			t.Fatal(v, err)
		}
	}
	if m.Rcpts() != 5001 || m.Outstanding() != 0 || m.Now() != Rcpt {
		t.Errorf("%d recipients, %d outstanding in %v", m.Rcpts(), m.Outstanding(), m.Now())
	}
}
