package mx

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
)

// TestBodyIsGivenBack checks that what Send keeps of a Body is gone at its end, also if it fails, and that each reader
// that it has opened is closed.
func TestBodyIsGivenBack(t *testing.T) {
	text := "Subject: x\r\n\r\n" + strings.Repeat("All work and no play\r\n", 100_000) // more than is kept in memory
	for _, refuses := range []bool{false, true} {
		var parts []io.Reader
		prepare := func(_ context.Context, m *client.Message) (*client.Message, error) {
			parts = append(parts, m.Body)
			return m, nil
		}
		lay(t, oneHost, func(o *Options) { o.Prepare = prepare }, func(t *testing.T, b *bed) {
			h := b.add("192.0.2.1", &host{refuses: refuses})
			m := message(t, "a@d.example")
			m.Body = io.MultiReader(strings.NewReader(text))
			if _, err := b.Send(t.Context(), m); (err != nil) != refuses || !refuses && h.letters()[0].text != text {
				t.Error(err)
			}
			if len(parts) != 1 {
				t.Fatalf("%d parts", len(parts))
			}
			at, ok := parts[0].(io.ReaderAt)
			if !ok {
				t.Fatalf("the content is in a %T", parts[0])
			}
			if n, err := at.ReadAt(make([]byte, 1), 0); n != 0 || !errors.Is(err, os.ErrClosed) {
				t.Errorf("the file is open: %v", err)
			}
		})
	}
	t.Run("OpenBody", func(t *testing.T) {
		cert := aStranger().issue(t, "mx.example")
		lay(t, oneHost+"_25._tcp.mx.example TLSA "+tlsa(cert)+"\n", nil, func(t *testing.T, b *bed) {
			b.dns.Secure(".")
			h := b.add("192.0.2.1", &host{})
			opened, open := 0, 0
			m := message(t, "a@d.example")
			m.Body = client.OpenBody(func() (io.ReadCloser, error) {
				opened++
				open++
				return &counted{Reader: strings.NewReader("TLS-Required: No\r\n\r\n" + text), open: &open}, nil
			})
			if _, err := b.Send(t.Context(), m); err != nil || len(h.letters()) != 1 {
				t.Error(err)
			}
			if opened < 2 || open != 0 { // once for the header, and once for the content
				t.Errorf("opened %d times, and %d are open", opened, open)
			}
		})
	})
}

// counted is a reader that counts those which are open.
type counted struct {
	io.Reader
	open *int
}

func (c *counted) Close() error {
	*c.open--
	return nil
}

// TestHeaderIsBounded checks how much of a message is read in search of TLS-Required, and how much of a field is kept.
func TestHeaderIsBounded(t *testing.T) {
	cert := aStranger().issue(t, "mx.example")
	folded := "X: x\r\n" + strings.Repeat(" folded\r\n", 1<<20)
	for _, tt := range []struct {
		name, text string
		most       int64 // octets read
		want       string
	}{
		{"many fields", strings.Repeat("X: x\r\n", 1<<20) + "TLS-Required: No\r\n\r\n", 300_000, "4.7.5"},
		{"a folded field", folded + "TLS-Required: No\r\n\r\n", 300_000, "4.7.5"},
		{"a line", strings.Repeat("x", 8<<20) + "\r\nTLS-Required: No\r\n\r\n", 300_000, "4.7.5"},
		{"much text", "X: x\r\n\r\n" + strings.Repeat("x\r\n", 1<<20), 4096, "4.7.5"},
		{"folded, No", "TLS-Required:\r\n No\r\n\r\n", 4096, "ok"},
		{"folded, and more", "TLS-Required: No\r\n thanks\r\n\r\n", 4096, "4.7.5"},
		{"No, far behind", "TLS-Required:" + strings.Repeat("\r\n ", 5000) + "No\r\n\r\n", 300_000, "4.7.5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, oneHost+"_25._tcp.mx.example TLSA "+tlsa(cert)+"\n", nil, func(t *testing.T, b *bed) {
				b.dns.Secure(".")
				b.add("192.0.2.1", &host{})
				m := message(t, "a@d.example")
				var read int64
				m.Body = client.OpenBody(func() (io.ReadCloser, error) {
					return io.NopCloser(&meter{strings.NewReader(tt.text), &read}), nil
				})
				res, err := b.Send(t.Context(), m)
				if got := outcomes(res); got != tt.want {
					t.Errorf("%s, want %s: %v", got, tt.want, err)
				}
				if tt.want != "ok" && read > tt.most {
					t.Errorf("%d octets were read, and %d would do", read, tt.most)
				}
			})
		})
	}
	field, _ := readField(bufio.NewReaderSize(strings.NewReader(folded), 4096))
	if len(field) < 4096 || len(field) > 2*4096 {
		t.Errorf("%d octets of a field are kept", len(field))
	}
}

// A meter counts what is read.
type meter struct {
	io.Reader
	n *int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	*m.n += int64(n)
	return n, err
}
