package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	gomail "github.com/wneessen/go-mail"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext"
)

// startPool gets a library ready to send for several callers. Everybody composes no more than he has to.
func (r *role) startPool() (worker, error) {
	start := map[string]func() (func(int) error, error){
		"Pool.Send":    r.poolSend,
		"Pool.SendAll": func() (func(int) error, error) { return r.poolSendAll(0) },
		"MaxMessages":  func() (func(int) error, error) { return r.poolSendAll(-1) },
		"go-smtp":      r.poolGo,
		"go-mail":      r.poolMail,
		"DialAndSend":  r.poolDialAndSend,

		"netsmtp.SendMail": r.kitSendMail,
		"smtp.SendMail":    r.netSendMail,
	}[r.By]
	if start == nil {
		return nil, fmt.Errorf("nobody sends by %q", r.By)
	}
	send, err := start()
	return clientWorker{send}, err
}

// callers has the role's number of goroutines call send, n times in all.
func (r *role) callers(send func() error) func(n int) error {
	return func(n int) error {
		var left atomic.Int64
		left.Store(int64(n))
		errs := make([]error, r.Callers)
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() {
				for errs[i] == nil && left.Add(-1) >= 0 {
					errs[i] = send()
				}
			})
		}
		group.Wait()
		return errors.Join(errs...)
	}
}

// inTurns makes a pool by hand, of as many clients as there are connections. A caller takes one, and gives it back.
func inTurns(r *role, open func() (sender, error)) (func(int) error, error) {
	free := make(chan sender, r.Conns)
	for range r.Conns {
		s, err := open()
		if err != nil {
			return nil, err
		}
		free <- s
	}
	return r.callers(func() error {
		s := <-free
		defer func() { free <- s }()
		return s.Send(1)
	}), nil
}

func (r *role) load() workload { return workload{size: r.Size, batch: 1} }

func (r *role) openPool(maxMessages int) (*pool.Pool, error) {
	return pool.New(r.Addr, &client.Options{TLS: ext.TLSInsecureNone},
		&pool.Options{MaxConnsPerHost: r.Conns, MaxMessages: maxMessages})
}

// poolSend is the pool of smtpkit with its defaults: a connection ends after 100 messages.
func (r *role) poolSend() (func(int) error, error) {
	p, err := r.openPool(0)
	if err != nil {
		return nil, err
	}
	text := r.load().text()
	return r.callers(func() error {
		m, err := client.NewMessage(mailFrom, r.recipients(), bytes.NewReader(text))
		if err == nil {
			_, err = p.Send(context.Background(), m)
		}
		return err
	}), nil
}

// poolSendAll is for one caller with all the messages.
func (r *role) poolSendAll(maxMessages int) (func(int) error, error) {
	p, err := r.openPool(maxMessages)
	if err != nil {
		return nil, err
	}
	text := r.load().text()
	return func(n int) error {
		var failed error
		err := p.SendAll(context.Background(), func(yield func(*client.Message) bool) {
			for range n {
				m, err := client.NewMessage(mailFrom, r.recipients(), bytes.NewReader(text))
				if err != nil {
					failed = err
					return
				}
				if !yield(m) {
					return
				}
			}
		}, func(_ *client.Message, _ *client.Result, err error) bool {
			failed = errors.Join(failed, err)
			return err == nil
		})
		return errors.Join(err, failed)
	}, nil
}

func (r *role) poolGo() (func(int) error, error) {
	return inTurns(r, func() (sender, error) { return dialGo(r.Addr, r.load()) })
}

// poolMail has go-mail at its fastest: without the NOOP before and the RSET after each message.
func (r *role) poolMail() (func(int) error, error) {
	return inTurns(r, func() (sender, error) {
		s, err := newMail(r.Addr, r.load(), gomail.WithoutNoop(), gomail.WithoutRset())
		if err == nil {
			err = s.client.DialWithContext(context.Background())
		}
		return s, err
	})
}

// A dialingSender makes a connection for each message.
type dialingSender struct{ *mailSender }

func (s dialingSender) Send(int) error { return s.client.DialAndSend(s.batch[0]) }

func (r *role) poolDialAndSend() (func(int) error, error) {
	return inTurns(r, func() (sender, error) {
		s, err := newMail(r.Addr, r.load())
		return dialingSender{s}, err
	})
}
