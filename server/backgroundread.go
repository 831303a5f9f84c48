package server

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A backgroundRead finds out that the client hangs up while a session works and nobody reads. It reads ahead, in the
// background, when a call of the session takes longer than readAheadDelay, or up to twice as long if calls follow each
// other without a pause. A quicker call costs it no timer: one timer looks from time to time whether the same call is
// still at work. The goroutine of the connection starts and stops it, and has the connection to itself again when stop
// returns. The server of net/http does the same.
type backgroundRead struct {
	c     *Conn
	calls uint32 // counts calls, in steps of nextCall

	state atomic.Uint32 // calls, with idle, working or reading
	armed atomic.Bool   // the timer is running, or about to
	seen  uint32        // the state when the timer was set
	timer *time.Timer   // runs look; nil if there was no need for it
	mu    sync.Mutex    // held while look or stop sets a deadline
	done  chan struct{} // read has returned

	// These belong to the goroutine that has the connection to itself.
	buf *[maxReadAhead]byte
	n   int   // buf[:n] was read ahead
	err error // why reading ahead ended, if the connection failed or the client has shut its direction down

	grace *time.Timer // ends the context of the connection; nil unless the client has shut its direction down
}

// The states, to which the number of calls is added.
const (
	idle     = iota
	working  // a call is at work
	reading  // and so is read, or it has returned and stop has not noticed
	nextCall = 4
)

func (b *backgroundRead) init(c *Conn) {
	b.c = c
}

// started reports whether start was called, and stop was not.
func (b *backgroundRead) started() bool { return b.state.Load()%nextCall != idle }

// rest gives up what start makes anew, unless that is in use.
func (b *backgroundRead) rest() {
	if b.started() {
		return
	}
	if b.timer != nil && b.timer.Stop() {
		b.armed.Store(false)
	}
	b.timer, b.done = nil, nil // if look is about to run, it does not need them unless another call begins
	if b.n == 0 {
		b.buf = nil
	}
}

// start begins to read ahead after a while, until stop is called.
func (b *backgroundRead) start() {
	if b.grace != nil {
		b.grace.Reset(halfCloseGrace) // for the reply to this command
	}
	if b.started() || b.err != nil || b.n == maxReadAhead || b.c.end.err != nil {
		return
	}
	b.calls += nextCall
	b.state.Store(b.calls + working)
	b.arm()
}

// arm sets the timer unless it is set.
func (b *backgroundRead) arm() {
	if b.armed.Load() || !b.armed.CompareAndSwap(false, true) {
		return
	}
	b.seen = b.state.Load()
	if b.timer == nil {
		b.done = make(chan struct{}, 1)
		b.timer = time.AfterFunc(readAheadDelay, b.look)
	} else {
		b.timer.Reset(readAheadDelay)
	}
}

// stop ends reading ahead. It may be called when that has not been started.
func (b *backgroundRead) stop() {
	if !b.started() {
		return
	}
	if b.state.CompareAndSwap(b.calls+working, b.calls+idle) {
		return
	}
	b.mu.Lock()
	_ = b.c.link.nc.SetReadDeadline(past)
	b.mu.Unlock()
	<-b.done
	b.state.Store(b.calls + idle)
}

// look reads ahead if the call that was at work when the timer was set still is. If another one is, it sets the timer
// again.
func (b *backgroundRead) look() {
	seen := b.seen
	b.armed.Store(false) // before the state is looked at: a call that begins behind this sets the timer itself
	switch state := b.state.Load(); {
	case state%nextCall != working:
	case state != seen:
		b.arm()
	default:
		b.mu.Lock()
		same := b.state.CompareAndSwap(state, state-working+reading)
		if same {
			_ = b.c.link.nc.SetReadDeadline(time.Time{})
		}
		b.mu.Unlock()
		if same {
			b.read()
		}
	}
}

// read reads ahead until it is stopped, the buffer is full, or the connection fails.
func (b *backgroundRead) read() {
	defer func() { b.done <- struct{}{} }()
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
			b.failed(err)
			return
		}
	}
}

// failed records why nothing more can be read. If the client may still be there, it waits for a reply.
func (b *backgroundRead) failed(err error) {
	b.err = err
	if err == io.EOF && b.c.link.halfCloses() {
		b.grace = time.AfterFunc(halfCloseGrace, func() { b.c.cancel(io.ErrUnexpectedEOF) })
		return
	}
	b.c.cancel(io.ErrUnexpectedEOF)
}

// end gives up what is left at the end of the connection.
func (b *backgroundRead) end() {
	b.stop()
	if b.grace != nil {
		b.grace.Stop()
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

// leftover returns, and forgets, what was read ahead. What comes behind it is for the new owner of the connection.
func (b *backgroundRead) leftover() []byte {
	b.err = nil
	if b.n == 0 {
		return nil
	}
	p := b.buf[:b.n]
	b.buf, b.n = nil, 0
	return p
}
