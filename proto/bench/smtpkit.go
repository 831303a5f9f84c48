package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// This file has all uses of package server and package client.

type kitSession struct{ counter *counter }

func (kitSession) Mail(context.Context, proto.Address, proto.Params) error { return nil }
func (kitSession) Rcpt(context.Context, proto.Address, proto.Params) error { return nil }
func (s kitSession) Data(_ context.Context, r io.Reader) error             { return s.counter.drop(r) }

func kitBackend(c *counter) server.Backend {
	return server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) { return kitSession{c}, nil })
}

func serveKit(c *counter) (started, error) {
	srv, err := server.New(kitBackend(c), &server.Options{Hostname: "bench.example"})
	if err != nil {
		return started{}, err
	}
	return start(srv)
}

type kitSender struct {
	client *client.Client
	batch  []*client.Message
	bodies []*bytes.Reader
	text   []byte
}

func dialKit(addr string, load workload) (sender, error) {
	c, err := client.Dial(context.Background(), addr, &client.Options{TLS: ext.TLSInsecureNone})
	if err != nil {
		return nil, err
	}
	s := &kitSender{client: c, text: load.text()}
	for range load.batch {
		body := new(bytes.Reader)
		m, err := client.NewMessage(mailFrom, []string{rcptTo}, body)
		if err != nil {
			return nil, err
		}
		s.batch, s.bodies = append(s.batch, m), append(s.bodies, body)
	}
	return s, nil
}

func (s *kitSender) Send(n int) error {
	for n > 0 {
		k := min(n, len(s.batch))
		n -= k
		for _, b := range s.bodies[:k] {
			b.Reset(s.text)
		}
		if len(s.batch) == 1 {
			if _, err := s.client.Send(context.Background(), s.batch[0]); err != nil {
				return err
			}
			continue
		}
		var failed error
		err := s.client.SendAll(context.Background(), slices.Values(s.batch[:k]),
			func(_ *client.Message, _ *client.Result, err error) bool {
				failed = err
				return err == nil
			})
		if err != nil || failed != nil {
			return errors.Join(err, failed)
		}
	}
	return nil
}

func (s *kitSender) Close() error { return s.client.Close() }
