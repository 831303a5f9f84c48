package client

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"iter"
	"sync/atomic"
)

// WriterBody returns a Body for content that something writes: a message of github.com/wneessen/go-mail, or a
// [WriterFunc] around a template or a MIME writer. The content is never held in memory as a whole.
//
// Each attempt to send the message calls w.WriteTo anew, so the message can be sent again. Content of more than 64 KiB
// is begun three times for an attempt, to learn its size and whether it has octets above 127 before it is sent. If
// Message.Size is set, and the server takes octets above 127, no more than about 320 KiB are written for that. Two
// calls of WriteTo are never under way at once for a message.
//
// WriteTo has to write the whole content each time. Details may differ, such as the boundaries of MIME parts. An Entity
// of github.com/emersion/go-message uses up the reader that it was made of: build such a message in a WriterFunc.
//
// If not all of the content is wanted, Write returns [io.ErrClosedPipe]. WriteTo has to return then. An error of
// WriteTo ends the attempt with a [MessageError], and the server does not get half a message. A panic in WriteTo
// reaches the caller of Send. WriteTo and the sender take turns, on the goroutine that sends: nothing is left behind.
//
// The value can be put into other readers, as an [io.Reader] that writes once. It is an [io.Closer] too: whoever reads
// it, and stops before its end, calls Close. A sent Message does that by itself, and what it sends begins at the
// beginning, however much was read before.
//
// A w that is an io.Reader too is returned as it is, since its WriteTo would use it up; what holds for such a Body is
// said at Message.Body. A *bytes.Buffer can be sent again, as with [NewMessage].
func WriterBody(w io.WriterTo) io.Reader {
	switch w := w.(type) {
	case *bytes.Buffer:
		if w != nil {
			return &bufferReader{buffer: w}
		}
	case io.Reader:
		return w
	}
	return &source{open: func() (io.ReadCloser, error) {
		if w == nil {
			return nil, errors.New("WriterBody was given nil")
		}
		return pull(w), nil
	}}
}

// A WriterFunc is a function that writes content, as an io.WriterTo for [WriterBody].
type WriterFunc func(w io.Writer) error

// WriteTo calls f, and returns how many octets it has written.
func (f WriterFunc) WriteTo(w io.Writer) (int64, error) {
	c := countingWriter{w: w}
	err := f(&c)
	return c.n, err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// OpenBody returns a Body for content that can be opened again, such as a file or an object in a store. Nothing is open
// until the message is sent.
//
// Each attempt to send the message calls open anew, so the message can be sent again. Open has to return a reader at
// the beginning of the content each time. Content of more than 64 KiB is opened three times for an attempt, as that of
// [WriterBody] is begun. What open returns is closed once, before open is called again, and before Send returns: at
// its end, after an error, or when no more of it is wanted. Only if the message is sent in parts at the same time, as
// [Share] says, several goroutines call open at once. An error of open or Read, or one of Close at the end of the
// content, ends the attempt with a [MessageError].
//
// The value can be put into other readers, and closed, as that of WriterBody.
func OpenBody(open func() (io.ReadCloser, error)) io.Reader {
	return &source{several: true, open: func() (io.ReadCloser, error) {
		if open == nil {
			return nil, errors.New("OpenBody was given nil")
		}
		r, err := open()
		if r == nil && err == nil {
			err = errors.New("the function given to OpenBody returned neither a reader nor an error")
		}
		return r, err
	}}
}

// A source is a Body that can be begun any number of times.
type source struct {
	open    func() (io.ReadCloser, error)
	several bool        // several readings may be under way at once
	first   *source     // of which it is a copy; nil if it is none
	filled  atomic.Bool // some reading has had octets
	reading *reading    // that of Read; nil if there is none
}

// root returns the source of which s is a copy, or s.
func (s *source) root() *source { return cmp.Or(s.first, s) }

// begin returns a reading from the beginning.
func (s *source) begin() (*reading, error) {
	r, err := s.open()
	if err != nil {
		return nil, notEOF(err)
	}
	return &reading{r: r, source: s.root()}, nil
}

// Read reads the content once, for those who take the source for an ordinary reader.
func (s *source) Read(p []byte) (int, error) {
	if s.reading == nil {
		r, err := s.begin()
		if err != nil {
			return 0, err
		}
		s.reading = r
	}
	return s.reading.Read(p)
}

// Close ends what Read has begun. Read begins anew then.
func (s *source) Close() error {
	r := s.reading
	s.reading = nil
	if r == nil {
		return nil
	}
	return r.Close()
}

// A reading reads a source from its beginning to its end.
type reading struct {
	r      io.ReadCloser
	source *source // the first one, which knows whether any reading has had octets
	some   bool    // it has had octets
	closed bool    // r has been closed
	err    error   // why there is no more
}

// Read closes what it reads from when that ends. There may be no other chance to learn that it was not all.
func (r *reading) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	if n > 0 && !r.some {
		r.some = true
		r.source.filled.Store(true)
	}
	if err == nil {
		return n, nil
	}
	r.err = err
	failed := r.Close()
	switch {
	case err != io.EOF:
	case failed != nil:
		r.err = notEOF(failed)
	case !r.some && r.source.filled.Load():
		r.err = errSpent
	}
	return n, r.err
}

var errSpent = errors.New("it was empty when it was read again: each call has to give the whole content anew")

// Close ends the reading.
func (r *reading) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.err == nil {
		r.err = io.ErrClosedPipe
	}
	return r.r.Close()
}

// notEOF returns err, or another error in place of io.EOF: only a Read that says so ends the content.
func notEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A puller reads what a WriteTo writes. The two take turns on the goroutine that reads.
type puller struct {
	room []byte // where Write puts octets: what the reader has given, and is still empty
	next func() (struct{}, bool)
	stop func()
	err  error // what Read returns once WriteTo has ended
}

// pull returns a reader of what w writes. Until it is closed, or read to its end, WriteTo is under way.
func pull(w io.WriterTo) *puller {
	p := &puller{err: io.ErrUnexpectedEOF} // unless WriteTo returns
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		_, err := w.WriteTo(&pushWriter{p: p, yield: yield})
		if p.err = notEOF(err); err == nil {
			p.err = io.EOF
		}
	})
	return p
}

func (p *puller) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	p.room = b
	_, more := p.next()
	n := len(b) - len(p.room)
	p.room = nil
	if more {
		return n, nil
	}
	return n, p.err
}

// Close has the Write under way return an error, and waits until WriteTo has returned.
func (p *puller) Close() error {
	p.stop()
	return nil
}

// A pushWriter is what WriteTo writes to.
type pushWriter struct {
	p     *puller
	yield func(struct{}) bool
}

// Write fills the room that the reader has given. It gives the reader its turn when there is no room for more.
func (w *pushWriter) Write(b []byte) (int, error) {
	n := 0
	for {
		k := copy(w.p.room, b[n:])
		w.p.room = w.p.room[k:]
		if n += k; n == len(b) {
			return n, nil
		}
		if !w.yield(struct{}{}) {
			return n, io.ErrClosedPipe
		}
	}
}
