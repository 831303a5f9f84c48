package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// A load sends prepared octets to a server, over a number of connections. It reads no more of a reply than the end of
// its lines and the first digit.
type load struct {
	role
	message *prepared
	conns   []*loadConn
}

type loadConn struct {
	net.Conn
	buf []byte
}

func (r *role) startLoad() (worker, error) {
	raiseFiles()
	l := &load{role: *r, message: r.message()}
	if r.Kind == "new" {
		return l, nil
	}
	for range r.Conns {
		c, err := l.dial()
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

func (l *load) addr() string                  { return "" }
func (l *load) got() (messages, octets int64) { return 0, 0 }

// dial connects and says EHLO.
func (l *load) dial() (*loadConn, error) {
	conn, err := net.Dial("tcp", l.Addr)
	if err != nil {
		return nil, err
	}
	if l.TLS {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	size := 64 << 10
	if l.Kind == "idle" {
		size = 1 << 10
	}
	c := &loadConn{conn, make([]byte, size)}
	err = c.answer(1)
	if err == nil {
		err = c.ehlo()
	}
	if err != nil {
		conn.Close()
	}
	return c, err
}

// ehlo says EHLO and reads the reply to its last line.
func (c *loadConn) ehlo() error {
	if _, err := c.Write([]byte("EHLO load.example\r\n")); err != nil {
		return err
	}
	for got := 0; ; {
		n, err := c.Read(c.buf[got:])
		if err != nil {
			return err
		}
		got += n
		last := bytes.LastIndexByte(c.buf[:max(0, got-1)], '\n') + 1
		if got-last > 3 && c.buf[got-1] == '\n' && c.buf[last+3] == ' ' {
			return nil
		}
	}
}

// answer reads a number of lines, which have to be positive.
func (c *loadConn) answer(lines int) error {
	for begin := true; lines > 0; {
		n, err := c.Read(c.buf)
		if err != nil {
			return err
		}
		p := c.buf[:n]
		if begin && p[0] > '3' {
			return fmt.Errorf("the server said %q", p)
		}
		lines -= bytes.Count(p, []byte{'\n'})
		begin = p[n-1] == '\n'
	}
	return nil
}

func (l *load) send(c *loadConn) error {
	for i, part := range l.message.parts {
		if _, err := c.Write(part); err != nil {
			return err
		}
		if err := c.answer(l.message.lines[i]); err != nil {
			return err
		}
	}
	return nil
}

// pipeline sends messages for as long as some are left. The group that begins the next message follows the content in
// one write.
func (l *load) pipeline(c *loadConn, left *atomic.Int64) error {
	m := l.message
	if left.Add(-1) < 0 {
		return nil
	}
	if _, err := c.Write(m.parts[0]); err != nil {
		return err
	}
	lines := m.lines[0]
	for more := true; more; {
		if err := c.answer(lines); err != nil {
			return err
		}
		octets := m.parts[1]
		lines = m.lines[1]
		if more = left.Add(-1) >= 0; more {
			octets, lines = m.next, lines+m.lines[0]
		}
		if _, err := c.Write(octets); err != nil {
			return err
		}
	}
	return c.answer(lines)
}

// run sends n messages over the connections.
func (l *load) run(n int) error {
	if l.Kind == "new" {
		for range n {
			if err := l.sendNew(); err != nil {
				return err
			}
		}
		return nil
	}
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, len(l.conns))
	var group sync.WaitGroup
	for i, c := range l.conns {
		group.Go(func() {
			if l.Kind == "data" {
				errs[i] = l.pipeline(c, &left)
				return
			}
			for errs[i] == nil && left.Add(-1) >= 0 {
				errs[i] = l.send(c)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// sendNew sends a message over a connection of its own.
func (l *load) sendNew() error {
	c, err := l.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := l.send(c); err != nil {
		return err
	}
	if _, err := c.Write([]byte("QUIT\r\n")); err != nil {
		return err
	}
	return c.answer(1)
}
