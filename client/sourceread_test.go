package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// TestSourceThatIsSpent: what gives nothing when it is begun again is no empty message.
func TestSourceThatIsSpent(t *testing.T) {
	for _, text := range []string{"hello\r\n", strings.Repeat("hello\r\n", blockSize)} {
		same := strings.NewReader(text)
		bodies := map[string]io.Reader{
			"writer": WriterBody(WriterFunc(func(w io.Writer) error {
				_, err := io.Copy(w, oddPieces{same})
				return err
			})),
			"opened": OpenBody(func() (io.ReadCloser, error) { return io.NopCloser(same), nil }),
		}
		for name, body := range bodies {
			same.Reset(text)
			script := hello("PIPELINING")
			if len(text) < blockSize {
				script += taken("c@d.example")
			}
			c := dial(t, nil, script+bye)
			m := message("", "c@d.example")
			m.Body = body
			_, err := c.Send(t.Context(), m)
			if err == nil && len(text) < blockSize {
				_, err = c.Send(t.Context(), m)
			}
			if _, ok := asType[*MessageError](err); !ok || !errors.Is(err, errSpent) {
				t.Errorf("%s of %d octets: %v, want a MessageError", name, len(text), err)
			}
			c.Close()
		}
	}
}

// TestSourceOfAReader: what can be read is not used up by its WriteTo.
func TestSourceOfAReader(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"strings.Reader": WriterBody(strings.NewReader("hello\r\n")),
		"bytes.Buffer":   WriterBody(bytes.NewBufferString("hello\r\n")),
	} {
		c := dial(t, nil, hello("PIPELINING")+taken("c@d.example")+taken("c@d.example")+bye)
		m := message("", "c@d.example")
		m.Body = body
		for range 2 {
			if _, err := c.Send(t.Context(), m); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestSourceAsReader reads sources as what they are too: ordinary readers.
func TestSourceAsReader(t *testing.T) {
	text := strings.Repeat("0123456\r\n", 1000)
	w, o := writes{several: true}, opens{several: true}
	for _, body := range []io.Reader{w.body(text, 7), o.body(text)} {
		if err := iotest.TestReader(body, []byte(text)); err != nil {
			t.Error(err)
		}
		if n, err := body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		closer := body.(io.Closer)
		for range 2 { // Close has nothing to close the second time
			closer.Close()
		}
		p := make([]byte, 12)
		if _, err := io.ReadFull(body, p); err != nil || string(p) != text[:12] {
			t.Errorf("%q, %v", p, err)
		}
		// A message takes it from the beginning, and leaves this reading alone.
		if got, _ := collect(t, body); got != text {
			t.Errorf("sent %q", abbreviate(got))
		}
		if _, err := io.ReadFull(body, p); err != nil || string(p) != text[12:24] {
			t.Errorf("%q, %v", p, err)
		}
		closer.Close()
		if w.begun != w.ended {
			t.Errorf("%+v", w)
		}
	}
	if o.opened != o.closed || o.opened < 2 {
		t.Errorf("%+v", o)
	}
}

// TestSourceAsReaderThatFails: what has failed is at its end neither then nor later. A WriteTo may ignore that Write
// has failed.
func TestSourceAsReaderThatFails(t *testing.T) {
	r := OpenBody(func() (io.ReadCloser, error) { return nil, io.EOF })
	if _, err := r.Read(make([]byte, 10)); err == nil || err == io.EOF {
		t.Errorf("open has failed: %v", err)
	}
	r = WriterBody(WriterFunc(func(w io.Writer) error {
		io.WriteString(w, "hello")
		panic("no more")
	}))
	for i := range 3 {
		func() {
			defer func() {
				if p := recover(); (p != nil) != (i == 0) {
					t.Errorf("panic: %v", p)
				}
			}()
			if n, err := r.Read(make([]byte, 10)); i > 0 && (n > 0 || err != io.ErrUnexpectedEOF) {
				t.Errorf("after a panic: %d, %v", n, err)
			}
		}()
	}
	failed := 0
	r = WriterBody(WriterFunc(func(w io.Writer) error {
		for range 100 {
			if _, err := io.WriteString(w, "hello"); err == io.ErrClosedPipe {
				failed++
			}
		}
		return nil
	}))
	if _, err := io.ReadFull(r, make([]byte, 250)); err != nil {
		t.Error(err)
	}
	if err := r.(io.Closer).Close(); err != nil || failed != 50 {
		t.Errorf("%v; Write failed %d times", err, failed)
	}
}

// TestSourceInsideAnother wraps a source: what is put in front of it goes in front of it.
func TestSourceInsideAnother(t *testing.T) {
	var w writes
	got, _ := collect(t, io.MultiReader(strings.NewReader("X-A: b\r\n"), w.body("C: d\r\n\r\nhello\r\n", 3)))
	if got != "X-A: b\r\nC: d\r\n\r\nhello\r\n" || w.begun != 1 || w.ended != 1 {
		t.Errorf("%q, %+v", got, w)
	}
}

// TestSourceWrittenByAnotherGoroutine has a WriteTo whose octets come from a goroutine of its own, in a bubble.
func TestSourceWrittenByAnotherGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("0123456\r\n", 20_000)
		body := WriterBody(WriterFunc(func(w io.Writer) error {
			done := make(chan error)
			go func() {
				_, err := io.Copy(w, oddPieces{strings.NewReader(text)})
				done <- err
			}()
			return <-done
		}))
		for range 2 {
			if got, _ := collect(t, body); got != text {
				t.Errorf("sent %q", abbreviate(got))
			}
		}
	})
}

