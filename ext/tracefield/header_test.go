package tracefield_test

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
)

// A line is one of a header, as naive finds it. Text is without its end, which begins at stop.
type line struct {
	text              string
	start, stop, next int
	name              string // in lower case, "" for a continuation and a line of mbox
	colon             int    // behind it
}

var (
	lineEnd = regexp.MustCompile(`\r\n|\r|\n`)
	field   = regexp.MustCompile(`^([!-9;-~]+)[ \t]*:`)
	mbox    = regexp.MustCompile(`(?i)^From[ \t]`)
)

// naive splits the header of a message into lines, with the whole message in memory.
func naive(message string) []line {
	var lines []line
	for at := 0; at < len(message); {
		l := line{start: at, stop: len(message), next: len(message)}
		if end := lineEnd.FindStringIndex(message[at:]); end != nil {
			l.stop, l.next = at+end[0], at+end[1]
		}
		l.text = message[l.start:l.stop]
		m := field.FindStringSubmatch(l.text)
		switch {
		case m != nil:
			l.name, l.colon = strings.ToLower(m[1]), l.start+len(m[0])
		case at == 0 && mbox.MatchString(l.text), at > 0 && l.text != "" && strings.Contains(" \t", l.text[:1]):
		default:
			return lines
		}
		lines = append(lines, l)
		at = l.next
	}
	return lines
}

// naiveLoop returns what CheckLoop lets through of a message, and whether it fails.
func naiveLoop(message string, most int) (string, bool) {
	for _, l := range naive(message) {
		if l.name == "received" {
			if most--; most < 0 {
				return message[:l.colon], true
			}
		}
	}
	return message, false
}

// naiveDelivered reports whether a Delivered-To field of the message has this mailbox.
func naiveDelivered(message, mailbox string) bool {
	lines := naive(message)
	for i, l := range lines {
		if l.name != "delivered-to" {
			continue
		}
		value := message[l.colon:l.stop]
		for _, more := range lines[i+1:] {
			if more.name != "" {
				break
			}
			value += more.text
		}
		if value = strings.TrimSpace(value); strings.EqualFold(value, mailbox) || strings.EqualFold(value, "<"+mailbox+">") {
			return true
		}
	}
	return false
}

// naiveStrip returns the message without the fields of a name.
func naiveStrip(message, name string) string {
	var b strings.Builder
	rest, dropping := 0, false
	for _, l := range naive(message) {
		if l.name != "" {
			dropping = l.name == name
		}
		if !dropping {
			b.WriteString(message[l.start:l.next])
		}
		rest = l.next
	}
	return b.String() + message[rest:]
}

// headers are messages whose header is hard to find the end of, or has what is hard to recognise.
var headers = []string{
	"", "\r\n", "Received: a\r\n\r\n", "received:\r\n a\r\nRECEIVED : b\r\nReceived\t \t:\r\n\tReceived: c\r\n\r\nReceived: d\r\n",
	"Received: a\nReceived: b\n\nReceived: c\n", "Received: a\rReceived: b\r\rReceived: c\r", "Received: a\r\r\nReceived: b\r\n",
	"Received: a\r\n\rReceived: b", "Received: a\n\rReceived: b", "Received", "Received:", "Received : ", "Receive: a\r\nReceivedd: b\r\nX-Received: c\r\n\r\n",
	" Received: a\r\n\r\n", " a\r\nReceived: b\r\n", "Received a\r\nReceived: b\r\n", "Received : a\r\nno field\r\nReceived: b\r\n", ": a\r\nReceived: b\r\n",
	"From a Sat Nov 28\r\nReceived: a\r\n", "from\tb\r\n c\r\nReceived: a\r\n", "From \r\nReceived: a\r\nFrom b\r\nReceived: c\r\n",
	"From\r\nReceived: a\r\n", "From : a\r\nReceived: b\r\n", "F\xc3\xbc: a\r\nReceived: b\r\n", "\x00Received: a\r\n", "Received\x00: a\r\n",
	"Re ceived: a\r\nReceived: b\r\n", "Subject: x\r\n \r\n\t\r\nReceived: a\r\n\r\n", "A:\r\nReceived: a\r\n", "Received::\r\n:Received:\r\n",
	"Delivered-To: joe@example.org\r\n\r\n", "Delivered-To: jim@example.org\r\n\r\nDelivered-To: joe@example.org\r\n",
	"delivered-to :\r\n\t<JOE@Example.ORG> \r\nSubject: x\r\n\r\n", "Delivered-To: joe@example.org", "Delivered-To: jo\r\n e@example.org\r\n",
	"Delivered-To: joe@example.org\r\n x\r\n\r\n", "Delivered-To:" + strings.Repeat(" ", 1500) + "\r\n joe@example.org\r\n",
	"Return-Path: <a@b>\r\nSubject: x\r\nreturn-path\t:\r\n <c@d>\r\n \r\nTo: y\r\n\r\nReturn-Path: z\r\n", "Return-Path: <a@b>", "Return-Path",
	"Return-Path: a\nReturn-Path: b\rReturn-Path: c\r\nX: d\nReturn-Path: e\n\rReturn-Path: f\n", "Return-Path: a\r\nno field\r\nReturn-Path: b\r\n",
	"Return-Pathe: a\r\nReturn-Pat: b\r\nX-Return-Path: c\r\n\r\n", "From Return-Path: a\r\n b\r\nReturn-Path:c\r\n",
}

