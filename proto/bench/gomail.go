package main

import (
	"context"
	"errors"
	"net"
	"strconv"

	gomail "github.com/wneessen/go-mail"
)

type mailSender struct {
	client *gomail.Client
	batch  []*gomail.Msg
}

func dialMail(addr string, load workload) (sender, error) {
	s, err := newMail(addr, load)
	if err != nil {
		return nil, err
	}
	return s, s.client.DialWithContext(context.Background())
}

// newMail returns a client that is not connected.
func newMail(addr string, load workload, opt ...gomail.Option) (*mailSender, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	c, err := gomail.NewClient(host, append(opt, gomail.WithPort(n), gomail.WithTLSPolicy(gomail.NoTLS))...)
	if err != nil {
		return nil, err
	}
	s := &mailSender{client: c}
	text := string(load.text())
	for range load.batch {
		m := gomail.NewMsg(gomail.WithEncoding(gomail.NoEncoding))
		if err := errors.Join(m.From(mailFrom), m.To(rcptTo)); err != nil {
			return nil, err
		}
		m.Subject("bench")
		m.SetBodyString(gomail.TypeTextPlain, text)
		s.batch = append(s.batch, m)
	}
	return s, nil
}

func (s *mailSender) Send(n int) error {
	for n > 0 {
		k := min(n, len(s.batch))
		n -= k
		if err := s.client.Send(s.batch[:k]...); err != nil {
			return err
		}
	}
	return nil
}

func (s *mailSender) Close() error { return s.client.Close() }
