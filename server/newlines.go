package server

import (
	"bytes"

	"smtpkit.example/smtp/proto"
)

// A newlines makes the line endings of a text CRLF: LF alone, CR alone, and CR CR LF, which programs write that end
// their lines with CRLF and have each LF changed to CRLF besides. What comes first goes first: CR CR CR LF is CR, and
// CR CR LF.
//
// It works on content that the engine has found: behind the dot that ends it, and with the dots of transparency taken
// away, for which only CRLF ends a line. So a line that it makes neither ends a message nor loses a dot. A client
// that sends the message on doubles the dots that stand at the beginnings of lines now.
type newlines struct {
	in  []byte // to be dealt with
	crs int    // CRs in front of in whose meaning depends on what comes; at most 2
	out []byte // a buffer; nil until it is needed
}

// newlinesBuffer is the size of the buffer for text that has to be changed.
const newlinesBuffer = 8 << 10

// isBusy reports whether there is something to be dealt with.
func (n *newlines) isBusy() bool { return len(n.in) > 0 }

// next returns the next octets of the text. They are valid until the next call.
func (n *newlines) next() []byte {
	if n.out == nil {
		n.out = make([]byte, 0, newlinesBuffer)
	}
	out := n.out[:0]
	for len(n.in) > 0 && cap(out)-len(out) > len("\r\n\r\n") {
		switch n.in[0] {
		case '\n':
			out = append(out, "\r\n"...)
			n.crs = 0
			n.in = n.in[1:]
		case '\r':
			if n.crs == 2 {
				out = append(out, "\r\n"...)
			} else {
				n.crs++
			}
			n.in = n.in[1:]
		default:
			out = n.flush(out)
			run := n.in
			if end := bytes.IndexAny(run, "\r\n"); end >= 0 {
				run = run[:end]
			}
			run = run[:min(len(run), cap(out)-len(out))]
			out = append(out, run...)
			n.in = n.in[len(run):]
		}
	}
	return out
}

// flush appends what the CRs mean behind which no LF comes.
func (n *newlines) flush(out []byte) []byte {
	for ; n.crs > 0; n.crs-- {
		out = append(out, "\r\n"...)
	}
	return out
}

// normalizes reports whether the line endings of the content are made CRLF.
func (b *body) normalizes() bool { return b.c.srv.opt.NormalizeNewlines && !b.c.transaction.binary }

// take gives octets that have arrived to the session. If there are too many of them, the session gets an error.
func (b *body) take(p []byte) {
	b.chunk.left -= int64(len(p))
	if b.normalizes() && (b.newlines.crs > 0 || b.c.rx.BareNewline() || p[len(p)-1] == '\r') {
		b.newlines.in = p
		p = b.newlines.next()
	}
	b.give(p)
}

// give gives octets to the session as they are.
func (b *body) give(p []byte) {
	if b.count(p) {
		b.data = p
	} else {
		b.err = b.refused
	}
}

// drop counts octets that have arrived as take does, and drops them.
func (b *body) drop(p []byte) {
	b.drained += int64(len(p))
	b.take(p)
	b.dropRest()
}

// dropRest is drop for what has been taken, and not been given to the session yet.
func (b *body) dropRest() {
	for b.newlines.isBusy() {
		b.give(b.newlines.next())
	}
	b.data = nil
}

// endText gives the session the line ending that a CR at the end of the text stands for.
func (b *body) endText() {
	if b.newlines.crs > 0 {
		b.give(b.newlines.flush(nil))
	}
}

// bareRefusal returns the refusal of a text that has a bare CR or LF in it, nil for one that has none.
func (b *body) bareRefusal() *proto.Error {
	if b.c.rx.BareNewline() && !b.c.transaction.binary && !b.normalizes() {
		return errBare
	}
	return nil
}
