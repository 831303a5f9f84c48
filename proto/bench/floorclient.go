package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	netsmtp "net/smtp"
	"strconv"

	gosmtp "github.com/emersion/go-smtp"
	gomail "github.com/wneessen/go-mail"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

// A clientWorker is a client under test.
type clientWorker struct{ send func(n int) error }

func (w clientWorker) run(n int) error               { return w.send(n) }
func (w clientWorker) got() (messages, octets int64) { return 0, 0 }
func (w clientWorker) addr() string                  { return "" }

// A sinkWorker is the server that clients send to.
type sinkWorker struct{ *sink }

func (w sinkWorker) run(int) error                 { return errors.New("a sink does not run by itself") }
func (w sinkWorker) got() (messages, octets int64) { return w.messages.Load(), w.octets.Load() }
func (w sinkWorker) addr() string                  { return w.Addr() }

// startClient connects the client of a library.
func (r *role) startClient() (worker, error) {
	start := map[string]func() (func(int) error, error){
		"raw": r.sendRaw, "smtpkit": r.sendKit, "go-smtp": r.sendGo, "net/smtp": r.sendNet, "go-mail": r.sendMail,
	}[r.By]
	if start == nil {
		return nil, fmt.Errorf("no client %q", r.By)
	}
	send, err := start()
	return clientWorker{send}, err
}

// sendRaw is the floor: a client that parses nothing. It writes prepared octets, 64 KiB at a time, as many messages as
// that holds if it is to send a batch, and counts the lines of the replies.
func (r *role) sendRaw() (func(int) error, error) {
	l := &load{role: *r}
	l.Kind = "bdat"
	c, err := l.dial()
	if err != nil {
		return nil, err
	}
	m := l.role.message()
	const block = 64 << 10
	most := 1
	if r.Batch > 0 {
		most = max(1, min(r.Batch, block/len(m.parts[0])))
	}
	octets := bytes.Repeat(m.parts[0], most)
	return func(n int) error {
		for n > 0 {
			k := min(n, most)
			n -= k
			for left := octets[:k*len(m.parts[0])]; len(left) > 0; {
				some := left[:min(len(left), block)]
				left = left[len(some):]
				if _, err := c.Write(some); err != nil {
					return err
				}
			}
			if err := c.answer(k * m.lines[0]); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// sendKit uses Send, or SendAll for a batch.
func (r *role) sendKit() (func(int) error, error) {
	c, err := client.Dial(context.Background(), r.Addr, &client.Options{TLS: ext.TLSInsecureNone})
	if err != nil {
		return nil, err
	}
	text := workload{size: r.Size}.text()
	var all []*client.Message
	for range max(1, r.Batch) {
		m, err := client.NewMessage(mailFrom, r.recipients(), bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	if r.Batch == 0 {
		return func(n int) error {
			for range n {
				if _, err := c.Send(context.Background(), all[0]); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	return func(n int) error {
		for n > 0 {
			k := min(n, r.Batch)
			n -= k
			var some iter.Seq[*client.Message] = func(yield func(*client.Message) bool) {
				for _, m := range all[:k] {
					if !yield(m) {
						return
					}
				}
			}
			var failed error
			err := c.SendAll(context.Background(), some, func(_ *client.Message, _ *client.Result, err error) bool {
				failed = err
				return err == nil
			})
			if err := errors.Join(err, failed); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (r *role) sendGo() (func(int) error, error) {
	c, err := gosmtp.Dial(r.Addr)
	if err != nil {
		return nil, err
	}
	text, to := workload{size: r.Size}.text(), r.recipients()
	var body bytes.Reader
	return func(n int) error {
		for range n {
			body.Reset(text)
			if err := c.SendMail(mailFrom, to, &body); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (r *role) sendNet() (func(int) error, error) {
	c, err := netsmtp.Dial(r.Addr)
	if err != nil {
		return nil, err
	}
	text, to := workload{size: r.Size}.text(), r.recipients()
	one := func() error {
		if err := c.Mail(mailFrom); err != nil {
			return err
		}
		for _, t := range to {
			if err := c.Rcpt(t); err != nil {
				return err
			}
		}
		w, err := c.Data()
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		return w.Close()
	}
	return func(n int) error {
		for range n {
			if err := one(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (r *role) sendMail() (func(int) error, error) {
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	c, err := gomail.NewClient(host, gomail.WithPort(number), gomail.WithTLSPolicy(gomail.NoTLS))
	if err != nil {
		return nil, err
	}
	m := gomail.NewMsg(gomail.WithEncoding(gomail.NoEncoding))
	if err := errors.Join(m.From(mailFrom), m.To(r.recipients()...)); err != nil {
		return nil, err
	}
	m.Subject("bench")
	m.SetBodyString(gomail.TypeTextPlain, string(workload{size: r.Size}.text()))
	if err := c.DialWithContext(context.Background()); err != nil {
		return nil, err
	}
	return func(n int) error {
		for range n {
			if err := c.Send(m); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
