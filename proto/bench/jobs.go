package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
)

const (
	mailFrom = "a@b.example"
	rcptTo   = "c@d.example"
)

// A job is one library with what it sends to or receives from, connected and ready.
type job interface {
	// Run has n messages transferred. It fails if something else than that has arrived.
	Run(n int) error
	Close() error
}

// A workload is what a library is given to do.
type workload struct {
	size  int // octets of content, about
	conns int // connections, for servers
	batch int // messages in a call, for clients
}

var (
	serveLoads = []workload{{1 << 10, 1, 1}, {1 << 10, 8, 1}, {1 << 20, 1, 1}, {1 << 20, 8, 1}}
	sendLoads  = []workload{{1 << 10, 1, 1}, {1 << 10, 1, 100}, {1 << 20, 1, 1}, {1 << 20, 1, 10}}
)

// text returns the content in canonical form: lines of 76 columns.
func (w workload) text() []byte { return bytes.Repeat([]byte(line), 1+w.size/len(line)) }

func (w workload) sizeName() string {
	if w.size >= 1<<20 {
		return fmt.Sprintf("%dMiB", w.size>>20)
	}
	return fmt.Sprintf("%dKiB", w.size>>10)
}

// A serverLibrary is a library whose server is measured. The others of a list are compared with the first.
type serverLibrary struct {
	name  string
	serve func(*counter) (started, error)
}

// A clientLibrary is a library whose client is measured.
type clientLibrary struct {
	name string
	dial func(addr string, load workload) (sender, error)
}

var (
	serverLibraries = []serverLibrary{{"smtpkit", serveKit}, {"go-smtp", serveGo}}
	clientLibraries = []clientLibrary{
		{"smtpkit", dialKit}, {"go-smtp", dialGo}, {"net/smtp", dialNet}, {"go-mail", dialMail},
	}
)

// start serves on the loopback interface.
func start(srv interface {
	Serve(net.Listener) error
	Close() error
}) (started, error) {
	l, err := listen()
	if err != nil {
		return started{}, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	return started{l.Addr().String(), func() error {
		err := srv.Close()
		<-done
		return err
	}}, nil
}

// drop reads content to its end and counts it.
func (c *counter) drop(r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	c.octets.Add(n)
	c.messages.Add(1)
	return err
}

func openSend(by clientLibrary, load workload, opt sinkOptions) (*sendJob, error) {
	s, err := startSink(opt)
	if err != nil {
		return nil, err
	}
	sender, err := by.dial(s.Addr(), load)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &sendJob{s, sender, load.text()}, nil
}
