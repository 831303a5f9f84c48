package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// seekerOnly is a seeker that has no ReadAt.
type seekerOnly struct{ io.ReadSeeker }

// shareCase is a kind of Body for Share.
type shareCase struct {
	body io.Reader
	used bool // Share uses it up
	kept bool // Share reads and keeps it
}

// shareCases returns each kind of Body, with the content text, and something in front of it where a reader can stand
// behind its beginning.
func shareCases(t *testing.T, text string) map[string]shareCase {
	t.Helper()
	const front = "what was read before\r\n"
	past := func(r io.ReadSeeker) io.Reader {
		if _, err := r.Seek(int64(len(front)), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		return r
	}
	name := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(name, []byte(front+text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	m, err := NewMessage("", []string{"c@d.example"}, bytes.NewBufferString(text))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]shareCase{
		"bytes.Reader":   {body: past(bytes.NewReader([]byte(front + text)))},
		"strings.Reader": {body: past(strings.NewReader(front + text))},
		"os.File":        {body: past(file)},
		"section":        {body: past(io.NewSectionReader(strings.NewReader("x"+front+text+"x"), 1, int64(len(front+text))))},
		"bytes.Buffer":   {body: m.Body},
		"OpenBody":       {body: opened(text)},
		"WriterBody":     {body: new(writes).body(text, 999), kept: true},
		"seeker":         {body: past(seekerOnly{strings.NewReader(front + text)}), kept: true},
		"plain":          {body: iotest.DataErrReader(oddPieces{strings.NewReader(text)}), used: true, kept: true},
	}
}

// opened returns a Body that several goroutines may open at once.
func opened(text string) io.Reader {
	return OpenBody(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil })
}

// kept returns the files in the directory for temporary files, and those that are open though they have no name.
func kept(t *testing.T) (names, nameless []string) {
	t.Helper()
	entries, err := os.ReadDir(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	fds, _ := os.ReadDir("/proc/self/fd") // there is none but on Linux
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, os.TempDir()+"/smtp-") {
			nameless = append(nameless, to)
		}
	}
	return names, nameless
}

func wantNothingKept(t *testing.T) {
	t.Helper()
	if names, nameless := kept(t); len(names)+len(nameless) > 0 {
		t.Errorf("left behind: %q, %q", names, nameless)
	}
}

// TestShare reads parts of a message at the same time: each has the whole content from where the Body stood.
func TestShare(t *testing.T) {
	short := "Subject: x\r\n\r\nhello\r\n"
	most := strings.Repeat(short, shareMemory/len(short))
	for _, text := range []string{"", short, most[:3*blockSize], most, most + short} {
		for name, c := range shareCases(t, text) {
			if len(text) > 3*blockSize && !c.kept {
				continue // it makes no difference
			}
			t.Run(fmt.Sprintf("%s of %d octets", name, len(text)), func(t *testing.T) {
				t.Setenv("TMPDIR", t.TempDir())
				m := message("", "c@d.example")
				m.Body = c.body
				s, err := Share(m)
				if err != nil {
					t.Fatal(err)
				}
				want := ""
				if c.kept && len(text) > shareMemory {
					want = "a file"
				}
				if names, nameless := kept(t); (want != "") != (len(names)+len(nameless) > 0) {
					t.Errorf("kept: %q, %q, want %q", names, nameless, want)
				}
				readParts(t, s, text)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error("closed again:", err)
				}
				wantNothingKept(t)
				if m.spent() != c.used {
					t.Errorf("the Body is used up: %v, want %v", m.spent(), c.used)
				}
				again, err := Share(m)
				if c.used {
					if !errors.Is(err, errUsed) {
						t.Errorf("shared again: %v, want that the Body is used up", err)
					}
					return
				}
				if err != nil {
					t.Fatal("shared again:", err)
				}
				readParts(t, again, text)
				again.Close()
			})
		}
	}
}

// readParts reads four parts at the same time, each twice.
func readParts(t *testing.T, s *Shared, text string) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			part := s.Message([]proto.Recipient{{Address: message("", fmt.Sprintf("r%d@d.example", i)).To[0].Address}})
			if len(part.To) != 1 || part.To[0].Address.Local != fmt.Sprintf("r%d", i) {
				t.Errorf("to %v", part.To)
			}
			for range 2 {
				var b body
				if err := b.load(part.Body); err != nil {
					t.Error(err)
				}
				var got strings.Builder
				got.Write(b.block())
				for !b.last() {
					if err := b.next(); err != nil {
						t.Error(err)
						break
					}
					got.Write(b.block())
				}
				b.close()
				if !b.rewind() || got.String() != text {
					t.Errorf("%d octets, want %d", got.Len(), len(text))
				}
			}
		})
	}
	all.Wait()
}

