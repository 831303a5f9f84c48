package server

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// A backgroundRead finds out that the client hangs up while a session works and nobody reads. It reads ahead, in the
// background, when the session takes longer than readAheadDelay; a quicker one costs it a timer that is set and
// stopped. The goroutine of the connection starts and stops it, and has the connection to itself again when stop
// returns. The server of net/http does the same.
type backgroundRead struct {
	c       *Conn
	timer   *time.Timer // runs read
	started bool

	mu       sync.Mutex
	stopping bool          // guarded by mu: nothing is to be read any more
	done     chan struct{} // read has returned

	// These belong to the goroutine that has the connection to itself.
	buf *[maxReadAhead]byte
	n   int   // buf[:n] was read ahead
	err error // why reading ahead ended, if the connection failed
}

func (b *backgroundRead) init(c *Conn) {
	b.c = c
}

// rest gives up what start makes anew, unless that is in use.
func (b *backgroundRead) rest() {
	if b.started {
		return
	}
	b.timer, b.done = nil, nil
	if b.n == 0 {
		b.buf = nil
	}
}

// start begins to read ahead after a while, until stop is called.
func (b *backgroundRead) start() {
	if b.started || b.err != nil || b.n == maxReadAhead || b.c.end.err != nil {
		return
	}
	b.started, b.stopping = true, false
	if b.timer == nil {
		b.done = make(chan struct{}, 1)
		b.timer = time.AfterFunc(readAheadDelay, b.read)
	} else {
		b.timer.Reset(readAheadDelay)
	}
}

// stop ends reading ahead. It may be called when that has not been started.
func (b *backgroundRead) stop() {
	if !b.started {
		return
	}
	b.started = false
	if b.timer.Stop() {
		return
	}
	b.mu.Lock()
	b.stopping = true
	_ = b.c.link.nc.SetReadDeadline(past)
	b.mu.Unlock()
	<-b.done
}

// read reads ahead until it is stopped, the buffer is full, or the connection fails.
func (b *backgroundRead) read() {
	defer func() { b.done <- struct{}{} }()
	b.mu.Lock()
	if b.stopping {
		b.mu.Unlock()
		return
	}
	_ = b.c.link.nc.SetReadDeadline(time.Time{})
	b.mu.Unlock()
	if b.buf == nil {
		b.buf = new([maxReadAhead]byte)
	}
	for b.n < len(b.buf) {
		n, err := b.c.link.nc.Read(b.buf[b.n:])
		b.n += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			b.err = err
			b.c.cancel(io.ErrUnexpectedEOF)
			return
		}
	}
}

// readAhead moves what was read ahead to p. When there is no more of it, it returns why reading ahead ended.
func (b *backgroundRead) readAhead(p []byte) (int, error) {
	if b.n == 0 {
		return 0, b.err
	}
	n := copy(p, b.buf[:b.n])
	b.n = copy(b.buf[:], b.buf[n:b.n])
	return n, nil
}

// leftover returns, and forgets, what was read ahead.
func (b *backgroundRead) leftover() []byte {
	if b.n == 0 {
		return nil
	}
	p := b.buf[:b.n]
	b.buf, b.n = nil, 0
	return p
}