// cut calls f with readers that yield the message in two parts, for all places to cut it at, and octet by octet.
func cut(message string, f func(r io.Reader)) {
	f(iotest.OneByteReader(strings.NewReader(message)))
	f(iotest.DataErrReader(strings.NewReader(message)))
	for i := range len(message) + 1 {
		f(io.MultiReader(strings.NewReader(message[:i]), strings.NewReader(message[i:])))
	}
}

// readBoth reads the reader that wrap makes by Read and by WriteTo, and checks that there is no difference.
func readBoth(t *testing.T, message string, wrap func(io.Reader) io.Reader) (string, error) {
	t.Helper()
	want, wantErr := io.ReadAll(wrap(strings.NewReader(message)))
	cut(message, func(r io.Reader) {
		if got, err := io.ReadAll(wrap(r)); string(got) != string(want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: a cut makes it %q, %v, not %q, %v", message, got, err, want, wantErr)
		}
	})
	cut(message, func(r io.Reader) {
		var b bytes.Buffer
		if _, err := io.Copy(&b, wrap(r)); b.String() != string(want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: WriteTo makes it %q, %v, not %q, %v", message, b.String(), err, want, wantErr)
		}
	})
	return string(want), wantErr
}

func isLoop(err error) bool {
	var e *proto.Error
	return errors.As(err, &e) && e.Code == 554 && e.Status == proto.Status{5, 4, 6}
}

// TestJ09_CheckLoopEveryCut: the reader does what naive does, however the message is cut.
func TestJ09_CheckLoopEveryCut(t *testing.T) {
	for _, message := range headers {
		for most := 1; most <= 3; most++ {
			got, err := readBoth(t, message, func(r io.Reader) io.Reader {
				return tracefield.CheckLoop(r, &tracefield.LoopOptions{MaxReceived: most})
			})
			if want, loop := naiveLoop(message, most); got != want || loop != isLoop(err) {
				t.Errorf("%q with at most %d: %q, %v; want %q, a loop: %v", message, most, got, err, want, loop)
			}
		}
		fields := 0
		for _, l := range naive(message) {
			if l.name == "received" {
				fields++
			}
		}
		if got := tracefield.Count([]byte(message), "Received"); got != fields {
			t.Errorf("%q has %d fields, want %d", message, got, fields)
		}
	}
}

func TestCheckLoopDeliveredTo(t *testing.T) {
	opt := &tracefield.LoopOptions{DeliveredTo: []proto.Address{
		{}, testkit.Address(t, "other@example.net"), testkit.Address(t, "joe@example.org"),
	}}
	loops := 0
	for _, message := range headers {
		got, err := readBoth(t, message, func(r io.Reader) io.Reader { return tracefield.CheckLoop(r, opt) })
		want := naiveDelivered(message, "joe@example.org") && len(message) < 1000
		if isLoop(err) != want || !want && got != message || !strings.HasPrefix(message, got) {
			t.Errorf("%q: %q, %v; want a loop: %v", message, got, err, want)
		}
		if want {
			loops++
		}
	}
	if loops != 3 {
		t.Errorf("%d loops", loops)
	}
}

