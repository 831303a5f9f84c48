package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	if helper() {
		return
	}
	prototest.Main(m)
}

// message returns a message from a@b.example.
func message(t testing.TB, text string, to ...string) *client.Message {
	t.Helper()
	m, err := client.NewMessage("a@b.example", to, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// written returns what f makes of text, read from r.
func written(t testing.TB, f format, r io.Reader, needs ext.Feature) string {
	t.Helper()
	m := message(t, "", "c@d.example")
	m.Body, m.Needs = r, needs
	var b bytes.Buffer
	n, err := f.write(context.Background(), &b, m)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("%d of %d octets, %v", n, b.Len(), err)
	}
	return b.String()
}

const top = "Return-Path: <a@b.example>\nDelivered-To: c@d.example\n"

// TestFormat: each line of the table is read as a whole and octet by octet.
func TestFormat(t *testing.T) {
	long := strings.Repeat("x", 2*blockSize)
	for _, c := range []struct {
		name string
		f    format
		text string
		want string
	}{
		{"empty", format{newline: "\n"}, "", ""},
		{"to LF", format{newline: "\n"}, "a\r\n\r\nb\r\n", "a\n\nb\n"},
		{"to CRLF", format{newline: "\r\n"}, "a\n\nb\n", "a\r\n\r\nb\r\n"},
		{"bare CR", format{newline: "\n"}, "a\rb\r\rc\r\r\nd\n\r", "a\nb\n\nc\n\nd\n\n"},
		{"last line", format{newline: "\n"}, "a\r\nb", "a\nb\n"},
		{"long lines", format{newline: "\n"}, long + "\r\n" + long + "\r" + long, long + "\n" + long + "\n" + long + "\n"},
		{"CR at the edge", format{newline: "\n"}, long[:blockSize-1] + "\r\nb", long[:blockSize-1] + "\nb\n"},
		{"quoting", format{newline: "\n", quote: true}, "From a\n>From b\n>>>From c\nFrom\nfrom d\n>x\n>\n>",
			">From a\n>>From b\n>>>>From c\nFrom\nfrom d\n>x\n>\n>\n"},
		{"quoting many", format{newline: "\n", quote: true}, strings.Repeat(">", 3*blockSize) + "From ",
			strings.Repeat(">", 3*blockSize+1) + "From \n"},
		{"J08 one Return-Path", format{newline: "\n", top: true},
			"Return-Path: <x@y>\r\nRETURN-path :\r\n <x@y>\r\nReceived: z\r\n\r\nReturn-Path: body\r\n",
			top + "Received: z\n\nReturn-Path: body\n"},
		{"J08 Return-Path last", format{newline: "\n", top: true}, "A: b\n c\nReturn-Path: <x@y>\n d", top + "A: b\n c\n"},
		{"J08 only that", format{newline: "\n", top: true}, "Return-Path: <x@y>\n\nx", top + "\nx\n"},
		{"J08 no header", format{newline: "\n", top: true}, "hello there\nReturn-Path: <x@y>\n",
			top + "hello there\nReturn-Path: <x@y>\n"},
		{"J08 another field", format{newline: "\n", top: true}, "Return-Path-X: a\nReturn: b\n" + long + ": c\n",
			top + "Return-Path-X: a\nReturn: b\n" + long + ": c\n"},
		{"J08 no header, and a space", format{newline: "\n", top: true}, " x\nReturn-Path: y\n", top + "\n x\nReturn-Path: y\n"},
		{"J08 behind a bare CR", format{newline: "\n", top: true}, "A: b\rReturn-Path: <x@y>\r\n\r\n", top + "A: b\n\n"},
		{"J08 and quoting", format{newline: "\n", top: true, quote: true}, "From x\nReturn-Path: a\n\nFrom y\n",
			top + ">From x\nReturn-Path: a\n\n>From y\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := written(t, c.f, strings.NewReader(c.text), 0); got != c.want {
				t.Errorf("%.200q, want %.200q", got, c.want)
			}
			if got := written(t, c.f, iotest.OneByteReader(strings.NewReader(c.text)), 0); got != c.want {
				t.Errorf("octet by octet: %.200q, want %.200q", got, c.want)
			}
		})
	}
	const binary = "A: b\r\n\r\n\x00\r\x01\n\r\r\n"
	if got := written(t, format{newline: "\n"}, strings.NewReader(binary), ext.Binary); got != binary {
		t.Errorf("binary: %q", got)
	}
}

