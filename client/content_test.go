package client

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

// TestContentAtBorders compares content as it is sent, and its SIZE, with what a plain loop over the octets makes of
// it. Line endings of all kinds, and dots, lie where blocks, and what is looked at ahead, come to their ends.
func TestContentAtBorders(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	rnd := rand.New(rand.NewPCG(4, 2))
	for round := range rounds {
		text := borderContent(rnd)
		for _, way := range []struct {
			keywords []string
			needs    ext.Feature
		}{
			{[]string{"SIZE"}, 0},
			{[]string{"SIZE", "8BITMIME", "PIPELINING"}, 0},
			{[]string{"SIZE", "8BITMIME", "PIPELINING", "CHUNKING"}, 0},
			{[]string{"SIZE", "8BITMIME", "PIPELINING", "CHUNKING", "BINARYMIME"}, ext.Binary},
		} {
			dots := len(way.keywords) < 4
			want := text
			if way.needs == 0 {
				want = plainText(text, dots)
			}
			for _, body := range []io.Reader{
				bytes.NewReader(text), oddPieces{bytes.NewReader(text)},
				WriterBody(WriterFunc(func(w io.Writer) error { return writePieces(w, text) })),
			} {
				got, mail := sendContent(t, body, way.needs, way.keywords...)
				if got != string(want) {
					t.Fatalf("round %d, %v, %T: %d octets differ from %d at %d", round, way.keywords, body, len(got), len(want),
						differ(got, string(want)))
				}
				// What is longer than lookahead may have another end than what was looked at.
				exact := way.needs != 0 || len(text) <= blockSize || len(text) <= lookahead && uniform(text)
				size, told := plainSize(text, way.needs != 0, dots), sizeOf(mail)
				if told >= 0 && exact && told != size {
					t.Fatalf("round %d, %v, %T: %s, want %d", round, way.keywords, body, mail, size)
				}
			}
		}
	}
}

// sendContent is collect for content with needs.
func sendContent(t *testing.T, body io.Reader, needs ext.Feature, keywords ...string) (content, mail string) {
	t.Helper()
	c, srv := pipe(t, keywords...)
	m := message("", "c@d.example")
	m.Body, m.Needs = body, needs
	if _, err := c.Send(t.Context(), m); err != nil {
		t.Fatalf("%v: %v", keywords, err)
	}
	c.Close()
	srv.wait()
	return srv.content.String(), srv.mail
}

// borderContent returns content about as long as something that the client has a bound for.
func borderContent(rnd *rand.Rand) []byte {
	length := []int{blockSize, 2 * blockSize, lookahead, lookahead + blockSize, 16 << 10}[rnd.IntN(5)] + rnd.IntN(7) - 3
	line := []string{"0123456\r\n", "0123456\n", "0123456\r", "0123456", "\r\n", ".\r\n"}[rnd.IntN(6)]
	text := bytes.Repeat([]byte(line), length/len(line)+1)[:length]
	if rnd.IntN(3) == 0 {
		return text
	}
	for at := 0; at <= length; at += 16 << 10 { // all bounds are multiples of this
		for i := max(0, at-4); i < min(length, at+4); i++ {
			text[i] = "\r\n.x"[rnd.IntN(4)]
		}
	}
	return text
}

// plainText is text with CRLF at the end of each line.
func plainText(text []byte, dots bool) []byte {
	var out bytes.Buffer
	begin := true
	for i, c := range text {
		if c == '\n' && i > 0 && text[i-1] == '\r' {
			continue
		}
		if c == '\r' || c == '\n' {
			out.WriteString("\r\n")
			begin = true
			continue
		}
		if begin && c == '.' && dots {
			out.WriteByte('.')
		}
		begin = false
		out.WriteByte(c)
	}
	if dots && !begin {
		out.WriteString("\r\n")
	}
	return out.Bytes()
}

// plainSize is how long text is when it is sent, without the dots that are doubled.
func plainSize(text []byte, binary, lines bool) int {
	if binary {
		return len(text)
	}
	out := plainText(text, false)
	if lines && len(out) > 0 && !bytes.HasSuffix(out, []byte("\r\n")) {
		return len(out) + 2
	}
	return len(out)
}

// uniform reports whether text has line endings of one kind.
func uniform(text []byte) bool {
	crs, lfs := bytes.Count(text, []byte("\r")), bytes.Count(text, []byte("\n"))
	pairs := bytes.Count(text, []byte("\r\n"))
	return pairs == min(crs, lfs)
}

func sizeOf(mail string) int {
	_, after, found := strings.Cut(mail, " SIZE=")
	if !found {
		return -1
	}
	digits, _, _ := strings.Cut(after, " ")
	n, _ := strconv.Atoi(digits)
	return n
}

func differ(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// writePieces writes text in pieces of different lengths.
func writePieces(w io.Writer, text []byte) error {
	for n := 1; len(text) > 0; n = n*3%10007 + 1 {
		k := min(n, len(text))
		if _, err := w.Write(text[:k]); err != nil {
			return err
		}
		text = text[k:]
	}
	return nil
}