// TestDeliveredToComesBack: a message with our own field is a loop, and one with that of another mailbox is none.
func TestDeliveredToComesBack(t *testing.T) {
	for _, mailbox := range []string{
		"joe@example.org", `"a b"@example.org`, `"\"@\\"@example.org`, "jürgen@münchen.example", "joe@[192.0.2.1]",
	} {
		a := testkit.Address(t, mailbox)
		message := "Received: x\r\n" + tracefield.DeliveredTo(a) + "Subject: x\r\n\r\n"
		opt := &tracefield.LoopOptions{DeliveredTo: []proto.Address{a}}
		_, err := io.ReadAll(tracefield.CheckLoop(strings.NewReader(message), opt))
		if !isLoop(err) {
			t.Errorf("%s: %v", mailbox, err)
		}
		opt.DeliveredTo[0].Local += "x"
		_, err = io.ReadAll(tracefield.CheckLoop(strings.NewReader(message), opt))
		if err != nil {
			t.Errorf("%s for another: %v", mailbox, err)
		}
	}
}

func TestCheckLoopLimit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		opt    *tracefield.LoopOptions
		fields int
		loop   bool
	}{
		{"J09 a hundred", nil, 100, false},
		{"J09 a hundred and one", nil, 101, true},
		{"J09 zero is the default", &tracefield.LoopOptions{}, 101, true},
		{"J09 fewer", &tracefield.LoopOptions{MaxReceived: 50}, 51, true},
		{"J09 no limit", &tracefield.LoopOptions{MaxReceived: -1}, 1000, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			message := strings.Repeat("Received: from a by b;\r\n date\r\n", tt.fields) + "\r\nbody\r\n"
			_, err := io.ReadAll(tracefield.CheckLoop(strings.NewReader(message), tt.opt))
			if isLoop(err) != tt.loop || !tt.loop && err != nil {
				t.Errorf("%v, want a loop: %v", err, tt.loop)
			}
			if tt.loop && !strings.Contains(err.Error(), "Received") {
				t.Errorf("the error %q does not say why", err)
			}
		})
	}
}

// TestCheckLoopErrors: the errors of the reader below pass, and a loop comes before them.
func TestCheckLoopErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, message := range []string{"", "Received: a\r\nDelivered-To: joe@example.org", "Subject: x\r\n\r\nbody"} {
		r := io.MultiReader(strings.NewReader(message), iotest.ErrReader(broken))
		opt := &tracefield.LoopOptions{DeliveredTo: []proto.Address{testkit.Address(t, "joe@example.org")}}
		if got, err := io.ReadAll(tracefield.CheckLoop(r, opt)); string(got) != message || err != broken {
			t.Errorf("%q: %q, %v", message, got, err)
		}
	}
}

// TestCheckLoopAllocates: a header costs no memory, however long it is.
func TestCheckLoopAllocates(t *testing.T) {
	message := strings.Repeat("Delivered-To: jim@example.org\r\nX-Long: "+strings.Repeat("x", 900)+"\r\n y\r\n", 100)
	source := strings.NewReader("")
	opt := &tracefield.LoopOptions{DeliveredTo: []proto.Address{testkit.Address(t, "joe@example.org")}}
	buf := make([]byte, 4096)
	perLine := func(lines int) float64 {
		return testing.AllocsPerRun(10, func() {
			source.Reset(message[:lines*len(message)/100])
			r := tracefield.CheckLoop(source, nil)
			for err := error(nil); err == nil; {
				_, err = r.Read(buf)
			}
		})
	}
	if few, many := perLine(1), perLine(100); few != many {
		t.Errorf("%v allocations for one field, %v for a hundred", few, many)
	}
	perValue := func(octets int) float64 {
		message := "Delivered-To:" + strings.Repeat(" ", octets)
		return testing.AllocsPerRun(10, func() {
			source.Reset(message)
			r := tracefield.CheckLoop(source, opt)
			for err := error(nil); err == nil; {
				_, err = r.Read(buf)
			}
		})
	}
	if few, many := perValue(4096), perValue(1<<20); few != many {
		t.Errorf("%v allocations for a value of 4 KiB, %v for one of 1 MiB", few, many)
	}
}