// TestFormatAddresses: an address cannot end its line.
func TestFormatAddresses(t *testing.T) {
	for _, c := range []struct{ from, path string }{
		{"", "<>"}, {`"a b\"c>"@d.example`, `<"a b\"c>"@d.example>`}, {"ä@ö.example", "<ä@ö.example>"},
	} {
		m, err := client.NewMessage(c.from, []string{`"x y"@d.example`}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := (format{newline: "\n", top: true}).write(t.Context(), &b, m); err != nil {
			t.Fatal(err)
		}
		if want := "Return-Path: " + c.path + "\nDelivered-To: \"x y\"@d.example\n"; b.String() != want {
			t.Errorf("%q, want %q", b.String(), want)
		}
	}
	m := &client.Message{From: proto.Address{Local: "a\nb: c"}, To: make([]proto.Recipient, 2)}
	var b bytes.Buffer
	_, err := format{newline: "\n", top: true}.write(t.Context(), &b, m)
	if err != nil || b.String() != "" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// TestFormatFails: an error of the Body is a MessageError, though it comes up while a line is looked at.
func TestFormatFails(t *testing.T) {
	broken := errors.New("broken")
	long := strings.Repeat("x", blockSize-2)
	for _, text := range []string{"", "A: b", "A: b\n", "\nFrom", "\n>", "\n\r", "\n" + long + "\r"} {
		m := message(t, "", "c@d.example")
		m.Body = io.MultiReader(strings.NewReader(text), &onceFailing{err: broken})
		_, err := format{newline: "\n", top: true, quote: true}.write(t.Context(), io.Discard, m)
		var fault *client.MessageError
		if !errors.As(err, &fault) || !errors.Is(err, broken) {
			t.Errorf("%.20q: %v, want a MessageError", text, err)
		}
	}
	m := message(t, "x", "c@d.example")
	if _, err := (format{}).write(t.Context(), failingWriter{broken}, m); err != broken {
		t.Errorf("%v, want the error of the writer", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	m = message(t, "x", "c@d.example")
	if _, err := (format{}).write(ctx, io.Discard, m); !errors.Is(err, broken) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that of the context", err)
	}
}

// onceFailing fails once, and goes on as if nothing had been.
type onceFailing struct{ err error }

func (o *onceFailing) Read(p []byte) (int, error) {
	if err := o.err; err != nil {
		o.err = nil
		return 0, err
	}
	return copy(p, "more\n"), io.EOF
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

var (
	anyNewline = regexp.MustCompile(`\r\n|\r|\n`)
	fromLine   = regexp.MustCompile(`(?m)^(>*From )`)
)

// FuzzFormat compares with regular expressions, however the content is cut.
func FuzzFormat(f *testing.F) {
	for _, s := range []string{"", "a\r\n.\r\n", "From \r>From \n\r", ">>\r>", "\r\r\n\n"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, text string, quote bool) {
		want := anyNewline.ReplaceAllString(text, "\n")
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if quote {
			want = fromLine.ReplaceAllString(want, ">$1")
		}
		form := format{newline: "\n", quote: quote}
		for _, r := range []io.Reader{
			strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)), iotest.HalfReader(strings.NewReader(text)),
		} {
			if got := written(t, form, r, 0); got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
		form.top = true
		if got := written(t, form, strings.NewReader(text), 0); !strings.HasPrefix(got, top) ||
			!strings.HasPrefix(text, " ") && !strings.HasPrefix(text, "\t") && !strings.HasSuffix(want, got[len(top):]) && !strings.Contains(strings.ToLower(text), "return-path") {
			t.Fatalf("with fields on top: %q, want %q", got, want)
		}
	})
}
