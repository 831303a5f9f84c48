package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"smtpkit.example/smtp/proto"
)

// A peer is the client that sends to every server. It is made of prepared octets, so that the time is the server's.
type peer struct {
	conn net.Conn
	r    *bufio.Reader
}

// peerGroup begins a message. It is a group in the sense of RFC 2920: DATA comes last.
var peerGroup = []byte("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")

func dialPeer(addr string) (*peer, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &peer{conn, bufio.NewReader(conn)}
	if err := errors.Join(p.say(nil, 1), p.say([]byte("EHLO peer.example\r\n"), 1)); err != nil {
		conn.Close()
		return nil, err
	}
	return p, nil
}

// say writes octets and reads a number of replies, which have to be positive.
func (p *peer) say(octets []byte, replies int) error {
	if len(octets) > 0 {
		if _, err := p.conn.Write(octets); err != nil {
			return err
		}
	}
	for replies > 0 {
		line, err := p.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || line[0] > '3' {
			return fmt.Errorf("the server said %q", line)
		}
		if line[3] != '-' {
			replies--
		}
	}
	return nil
}

func (p *peer) message(content []byte) error {
	if err := p.say(peerGroup, 3); err != nil {
		return err
	}
	return p.say(content, 1)
}

// A counter counts what a server's backend has received, which is dropped.
type counter struct{ messages, octets atomic.Int64 }

// A started server is one that listens on the loopback interface.
type started struct {
	addr  string
	close func() error
}

// A serveJob is a server of a library with a number of peers.
type serveJob struct {
	server  started
	counter *counter
	peers   []*peer
	text    []byte
	content []byte // text as on the wire after 354
}

func openServe(by serverLibrary, load workload) (*serveJob, error) {
	j := &serveJob{counter: new(counter), text: load.text()}
	e := proto.Encoder{Dots: true}
	j.content = e.Close(e.Append(nil, j.text))
	var err error
	if j.server, err = by.serve(j.counter); err != nil {
		return nil, err
	}
	for range load.conns {
		p, err := dialPeer(j.server.addr)
		if err != nil {
			return nil, errors.Join(err, j.Close())
		}
		j.peers = append(j.peers, p)
	}
	return j, nil
}

// Run has the peers send n messages between them, and compares with what the backend has received.
func (j *serveJob) Run(n int) error {
	messages, octets := j.counter.messages.Load(), j.counter.octets.Load()
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, len(j.peers))
	var group sync.WaitGroup
	for i, p := range j.peers {
		group.Go(func() {
			for errs[i] == nil && left.Add(-1) >= 0 {
				errs[i] = p.message(j.content)
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	messages, octets = j.counter.messages.Load()-messages, j.counter.octets.Load()-octets
	if want := int64(n) * int64(len(j.text)); messages != int64(n) || octets != want {
		return fmt.Errorf("%d messages of %d octets arrived; %d of %d were sent", messages, octets, n, want)
	}
	return nil
}

func (j *serveJob) Close() error {
	for _, p := range j.peers {
		p.conn.Close()
	}
	return j.server.close()
}

// line is what messages are made of.
var line = strings.Repeat("a", 76) + "\r\n"
