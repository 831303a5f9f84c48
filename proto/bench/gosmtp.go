package main

import (
	"bytes"
	"io"
	"log"

	gosmtp "github.com/emersion/go-smtp"
)

type goBackend struct{ counter *counter }

func (b goBackend) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return goSession(b), nil }

type goSession struct{ counter *counter }

func (goSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (goSession) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (goSession) Reset()                                 {}
func (goSession) Logout() error                          { return nil }
func (s goSession) Data(r io.Reader) error               { return s.counter.drop(r) }

func serveGo(c *counter) (started, error) {
	srv := gosmtp.NewServer(goBackend{c})
	srv.Domain = "bench.example"
	srv.ErrorLog = log.New(io.Discard, "", 0)
	return start(srv)
}

type goSender struct {
	client *gosmtp.Client
	to     []string
	text   []byte
	body   bytes.Reader
}

func dialGo(addr string, load workload) (sender, error) {
	c, err := gosmtp.Dial(addr)
	if err != nil {
		return nil, err
	}
	return &goSender{client: c, to: []string{rcptTo}, text: load.text()}, nil
}

func (s *goSender) Send(n int) error {
	for range n {
		s.body.Reset(s.text)
		if err := s.client.SendMail(mailFrom, s.to, &s.body); err != nil {
			return err
		}
	}
	return nil
}

func (s *goSender) Close() error { return s.client.Quit() }
