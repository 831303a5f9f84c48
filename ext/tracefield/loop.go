package tracefield

import (
	"io"
	"strconv"
	"strings"

	"smtpkit.example/smtp/proto"
)

// LoopOptions say what CheckLoop takes for a loop. Nil means the defaults.
type LoopOptions struct {
	// MaxReceived is how many Received fields a message may have. Default 100, the least that RFC 5321 section 6.3
	// recommends; a negative number is no limit.
	MaxReceived int
	// DeliveredTo are addresses to which this host delivers or forwards the message now. If the header has a Delivered-To
	// field with one of them, the message has been here before. Default: none are looked for.
	DeliveredTo []proto.Address
}

// CheckLoop returns a reader of the message in r that fails if the message goes round in circles. A server puts it
// around the reader of Data, before it adds a Received field of its own:
//
//	r = tracefield.Prepend(tracefield.CheckLoop(r, nil), field)
//
// It is also for the Body of a client.Message. The message passes as it is, octet for octet. As soon as the header
// shows the loop, the reader returns a *proto.Error with the code 554 and the status 5.4.6, which Data can return: a
// client does not try again after that. The message must not be kept then. What follows the header is not looked at.
//
// A field counts whatever the case of its name, and with white space before the colon. The reader keeps nothing of the
// header but a name, and the value of Delivered-To if there are addresses to look for. It passes the errors of r on,
// and has a method WriteTo, which uses that of r behind the header.
func CheckLoop(r io.Reader, opt *LoopOptions) io.Reader {
	l := &loop{r: r}
	l.scan.name = l.name[:0]
	if opt != nil {
		l.most = opt.MaxReceived
		for _, a := range opt.DeliveredTo {
			if !a.IsNull() {
				l.mine = append(l.mine, a)
			}
		}
	}
	if l.most == 0 {
		l.most = maxReceived
	}
	return l
}

const (
	maxReceived = 100
	// maxValue is how much of a Delivered-To field is looked at. A mailbox has 254 octets, and each may have a backslash.
	maxValue = 1024
)

// A loop is the reader that CheckLoop returns.
type loop struct {
	r    io.Reader
	most int
	mine []proto.Address
	err  error // behind what has been read

	scan     scanner
	name     [len("delivered-to")]byte // that of scan
	received int
	inTo     bool   // in a Delivered-To field
	value    []byte // of that; nil unless one is looked for
}

func (l *loop) Read(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	n, err := l.r.Read(p)
	if l.scan.place == over {
		return n, err
	}
	for i, b := range p[:n] {
		if l.next(b); l.err != nil {
			return i + 1, nil // the error comes alone, wherever the octets were cut
		}
		if l.scan.place == over {
			return n, err
		}
	}
	if err == io.EOF {
		if l.endField(); l.err != nil {
			return n, l.err
		}
	}
	return n, err
}

// WriteTo writes all of the message to w.
func (l *loop) WriteTo(w io.Writer) (int64, error) {
	var total int64
	var buf []byte
	for l.err == nil && l.scan.place != over {
		if buf == nil {
			buf = make([]byte, 4096)
		}
		n, err := l.Read(buf)
		if n > 0 {
			m, writeErr := w.Write(buf[:n])
			total += int64(m)
			if writeErr != nil {
				return total, writeErr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	if l.err != nil {
		return total, l.err
	}
	n, err := io.Copy(w, l.r)
	return total + n, err
}

// next takes an octet of the header.
func (l *loop) next(b byte) {
	begins := l.scan.begins(b)
	colon := l.scan.next(b)
	switch {
	case begins && l.scan.place != inValue:
		l.endField() // there is no continuation
	case colon:
		l.beginField()
	case l.inTo && len(l.value) <= maxValue && b != '\r' && b != '\n':
		l.value = append(l.value, b)
	}
}

// beginField begins with the value of a field.
func (l *loop) beginField() {
	switch {
	case l.scan.is("received"):
		if l.received++; l.most > 0 && l.received > l.most {
			l.err = proto.Refuse(554, proto.Status{5, 4, 6},
				"Too many hops: the message has more than "+strconv.Itoa(l.most)+" Received fields")
		}
	case l.scan.is("delivered-to") && len(l.mine) > 0:
		l.inTo, l.value = true, l.value[:0]
	}
}

// endField ends the field in hand.
func (l *loop) endField() {
	if !l.inTo {
		return
	}
	l.inTo = false
	if len(l.value) > maxValue {
		return
	}
	text := strings.TrimSpace(string(l.value))
	if inner, ok := strings.CutPrefix(text, "<"); ok {
		text = strings.TrimSuffix(inner, ">")
	}
	to, err := proto.ParseAddress(text)
	if err != nil {
		return
	}
	for _, a := range l.mine {
		// The host decides about the case of its local parts, and may have changed it on the way.
		if strings.EqualFold(to.Key(), a.Key()) {
			l.err = proto.Refuse(554, proto.Status{5, 4, 6}, "The message has been delivered to <"+a.String()+"> before")
			return
		}
	}
}

// Count returns how many fields named name the header has at the beginning of message, such as "Received". The name is
// compared without case. What follows the header is not looked at.
func Count(message []byte, name string) int {
	name = lower(name)
	s := scanner{name: make([]byte, 0, max(len(name), len("from")))}
	n := 0
	for _, b := range message {
		if s.next(b) && s.is(name) {
			n++
		}
		if s.place == over {
			break
		}
	}
	return n
}

// lower returns s with ASCII letters in lower case.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
