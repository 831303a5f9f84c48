package dkim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestEverythingIsKept: a copy differs from the message in Body and Size alone.
func TestEverythingIsKept(t *testing.T) {
	m := message(t, strings.NewReader("From: a@b.example\n\nHi\n"))
	m.Mail, m.Size, m.Needs, m.AllOrNone = proto.Params{{Key: "X", Value: "y"}}, 1, ext.UTF8, true
	s := newSigner(t, &Options{Keys: bothKeys(t, "b.example")})
	signed, err := s.Prepare(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	got, want := reflect.ValueOf(signed).Elem(), reflect.ValueOf(m).Elem()
	for i := range want.NumField() {
		f := want.Type().Field(i)
		if !f.IsExported() || f.Name == "Body" || f.Name == "Size" {
			continue
		}
		if want.Field(i).IsZero() {
			t.Errorf("the test sets no %s", f.Name)
		}
		if !reflect.DeepEqual(got.Field(i).Interface(), want.Field(i).Interface()) {
			t.Errorf("%s is %v, want %v", f.Name, got.Field(i), want.Field(i))
		}
	}
	if text := sent(t, signed); signed.Size != int64(len(text)) {
		t.Errorf("Size is %d, and %d octets are transmitted", signed.Size, len(text))
	}
}

// TestSentAgain: a signed message can be sent several times, and signed again, where that is possible at all.
func TestSentAgain(t *testing.T) {
	keys := bothKeys(t, "example.org")
	z := zoneOf(t, keys...)
	text := messages["large LF"]
	for _, held := range []int{0, 1} { // all of it, and less than there is
		s := newSigner(t, &Options{Keys: keys, MaxHeld: held, MaxHeader: 100})
		for kind, body := range bodies(text) {
			m := message(t, body)
			for round := range 2 {
				signed, err := s.Prepare(t.Context(), m)
				if kind == "reader" && (round == 1 || held == 1) {
					want := "cannot be read again"
					if round == 0 {
						want = "longer than the 32868 octets"
					}
					if !isMessageError(err, want) {
						t.Errorf("%s the %d. time: %v, want %s", kind, round+1, err, want)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s the %d. time: %v", kind, round+1, err)
					continue
				}
				l := newLab(t)
				for range 3 {
					if _, err := l.sender().Send(t.Context(), signed); err != nil {
						t.Errorf("%s: %v", kind, err)
					}
				}
				for _, got := range l.take() {
					whole := strings.HasSuffix(strings.TrimSuffix(got, "\r\n"), strings.TrimSuffix(crlf(text), "\r\n"))
					if _, err := verify(got, z); err != nil || !whole {
						t.Errorf("%s: %v", kind, err)
					}
				}
			}
		}
	}
}

// TestStanding: what is signed begins where a Body stands, and the Body stands there afterwards.
func TestStanding(t *testing.T) {
	keys := bothKeys(t, "example.org")
	text := "this was read before\r\n" + messages["plain"]
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for kind, body := range map[string]io.ReadSeeker{
		"file": f, "reader": strings.NewReader(text), "section": io.NewSectionReader(f, 0, int64(len(text))),
		"seeker": struct{ io.ReadSeeker }{bytes.NewReader([]byte(text))},
	} {
		start := int64(len("this was read before\r\n"))
		if _, err := body.Seek(start, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		signed, err := newSigner(t, &Options{Keys: keys}).Prepare(t.Context(), message(t, body))
		if err != nil {
			t.Fatal(err)
		}
		l := newLab(t)
		if _, err := l.sender().Send(t.Context(), signed); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		got := l.take()[0]
		if _, err := verify(got, zoneOf(t, keys...)); err != nil || strings.Contains(got, "before") {
			t.Errorf("%s: %v of %q", kind, err, got)
		}
		if at, err := body.Seek(0, io.SeekCurrent); at != start || err != nil {
			t.Errorf("%s stands at %d, not at %d: %v", kind, at, start, err)
		}
	}
}

// TestSignedBody: the Body of a copy reads as one piece, whatever it is made of, and however it is read.
func TestSignedBody(t *testing.T) {
	for kind, body := range bodies(messages["plain"]) {
		signed, err := newSigner(t, &Options{Keys: bothKeys(t, "example.org")}).Prepare(t.Context(), message(t, body))
		if err != nil {
			t.Fatal(err)
		}
		want := sent(t, signed)
		if err := iotest.TestReader(signed.Body, []byte(want)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if kind == "ReaderAt" {
			if _, ok := signed.Body.(io.ReaderAt); !ok {
				t.Errorf("%s has become a %T", kind, signed.Body)
			}
		}
	}
}

// TestBodyChanges: what is another content when it is sent does not get to the server, nor half of it.
func TestBodyChanges(t *testing.T) {
	text := head + "\r\n" + strings.Repeat("line\r\n", 50000)
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cut := &cutShort{ReadSeeker: strings.NewReader(text)}
	end := "one"
	for kind, test := range map[string]struct {
		body   io.Reader
		change func() error
	}{
		"file":   {f, func() error { return os.Truncate(file, 200000) }},
		"seeker": {cut, func() error { cut.at = 200000; return nil }},
		"writer": {client.WriterBody(client.WriterFunc(func(w io.Writer) error {
			_, err := io.WriteString(w, text+end)
			return err
		})), func() error { end = "two"; return nil }},
	} {
		s := newSigner(t, &Options{Keys: bothKeys(t, "example.org"), MaxHeld: 1, MaxHeader: 1000})
		signed, err := s.Prepare(t.Context(), message(t, test.body))
		if err != nil {
			t.Fatal(err)
		}
		if err := test.change(); err != nil {
			t.Fatal(err)
		}
		l := newLab(t)
		if _, err := l.sender().Send(t.Context(), signed); !isMessageError(err, "reading the body") {
			t.Errorf("%s: %v", kind, err)
		}
		if got := l.take(); len(got) > 0 {
			t.Errorf("%s: the server has got %d octets", kind, len(got[0]))
		}
	}
}

// A cutShort ends at a place, if that is not 0.
type cutShort struct {
	io.ReadSeeker
	at int64
}

func (c *cutShort) Read(p []byte) (int, error) {
	if at, err := c.Seek(0, io.SeekCurrent); err != nil || c.at > 0 && at >= c.at {
		return 0, io.EOF
	}
	return c.ReadSeeker.Read(p)
}

// TestWriterDiffers: a message whose boundaries differ each time is signed as it was first.
func TestWriterDiffers(t *testing.T) {
	keys := bothKeys(t, "example.org")
	n := 0
	m := message(t, client.WriterBody(client.WriterFunc(func(w io.Writer) error {
		n++
		_, err := fmt.Fprintf(w, "%s\r\nboundary %d\r\n", head, n)
		return err
	})))
	l := newLab(t)
	send := newSigner(t, &Options{Keys: keys}).Sender(l.sender())
	for range 3 {
		if _, err := send.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for i, got := range l.take() {
		if _, err := verify(got, zoneOf(t, keys...)); err != nil || !strings.Contains(got, fmt.Sprint("boundary ", i+1)) {
			t.Errorf("%d: %v of %q", i, err, got)
		}
	}
}

// TestShared: the parts of a shared message are signed and read at the same time.
func TestShared(t *testing.T) {
	keys := bothKeys(t, "example.org")
	s := newSigner(t, &Options{Keys: keys})
	for kind, body := range bodies(messages["large"]) {
		signed, err := s.Prepare(t.Context(), message(t, body))
		if err != nil {
			t.Fatal(err)
		}
		shared, err := client.Share(signed)
		if err != nil {
			t.Fatal(err)
		}
		l := newLab(t)
		done := make(chan error)
		for range 4 {
			go func() {
				_, err := l.sender().Send(context.Background(), shared.Message(signed.To))
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		for _, got := range l.take() {
			if _, err := verify(got, zoneOf(t, keys...)); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if err := shared.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRetry: an attempt after a failure sends a message that is signed as well.
func TestRetry(t *testing.T) {
	keys := bothKeys(t, "example.org")
	l := newLab(t)
	attempts := 0
	flaky := client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
		if attempts++; attempts < 3 {
			res := &client.Result{Recipients: []proto.Outcome{{Recipient: m.To[0], Err: &client.LostError{Err: io.EOF}}}}
			return res, &client.SendError{Result: res, Err: res.Recipients[0].Err}
		}
		return l.sender().Send(ctx, m)
	})
	m := message(t, strings.NewReader(messages["plain"]))
	s := newSigner(t, &Options{Keys: keys}).Sender(flaky)
	if _, err := (client.Retry{First: -1}).Send(t.Context(), s, m); err != nil {
		t.Fatal(err)
	}
	if _, err := verifyBoth(l.take()[0], zoneOf(t, keys...)); err != nil || attempts != 3 {
		t.Errorf("%d attempts, %v", attempts, err)
	}
}

// TestUnsigned: a message of a domain without keys is passed on octet for octet, or refused.
func TestUnsigned(t *testing.T) {
	keys := bothKeys(t, "example.org")
	passing, strict := newSigner(t, &Options{Keys: keys}), newSigner(t, &Options{Keys: keys, Required: true})
	for name, test := range map[string]struct{ text, want string }{
		"other domain": {"From: a@example.net\r\n\r\nHi\r\n", "no key for example.net"},
		"no address":   {"From: Alice\r\n\r\nHi\r\n", "it has no address"},
		"no From":      {"Subject: Hi\r\n\r\nHi\r\n", "it has no address"},
		"no header":    {"\r\nHi\r\n", "it has no address"},
		"nothing":      {"", "it has no address"},
		"no fields":    {"Hello, world\r\n", "it is no header field"},
		"long":         {"X: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", "it has more than 1048576 octets"},
		"large":        {"From: a@example.net\r\n\r\n" + strings.Repeat("line\r\n", 500000), "no key for example.net"},
	} {
		for kind, body := range bodies(test.text) {
			signed, err := passing.Prepare(t.Context(), message(t, body))
			if err != nil {
				t.Errorf("%s as a %s: %v", name, kind, err)
				continue
			}
			if got := sent(t, signed); got != test.text {
				t.Errorf("%s as a %s is %.100q", name, kind, got)
			}
		}
		if _, err := strict.Prepare(t.Context(), message(t, strings.NewReader(test.text))); !isMessageError(err, test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	signed, err := passing.Prepare(t.Context(), message(t, nil))
	if err != nil || signed.Body != nil {
		t.Errorf("no Body: %v, %v", signed, err)
	}
	for name, text := range map[string]string{
		"two From fields": head + "From: a@example.net\r\n\r\n",
		"no field behind": head + "Hello, world\r\n",
	} {
		if _, err := passing.Prepare(t.Context(), message(t, strings.NewReader(text))); !isMessageError(err, "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A measured is a seeker of lines that tells how much memory is in use when it comes to its end.
type measured struct {
	*io.SectionReader
	inUse uint64
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.SectionReader.Read(p)
	if err == io.EOF {
		m.inUse = heap()
	}
	return n, err
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// linesAt has lines of text at any place.
type linesAt struct{}

func (linesAt) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = "a line of text\r\n"[(off+int64(i))%16]
	}
	n := copy(p, (head + "\r\n")[min(off, int64(len(head)+2)):])
	return max(n, len(p)), nil
}

// TestMemory: the content of a seeker is not held, however long it is.
func TestMemory(t *testing.T) {
	const size = 16 << 20
	s := newSigner(t, &Options{Keys: []Key{{Domain: "example.org", Selector: "e", Signer: edKey(t)}}, MaxHeld: 10 * size})
	body := &measured{SectionReader: io.NewSectionReader(linesAt{}, 0, size)}
	before := heap()
	signed, err := s.Prepare(t.Context(), message(t, body))
	if err != nil {
		t.Fatal(err)
	}
	if body.inUse > before+size/2 {
		t.Errorf("%d octets are held of %d", body.inUse-before, size)
	}
	if signed.Size < size {
		t.Errorf("the size is %d", signed.Size)
	}
}
