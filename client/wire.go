package client

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// inputSize is how much is read from a connection at once.
const inputSize = 4 << 10

// A wire moves the bytes of a connection. One goroutine reads for as long as the wire is in use. Each write has a
// goroutine of its own. So the goroutine that uses the client can deal with replies during a write, and a server that
// does not read on before its replies are taken cannot block both sides (RFC 2920 section 3.1).
//
// Timers and contexts bound each wait, and not deadlines, which some connections do not have. To end a wait, the
// connection is closed.
type wire struct {
	conn net.Conn

	// The reader.

	in      chan input    // what was read; closed when the reader has ended
	more    chan struct{} // tells the reader that input is done with, and to go on; closed to end it
	readErr error         // what ended the reader

	// The writer.

	flight   []byte     // what is being written
	send     func()     // writes flight; made once, so that a write allocates nothing
	wrote    chan error // the end of a write
	writing  bool       // a write has begun, and its end has not been received from wrote
	writeErr error      // that of the last write
}

// An input is what one Read returned. The octets are valid until the reader is told to go on.
type input struct {
	p   []byte
	err error
}

// start begins to read from conn.
func (w *wire) start(conn net.Conn) {
	*w = wire{
		conn: conn,
		in:   make(chan input, 1), more: make(chan struct{}, 1),
		wrote: make(chan error, 1),
	}
	wrote := w.wrote
	w.send = func() {
		_, err := conn.Write(w.flight)
		wrote <- err
	}
	go read(conn, w.in, w.more)
}

func read(conn net.Conn, in chan<- input, more <-chan struct{}) {
	defer close(in)
	buf := make([]byte, inputSize)
	for {
		n, err := conn.Read(buf)
		in <- input{buf[:n], err}
		if err != nil {
			return
		}
		if _, ok := <-more; !ok {
			return
		}
	}
}

// write begins to write p, which must not be changed before the end of the write has been received from wrote.
func (w *wire) write(p []byte) {
	w.writing, w.flight = true, p
	go w.send()
}

// written records the end of the write in hand, and reports whether it has succeeded.
func (w *wire) written(err error) bool {
	w.writing, w.writeErr = false, err
	return err == nil
}

// stopReading ends the reader while the connection stays open, and gives what it has read to feed.
func (w *wire) stopReading(feed func([]byte)) error {
	if err := w.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return fmt.Errorf("smtp: the connection cannot be handed over because it has no deadlines: %w", err)
	}
	for in := range w.in {
		feed(in.p)
		switch {
		case in.err == nil:
			w.more <- struct{}{}
		case !errors.Is(in.err, os.ErrDeadlineExceeded):
			w.readErr = in.err
		}
	}
	if w.readErr != nil {
		return w.readErr
	}
	return w.conn.SetReadDeadline(time.Time{})
}

// finish waits for the goroutines to end, once the connection is closed, and returns the error of the last write.
func (w *wire) finish() error {
	if w.in == nil {
		return w.writeErr
	}
	close(w.more)
	for range w.in {
	}
	if w.writing {
		w.writeErr = <-w.wrote
		w.writing = false
	}
	w.in = nil
	return w.writeErr
}