// TestSourceGoexit: a WriteTo that ends its goroutine ends the sender's, and does not end the content.
func TestSourceGoexit(t *testing.T) {
	body := WriterBody(WriterFunc(func(w io.Writer) error {
		if _, err := io.WriteString(w, "hello\r\n"); err != nil {
			return err
		}
		runtime.Goexit()
		return nil
	}))
	c := dial(t, nil, hello("PIPELINING")+bye)
	m := message("", "c@d.example")
	m.Body = body
	done, returned := make(chan bool), false
	go func() {
		defer close(done)
		c.Send(t.Context(), m)
		returned = true
	}()
	if <-done; returned {
		t.Error("Send returned")
	}
	c.Close()
}

// TestSourceInMemory sends much more than there is memory for, as far as the test allows any.
func TestSourceInMemory(t *testing.T) {
	line := []byte(strings.Repeat("x", 1022) + "\r\n")
	body := WriterBody(WriterFunc(func(w io.Writer) error {
		for range 64 << 10 {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		return nil
	}))
	c, _ := sinkClient(t, 0)
	defer c.Close()
	m := message("", "c@d.example")
	m.Body = body
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := c.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("%d octets of memory were taken for a message of 64 MiB", got)
	}
}

// TestLeaveSource: once Wait has returned, what was begun has been ended, also if the goroutine that waits is locked to
// its thread, which the runtime does not let into the coroutine of another.
func TestLeaveSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		sendFirst(t, c)
		s.hold(true)
		queue, done := make(chan *Delivery), make(chan error, 1)
		go func() { done <- c.SendFrom(t.Context(), queue, nil) }()
		long := strings.Repeat("0123456789\r\n", blockSize) // which takes chunks whose replies are awaited
		ctx, cancel := context.WithCancel(t.Context())
		var w writes
		m := message("", "c@d.example")
		m.Body = w.body(long, 1000)
		d := NewDelivery(ctx, m)
		queue <- d
		synctest.Wait()
		if w.begun != w.ended+1 {
			t.Fatalf("%+v: want it under way", w)
		}
		cancel()
		left := make(chan error)
		go func() {
			runtime.LockOSThread()
			_, err := d.Wait()
			left <- err
		}()
		if err := <-left; !errors.Is(err, context.Canceled) || w.begun != w.ended {
			t.Errorf("%v, %+v", err, w)
		}
		s.hold(false)
		<-d.Done()
		close(queue)
		<-done
		if _, err := c.Send(t.Context(), m); err != nil || w.begun != w.ended || s.counts().messages != 2 {
			t.Errorf("%v, %+v, %d messages", err, w, s.counts().messages)
		}
		c.Close()
	})
}
