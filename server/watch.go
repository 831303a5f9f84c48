package server

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// A watch finds out that the client hangs up while the session is at work and nobody reads. It reads ahead, in the
// background, when that takes longer than watchDelay; a session that is quicker costs it a timer that is set and
// stopped. It is armed and disarmed by the goroutine of the connection, which has the connection to itself again
// when disarm returns.
type watch struct {
	c     *Conn
	timer *time.Timer
	armed bool

	mu   sync.Mutex
	stop bool // nothing is to be read any more
	done chan struct{}

	// These belong to whoever has the connection to itself.
	buf []byte
	n   int   // buf[:n] was read ahead
	err error // how reading ahead came to its end
}

func (w *watch) init(c *Conn) {
	w.c = c
	w.done = make(chan struct{}, 1)
}

func (w *watch) arm() {
	if w.armed || w.err != nil || w.n == watchBuffer || w.c.err != nil {
		return
	}
	w.armed, w.stop = true, false
	if w.timer == nil {
		w.timer = time.AfterFunc(watchDelay, w.read)
	} else {
		w.timer.Reset(watchDelay)
	}
}

func (w *watch) disarm() {
	if !w.armed {
		return
	}
	w.armed = false
	if w.timer.Stop() {
		return
	}
	w.mu.Lock()
	w.stop = true
	_ = w.c.nc.SetReadDeadline(past)
	w.mu.Unlock()
	<-w.done
}

// read reads ahead until it is stopped, the buffer is full, or the connection fails.
func (w *watch) read() {
	defer func() { w.done <- struct{}{} }()
	w.mu.Lock()
	if w.stop {
		w.mu.Unlock()
		return
	}
	_ = w.c.nc.SetReadDeadline(time.Time{})
	w.mu.Unlock()
	if w.buf == nil {
		w.buf = make([]byte, watchBuffer)
	}
	for w.n < len(w.buf) {
		n, err := w.c.nc.Read(w.buf[w.n:])
		w.n += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			w.err = err
			w.c.cancel(io.ErrUnexpectedEOF)
			return
		}
	}
}

// take moves what was read ahead to p, and returns how reading ahead came to its end when there is no more of it.
func (w *watch) take(p []byte) (int, error) {
	if w.n == 0 {
		return 0, w.err
	}
	n := copy(p, w.buf[:w.n])
	w.n = copy(w.buf, w.buf[n:w.n])
	return n, nil
}

// leftover returns, and forgets, what was read ahead.
func (w *watch) leftover() []byte {
	p := w.buf[:w.n]
	w.buf, w.n = nil, 0
	return p
}
