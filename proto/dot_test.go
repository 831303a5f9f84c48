package proto

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// plainDecode is transparency removal written down octet by octet from RFC 5321 section 4.5.2, to compare the decoder
// with. It returns the content, what follows its end, and whether the end was found.
func plainDecode(p []byte) (content, rest []byte, bare, end bool) {
	begin := true // at the beginning of a line
	for i := 0; i < len(p); i++ {
		if begin && bytes.HasPrefix(p[i:], []byte(".\r\n")) {
			return content, p[i+3:], bare, true
		}
		if begin && p[i] == '.' {
			if i++; i == len(p) {
				break
			}
		}
		begin = false
		content = append(content, p[i])
		switch {
		case p[i] == '\r' && (i+1 == len(p) || p[i+1] != '\n'):
			bare = bare || i+1 < len(p)
		case p[i] == '\n' && (i == 0 || p[i-1] != '\r'):
			bare = true
		case p[i] == '\n':
			begin = true
		}
	}
	return content, nil, bare, false
}

// plainEncode is line endings and dot-stuffing, octet by octet.
func plainEncode(p []byte, dots bool) []byte {
	text := strings.ReplaceAll(string(p), "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	lines := strings.Split(text, "\n")
	var out []byte
	for i, line := range lines {
		if dots && strings.HasPrefix(line, ".") {
			out = append(out, '.')
		}
		out = append(out, line...)
		if i < len(lines)-1 {
			out = append(out, "\r\n"...)
		}
	}
	return out
}

// decodeCut decodes p, handed over in pieces that end at the cuts.
func decodeCut(t *testing.T, p []byte, cuts ...int) (content, rest []byte, bare, end bool) {
	t.Helper()
	var d decoder
	var held []byte
	from := 0
	for _, to := range append(cuts, len(p)) {
		piece := append(held, p[from:to]...)
		from = to
		out, used, end := d.decode(piece)
		content = append(content, piece[:out]...)
		held = append([]byte(nil), piece[used:]...)
		if end {
			return content, append(held, p[from:]...), d.bare, true
		}
		if len(held) > 2 {
			t.Fatalf("%q: %d octets held back, want at most 2", piece, len(held))
		}
	}
	return content, nil, d.bare, false
}

func checkDecode(t *testing.T, p []byte, cuts ...int) {
	t.Helper()
	content, rest, bare, end := decodeCut(t, p, cuts...)
	wantContent, wantRest, wantBare, wantEnd := plainDecode(p)
	if end != wantEnd {
		t.Fatalf("%q cut at %d: end found is %t, want %t", p, cuts, end, wantEnd)
	}
	if end && (!bytes.Equal(content, wantContent) || !bytes.Equal(rest, wantRest) || bare != wantBare) {
		t.Fatalf("%q cut at %d: got %q, rest %q, bare %t\nwant %q, rest %q, bare %t",
			p, cuts, content, rest, bare, wantContent, wantRest, wantBare)
	}
	if !end && !bytes.HasPrefix(wantContent, content) {
		t.Fatalf("%q cut at %d: got %q, want a prefix of %q", p, cuts, content, wantContent)
	}
}

// TestDecodeEveryCut compares the decoder with the plain one for all short texts over the octets that matter, and at
// every cut.
func TestDecodeEveryCut(t *testing.T) {
	const alphabet = "\r\n.x"
	var walk func(p []byte)
	walk = func(p []byte) {
		whole := append(append([]byte(nil), p...), "\r\n.\r\nrest"...)
		for i := 0; i <= len(whole); i++ {
			checkDecode(t, whole, i)
		}
		var each []int
		for i := 1; i < len(whole); i++ {
			each = append(each, i)
		}
		checkDecode(t, whole, each...)
		if len(p) == 6 {
			return
		}
		for _, c := range []byte(alphabet) {
			walk(append(p, c))
		}
	}
	walk(nil)
}

// TestSmuggling is the generator of fake ends of data: every line ending before a dot with every one after it, at the
// beginning of the content, after text and after an empty line. None but CRLF.CRLF ends the content, and all with a
// bare CR or LF in them are noticed (SEC Consult 2023; CVE-2023-51764, -51765, -51766).
func TestSmuggling(t *testing.T) {
	ends := []string{
		"\r\n", "\n", "\r", "\r\r\n", "\r\n\r", "\n\r", "\r\x00\n", "\x00\r\n", "\r\n\x00", "\x85", "\xe2\x80\xa8", "\x0b",
		"\x0c", "\r\n ", "\r\n\t",
	}
	for _, before := range ends {
		for _, after := range ends {
			for _, start := range []string{"", "text", "text\r\n\r\n"} {
				fake := before + "." + after
				p := []byte(start + fake + "MAIL FROM:<evil@x>\r\n.\r\nnext")
				content, rest, bare, end := decodeCut(t, p)
				if strings.Contains(start+fake, "\r\n.\r\n") || start == "" && strings.HasPrefix(fake, ".\r\n") {
					continue // a true end of content
				}
				if !end || string(rest) != "next" {
					t.Errorf("%q ended content early: rest is %q", fake, rest)
				}
				stray := strings.ReplaceAll(string(p), "\r\n", "")
				if want := strings.ContainsAny(stray, "\r\n"); bare != want {
					t.Errorf("%q: bare newline noticed is %t, want %t (content %q)", fake, bare, want, content)
				}
				for i := range p {
					checkDecode(t, p, i)
				}
			}
		}
	}
}

func checkEncode(t *testing.T, dots bool, p []byte, cuts ...int) {
	t.Helper()
	e := Encoder{Dots: dots}
	var out []byte
	from := 0
	for _, to := range append(cuts, len(p)) {
		out = e.Append(out, p[from:to])
		from = to
	}
	if want := plainEncode(p, dots); !bytes.Equal(out, want) {
		t.Fatalf("%q cut at %d, dots %t: got %q, want %q", p, cuts, dots, out, want)
	}
	if !dots {
		if out = e.Close(out); strings.ContainsAny(strings.ReplaceAll(string(out), "\r\n", ""), "\r\n") {
			t.Fatalf("%q: bare CR or LF in %q", p, out)
		}
		return
	}
	want := out
	if len(want) > 0 && !bytes.HasSuffix(want, []byte("\r\n")) {
		want = append(want[:len(want):len(want)], "\r\n"...)
	}
	want = append(want[:len(want):len(want)], ".\r\n"...)
	out = e.Close(out)
	if !bytes.Equal(out, want) {
		t.Fatalf("%q: closed as %q, want %q", p, out, want)
	}
	// The two are inverse (F26).
	content, rest, bare, end := decodeCut(t, append([]byte(nil), out...))
	plain := plainEncode(p, false)
	if len(plain) > 0 && !bytes.HasSuffix(plain, []byte("\r\n")) {
		plain = append(plain, "\r\n"...)
	}
	if !end || bare || len(rest) != 0 || !bytes.Equal(content, plain) {
		t.Fatalf("%q: encoded as %q, decoded as %q, want %q (end %t, bare %t, rest %q)", p, out, content, plain, end, bare, rest)
	}
}

func TestEncodeEveryCut(t *testing.T) {
	var walk func(p []byte)
	walk = func(p []byte) {
		for _, dots := range []bool{true, false} {
			checkEncode(t, dots, p)
			for i := range p {
				checkEncode(t, dots, p, i)
				for j := i; j < len(p); j++ {
					checkEncode(t, dots, p, i, j)
				}
			}
		}
		if len(p) == 6 {
			return
		}
		for _, c := range []byte("\r\n.x") {
			walk(append(p, c))
		}
	}
	walk(nil)
}

// TestEncodeLong has texts longer than a block, with cuts in awkward places.
func TestEncodeLong(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, line := range []string{"abc\r\n", ".\r\n", "x\n", "x\r", ".a\r\n.b\n", strings.Repeat("y", 997) + "\r\n"} {
		p := []byte(strings.Repeat(line, 3*encodeBlock/len(line)))
		for range 20 {
			i := rnd.IntN(len(p))
			j := i + rnd.IntN(len(p)-i)
			checkEncode(t, true, p, i, j)
			checkEncode(t, false, p, i, j)
		}
	}
}

func TestBareScanner(t *testing.T) {
	var walk func(p []byte)
	walk = func(p []byte) {
		want := strings.ContainsAny(strings.ReplaceAll(string(p), "\r\n", ""), "\r\n")
		for i := range len(p) + 1 {
			var s bareScanner
			s.scan(p[:i])
			s.scan(p[i:])
			s.finish()
			if s.bare != want {
				t.Fatalf("%q cut at %d: bare is %t, want %t", p, i, s.bare, want)
			}
		}
		if len(p) == 7 {
			return
		}
		for _, c := range []byte("\r\nx") {
			walk(append(p, c))
		}
	}
	walk(nil)
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("a\r\n..\r\n.\r\nMAIL"), uint8(3))
	f.Add([]byte(".\r\n"), uint8(1))
	f.Add([]byte("a\n.\nb\r.\rc\r\n.\r\r\n.\r\n"), uint8(4))
	f.Fuzz(func(t *testing.T, p []byte, step uint8) {
		var cuts []int
		for i := int(step); step > 0 && i < len(p); i += int(step) {
			cuts = append(cuts, i)
		}
		checkDecode(t, p, cuts...)
		checkDecode(t, p)
	})
}

func FuzzEncoder(f *testing.F) {
	f.Add([]byte("a\r\n.\r\n"), uint8(3))
	f.Add([]byte(".\n\r\r\n."), uint8(1))
	f.Fuzz(func(t *testing.T, p []byte, step uint8) {
		var cuts []int
		for i := int(step); step > 0 && i < len(p); i += int(step) {
			cuts = append(cuts, i)
		}
		checkEncode(t, true, p, cuts...)
		checkEncode(t, false, p, cuts...)
	})
}

func BenchmarkDecode(b *testing.B) {
	for name, line := range map[string]string{
		"76":   strings.Repeat("a", 76) + "\r\n",
		"dots": "..\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(strings.Repeat(line, 64<<10/len(line)))
			p := make([]byte, len(text))
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				copy(p, text)
				var d decoder
				d.decode(p)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, line := range map[string]string{
		"76":   strings.Repeat("a", 76) + "\r\n",
		"unix": strings.Repeat("a", 76) + "\n",
		"dots": ".\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(strings.Repeat(line, 64<<10/len(line)))
			dst := make([]byte, 0, 2*len(text)+3)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				e := Encoder{Dots: true}
				dst = e.Append(dst[:0], text)
			}
		})
	}
}