// TestJ08_StripEveryCut: the reader does what naive does, however the message is cut.
func TestJ08_StripEveryCut(t *testing.T) {
	for _, message := range headers {
		for _, name := range []string{"Return-Path", "Received", "FROM", "no-such"} {
			got, err := readBoth(t, message, func(r io.Reader) io.Reader { return tracefield.Strip(r, name) })
			if want := naiveStrip(message, strings.ToLower(name)); got != want || err != nil {
				t.Errorf("%q without %s: %q, %v; want %q", message, name, got, err, want)
			}
		}
	}
	got, _ := io.ReadAll(tracefield.Strip(strings.NewReader("A: 1\r\nB: 2\r\nC: 3\r\nb: 4\r\n\r\nA: 5\r\n"), "a", "B"))
	if string(got) != "C: 3\r\n\r\nA: 5\r\n" {
		t.Errorf("without a and B: %q", got)
	}
	got, _ = io.ReadAll(tracefield.Strip(strings.NewReader("A: 1\r\n\r\n")))
	if string(got) != "A: 1\r\n\r\n" {
		t.Errorf("without nothing: %q", got)
	}
}

// TestStripBound: a name with more white space behind it than a line has room for passes, whole.
func TestStripBound(t *testing.T) {
	for _, spaces := range []int{900, 3000, 1 << 20} {
		message := "Return-Path" + strings.Repeat(" ", spaces) + ": a\r\nReturn-Path: b\r\n\r\n"
		want := strings.Replace(message, "Return-Path: b\r\n", "", 1)
		if spaces == 900 {
			want = "\r\n"
		}
		got, err := io.ReadAll(tracefield.Strip(strings.NewReader(message), "Return-Path"))
		if string(got) != want || err != nil {
			t.Errorf("%d spaces: %.40q of %d octets, %v, want %d octets", spaces, got, len(got), err, len(want))
		}
	}
}

// TestStripErrors: what was read before an error comes before it.
func TestStripErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct{ in, want string }{
		{"", ""}, {"Return-Pa", "Return-Pa"}, {"Return-Path: a", ""}, {"A: b\r\n\r\nReturn-Path", "A: b\r\n\r\nReturn-Path"},
	} {
		r := io.MultiReader(strings.NewReader(tt.in), iotest.ErrReader(broken))
		if got, err := io.ReadAll(tracefield.Strip(r, "Return-Path")); string(got) != tt.want || err != broken {
			t.Errorf("%q: %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
}

// FuzzHeader: the readers do what naive does.
func FuzzHeader(f *testing.F) {
	for i, message := range headers {
		f.Add(message, uint8(i))
	}
	f.Fuzz(func(t *testing.T, message string, at uint8) {
		i := min(int(at), len(message))
		r := func() io.Reader {
			return io.MultiReader(strings.NewReader(message[:i]), iotest.HalfReader(strings.NewReader(message[i:])))
		}
		got, err := io.ReadAll(tracefield.CheckLoop(r(), &tracefield.LoopOptions{MaxReceived: 1}))
		if want, loop := naiveLoop(message, 1); string(got) != want || isLoop(err) != loop {
			t.Errorf("CheckLoop: %q, %v, want %q, a loop: %v", got, err, want, loop)
		}
		gap := strings.Repeat(" ", 900)
		got, err = io.ReadAll(tracefield.Strip(r(), "Received"))
		want := naiveStrip(message, "received")
		if string(got) != want && !strings.Contains(strings.ReplaceAll(message, "\t", " "), gap) || err != nil {
			t.Errorf("Strip: %q, %v, want %q", got, err, want)
		}
	})
}
