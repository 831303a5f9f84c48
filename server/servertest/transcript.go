package servertest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// A transcript is what was said on a connection, as lines. It keeps the first and the last lines.
type transcript struct {
	mu      sync.Mutex
	lines   []string
	omitted int
	in      clientText
}

// maxLines is how many lines a transcript keeps at the beginning, and at the end. MaxColumns is how long they are.
const (
	maxLines   = 200
	maxColumns = 200
)

func (t *transcript) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(line)
}

// put is add with the lock held.
func (t *transcript) put(line string) {
	if len(line) > maxColumns {
		line = fmt.Sprintf("%s… (%d octets)", line[:maxColumns], len(line))
	}
	if t.lines = append(t.lines, line); len(t.lines) > 2*maxLines {
		t.lines = append(t.lines[:maxLines], t.lines[maxLines+1:]...)
		t.omitted++
	}
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for i, line := range t.lines {
		if i == maxLines && t.omitted > 0 {
			fmt.Fprintf(&b, "-- %d lines are left out\n", t.omitted)
		}
		b.WriteString(line + "\n")
	}
	if n := len(t.in.line); n > 0 {
		fmt.Fprintf(&b, "C: %s (no end of line)\n", printable(t.in.line))
	}
	return b.String()
}

// printable returns a line as text without control characters.
func printable(line []byte) string {
	text := string(bytes.TrimSuffix(line, []byte("\r\n")))
	for _, r := range text {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return strconv.Quote(text)
		}
	}
	return text
}

// server adds a reply, which has one line or several.
func (t *transcript) server(reply []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range bytes.Lines(reply) {
		t.put("S: " + printable(line))
	}
}

// A clientText divides what a client sends into commands and content.
type clientText struct {
	line    []byte // begun, and not ended; only its beginning if it is very long
	length  int    // of the line
	chunk   int64  // octets of a chunk that are to come
	size    int64  // of the content, or of the chunk
	first   string // its first line
	content bool   // it is content, up to a dot
	chunks  bool   // there is content in chunks, and its last chunk is not complete
	last    bool   // the chunk is the last one
	total   int64  // octets of content so far, of all chunks
}

// beginContent says that content follows, up to a dot.
func (t *transcript) beginContent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.in.total = 0
}

// content returns how much content of the message has arrived, and whether it comes in chunks.
func (t *transcript) content() (octets int64, chunks bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.in.total, t.in.chunks
}

// client adds what the client has sent. With content, content may begin. It reports whether content has ended.
func (t *transcript) client(p []byte, content bool) (ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := &t.in
	for len(p) > 0 {
		if in.chunk > 0 {
			n := min(in.chunk, int64(len(p)))
			in.size += n
			in.total += n
			p = p[n:]
			if in.chunk -= n; in.chunk == 0 {
				t.put(fmt.Sprintf("C: (a chunk of %d octets)", in.size))
				in.chunks = !in.last
			}
			continue
		}
		n, whole := bytes.IndexByte(p, '\n')+1, true
		if n == 0 {
			n, whole = len(p), false
		}
		in.length += n
		if content && !ended {
			in.total += int64(n)
		}
		in.line = append(in.line, p[:min(n, maxColumns+2-min(len(in.line), maxColumns+2))]...)
		p = p[n:]
		if !whole {
			return ended
		}
		if t.endOfLine(content && !ended) {
			ended = true
		}
		in.line, in.length = in.line[:0], 0
	}
	return ended
}

// endOfLine deals with a line of the client's. It reports whether the line has ended the content.
func (t *transcript) endOfLine(content bool) bool {
	in := &t.in
	if !content {
		t.put("C: " + printable(in.line))
		in.begin(strings.Fields(string(in.line)))
		return false
	}
	if !in.content {
		in.content, in.size, in.first = true, 0, printable(in.line)
	}
	if string(in.line) != ".\r\n" {
		in.size += int64(in.length)
		return false
	}
	in.content = false
	if in.size > 0 {
		t.put(fmt.Sprintf("C: (%d octets of content, which begins with %.60q)", in.size, in.first))
	}
	t.put("C: .")
	return true
}

// begin notes what follows a command, if it is BDAT.
func (in *clientText) begin(fields []string) {
	switch {
	case len(fields) > 0 && strings.EqualFold(fields[0], "MAIL"):
		in.chunks = false
	case len(fields) > 1 && strings.EqualFold(fields[0], "BDAT"):
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil || n < 0 {
			return
		}
		if !in.chunks {
			in.total = 0
		}
		in.chunk, in.size, in.last = n, 0, len(fields) > 2
		in.chunks = n > 0 || !in.last
	}
}
