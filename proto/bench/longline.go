package main

import (
	"net"
	"sync"
	"time"
)

// A longLine is a connection on which everything written arrives later. How much is on its way is not limited.
type longLine struct {
	net.Conn
	delay time.Duration
	queue chan parcel
	done  chan struct{}

	mu     sync.Mutex
	closed bool
}

// A parcel is what one Write wrote.
type parcel struct {
	due    time.Time
	octets []byte
}

func newLongLine(conn net.Conn, delay time.Duration) *longLine {
	l := &longLine{Conn: conn, delay: delay, queue: make(chan parcel, 1<<16), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for p := range l.queue {
			time.Sleep(time.Until(p.due))
			if _, err := conn.Write(p.octets); err != nil {
				conn.Close()
				for range l.queue {
				}
				return
			}
		}
	}()
	return l
}

func (l *longLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, net.ErrClosed
	}
	l.queue <- parcel{time.Now().Add(l.delay), append([]byte(nil), p...)}
	return len(p), nil
}

// Close closes the connection once everything has arrived.
func (l *longLine) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	<-l.done
	return l.Conn.Close()
}
