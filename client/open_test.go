package client

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll opens the content of m and reads it, or the first n octets of it.
func readAll(t *testing.T, m *Message, n int64) (text string, again bool) {
	t.Helper()
	r, again, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(io.LimitReader(r, n))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return string(p), again
}

// TestOpen: a Body that can be read again is opened any number of times, and sent afterwards from where it stood.
func TestOpen(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "message"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("skip\r\nhello\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(6, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	standing := strings.NewReader("skip\r\nhello\r\n")
	if _, err := standing.Seek(6, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]io.Reader{
		"seeker": standing,
		"file":   file,
		"writer": WriterBody(WriterFunc(func(w io.Writer) error {
			_, err := io.WriteString(w, "hello\r\n")
			return err
		})),
		"opened": OpenBody(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("hello\r\n")), nil }),
	} {
		t.Run(name, func(t *testing.T) {
			m := message("", "c@d.example")
			m.Body = body
			for _, n := range []int64{3, 1 << 20, 1, 1 << 20} {
				want := "hello\r\n"[:min(n, 7)]
				if text, again := readAll(t, m, n); text != want || !again {
					t.Errorf("Open gives %q, again %v, want %q", text, again, want)
				}
			}
			c := dial(t, nil, hello("PIPELINING")+taken("c@d.example")+bye)
			if _, err := c.Send(t.Context(), m); err != nil {
				t.Errorf("Send: %v", err)
			}
			c.Close()
		})
	}
}

// TestOpenOnce: a Body that can be read once is used up by Open, as by an attempt to send it.
func TestOpenOnce(t *testing.T) {
	m := message("", "c@d.example")
	m.Body = iotest.OneByteReader(strings.NewReader("hello\r\n"))
	if text, again := readAll(t, m, 3); text != "hel" || again {
		t.Errorf("Open gives %q, again %v", text, again)
	}
	if _, _, err := m.Open(); !errors.Is(err, errUsed) {
		t.Errorf("the second Open: %v, want %v", err, errUsed)
	}
	c := dial(t, nil, hello()+bye)
	if _, err := c.Send(t.Context(), m); !errors.Is(err, errUsed) {
		t.Errorf("Send after Open: %v, want %v", err, errUsed)
	}
	c.Close()
	m.Body = strings.NewReader("another")
	if text, again := readAll(t, m, 10); text != "another" || !again {
		t.Errorf("another Body gives %q, again %v", text, again)
	}
}

// TestOpenFailure: what cannot be opened is a MessageError, and no Body is empty content.
func TestOpenFailure(t *testing.T) {
	failed := errors.New("no such object")
	m := &Message{Body: OpenBody(func() (io.ReadCloser, error) { return nil, failed })}
	var want *MessageError
	if _, _, err := m.Open(); !errors.As(err, &want) || !errors.Is(err, failed) {
		t.Errorf("Open: %v, want a MessageError", err)
	}
	if text, again := readAll(t, &Message{}, 1); text != "" || !again {
		t.Errorf("without a Body: %q, again %v", text, again)
	}
}