// TestShareSends sends parts to several servers at the same time.
func TestShareSends(t *testing.T) {
	const text = "hello\r\n"
	for name, c := range shareCases(t, text) {
		m := message("", "a@b.example", "c@d.example")
		m.Body = c.body
		s, err := Share(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var all sync.WaitGroup
		for i := range m.To {
			srv := clienttest.New(t, hello("PIPELINING")+taken(m.To[i].Address.String())+bye)
			all.Go(func() {
				_, err := DialSender(host, inPlaintext(srv)).Send(t.Context(), s.Message(m.To[i:i+1]))
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		all.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestShareKeepsFields: a part has all that the message has, but for its recipients and its Body.
func TestShareKeepsFields(t *testing.T) {
	m := message("hello\r\n", "c@d.example")
	m.Mail, m.Size, m.Needs, m.AllOrNone = proto.Params{}.SetFlag("X"), 7, ext.UTF8, true
	m.delivery = new(Delivery)
	s, err := Share(m)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	part := s.Message(nil)
	if part.delivery != nil || part.used != nil || part.To != nil {
		t.Errorf("%+v", part)
	}
	was, is := reflect.ValueOf(m).Elem(), reflect.ValueOf(part).Elem()
	for i := range was.NumField() {
		f := was.Type().Field(i)
		if !f.IsExported() || f.Name == "To" || f.Name == "Body" {
			continue
		}
		if was.Field(i).IsZero() {
			t.Errorf("%s: give it a value in this test", f.Name)
		}
		if !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			t.Errorf("%s: %v, want %v", f.Name, is.Field(i), was.Field(i))
		}
	}
}

// TestShareNothing shares what has no Body.
func TestShareNothing(t *testing.T) {
	for _, m := range []*Message{nil, {}} {
		s, err := Share(m)
		if err != nil {
			t.Fatal(err)
		}
		if part := s.Message(nil); part.Body != nil {
			t.Errorf("%v", part.Body)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// unread is a ReaderAt of a size, which counts what is read.
type unread struct {
	io.ReadSeeker
	n atomic.Int64
}

func (u *unread) ReadAt(p []byte, _ int64) (int, error) {
	u.n.Add(int64(len(p)))
	return len(p), nil
}

// TestShareReadsNothing: content that has ReadAt is not read before its parts are, however long it is.
func TestShareReadsNothing(t *testing.T) {
	u := &unread{ReadSeeker: io.NewSectionReader(nil, 0, 1<<50)}
	s, err := Share(&Message{Body: u})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n := testing.AllocsPerRun(100, func() { s.Message(nil) }); n > 2 {
		t.Errorf("%v allocations for a part", n)
	}
	if n := u.n.Load(); n > 0 {
		t.Errorf("%d octets read", n)
	}
}

// TestShareUnknownSize: a file that cannot tell its size, such as many of /proc, is read to its end.
func TestShareUnknownSize(t *testing.T) {
	s, err := Share(&Message{Body: &failingAt{failing{read: strings.NewReader("hello\r\n").Read}}})
	if err != nil {
		t.Fatal(err)
	}
	readParts(t, s, "hello\r\n")
	s.Close()
}

// TestShareOpens: parts open what OpenBody returns as often as they read it, and know when it is spent.
func TestShareOpens(t *testing.T) {
	same := strings.NewReader("hello\r\n")
	m := &Message{Body: OpenBody(func() (io.ReadCloser, error) { return io.NopCloser(same), nil })}
	s, err := Share(m)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := io.ReadAll(s.Message(nil).Body); string(got) != "hello\r\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := io.ReadAll(s.Message(nil).Body); !errors.Is(err, errSpent) {
		t.Errorf("the second part: %v, want that it is spent", err)
	}
	if _, err := io.ReadAll(m.Body); !errors.Is(err, errSpent) {
		t.Errorf("the message: %v, want that it is spent", err)
	}
}

// TestShareWithoutBcc: what ReadMessage has made of a seeker is not read by two parts at once.
func TestShareWithoutBcc(t *testing.T) {
	const text = "From: a@b.example\r\nTo: c@d.example\r\nBcc: e@f.example\r\n\r\nhello\r\n"
	bodies := map[string]io.Reader{
		"seeker": strings.NewReader(text), "writer": new(writes).body(text, 5), "opened": opened(text),
	}
	for name, body := range bodies {
		m, err := ReadMessage(body)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Share(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, opened := s.open().(*source); opened != (name == "opened") {
			t.Errorf("%s: opened by each part: %v", name, opened)
		}
		readParts(t, s, strings.Replace(text, "Bcc: e@f.example\r\n", "", 1))
		s.Close()
	}
}

// failing is a seeker without ReadAt that fails as its functions say.
type failing struct {
	read  func([]byte) (int, error)
	seeks []error // of the calls of Seek, in their order; nil behind the last
}

func (f *failing) Read(p []byte) (int, error) { return f.read(p) }

func (f *failing) Seek(int64, int) (int64, error) {
	if len(f.seeks) == 0 {
		return 0, nil
	}
	err := f.seeks[0]
	f.seeks = f.seeks[1:]
	return 0, err
}

// failingAt has ReadAt too.
type failingAt struct{ failing }

func (f *failingAt) ReadAt(p []byte, _ int64) (int, error) { return f.read(p) }

// TestShareFails: a Body that fails leaves nothing behind.
func TestShareFails(t *testing.T) {
	broken := errors.New("broken")
	long := func() io.Reader { return io.LimitReader(zeros{}, 2*shareMemory) }
	fail := func([]byte) (int, error) { return 0, broken }
	explode := func([]byte) (int, error) { panic(broken) }
	var w writes
	for _, c := range []struct {
		name string
		body io.Reader
		used bool
	}{
		{"plain", io.MultiReader(long(), iotest.ErrReader(broken)), true},
		{"plain that panics", io.MultiReader(long(), &failing{read: explode}), true},
		{"seeker", &failing{read: fail}, false},
		{"seeker that panics", &failing{read: explode}, false},
		{"seeker that cannot be put back", &failing{read: fail, seeks: []error{nil, broken}}, true},
		{"reader of nothing", &failing{read: func([]byte) (int, error) { return 0, nil }}, false},
		{"section that cannot be put back", &failingAt{failing{read: fail, seeks: []error{nil, nil, broken}}}, false},
		{"nil", (*bytes.Reader)(nil), false},
		{"writer", WriterBody(WriterFunc(func(out io.Writer) error {
			w.begun++
			defer func() { w.ended++ }()
			io.Copy(out, long())
			return broken
		})), false},
		{"writer that panics", WriterBody(WriterFunc(func(out io.Writer) error {
			w.begun++
			defer func() { w.ended++ }()
			io.Copy(out, long())
			panic(broken)
		})), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			m := message("", "c@d.example")
			m.Body = c.body
			s, err := Share(m)
			if _, ok := asType[*MessageError](err); s != nil || !ok {
				t.Errorf("%v, want a MessageError", err)
			}
			if m.spent() != c.used {
				t.Errorf("used up: %v, want %v", m.spent(), c.used)
			}
			wantNothingKept(t)
		})
	}
	if w.begun != 2 || w.ended != 2 {
		t.Errorf("%+v: want each begun and ended once", w)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestShareWithoutRoom: where no file can be made it is no fault of the message, and it can be sent again.
func TestShareWithoutRoom(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	m := &Message{Body: seekerOnly{strings.NewReader(strings.Repeat("x", 2*shareMemory))}}
	_, err := Share(m)
	var coded interface{ Status() proto.Status }
	if !errors.As(err, &coded) || coded.Status() != (proto.Status{4, 3, 0}) || !Temporary(err) || !SafeToRetry(err) {
		t.Errorf("%v: want 4.3.0", err)
	}
	if _, ok := asType[*MessageError](err); ok || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if pos, _ := m.Body.(io.Seeker).Seek(0, io.SeekCurrent); pos != 0 || m.spent() {
		t.Errorf("it stands at %d, used up: %v", pos, m.spent())
	}
}

// TestShareAfterClose: a part whose content was in a file fails with a MessageError.
func TestShareAfterClose(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := Share(&Message{Body: io.LimitReader(zeros{}, 2*shareMemory)})
	if err != nil {
		t.Fatal(err)
	}
	part := s.Message(message("", "c@d.example").To)
	s.Close()
	c := dial(t, nil, hello("PIPELINING")+bye)
	if _, err := c.Send(t.Context(), part); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v, want that the file is closed", err)
	} else if _, ok := asType[*MessageError](err); !ok {
		t.Errorf("%v, want a MessageError", err)
	}
	c.Close()
}
