package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/dkim"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/server"
)

// An mta is the server with all its parts.
type mta struct {
	config *config
	log    *slog.Logger
	people *directory
	nobody user // whom no password fits
	signer *dkim.Signer
	store  queue.Store
	queue  *queue.Queue
	out    *outbound
	server *server.Server
	page   http.Server // of operators
	ports  []port
	asked  asked      // who has asked by ETRN
	failed chan error // why the queue cannot be written, when that has lasted for too long
}

// A port is a listener, and what serves it.
type port struct {
	net.Listener
	serve func(net.Listener) error
}

// maxSize is how many octets a message may have. With -dkim, it is held in memory for a moment.
const maxSize = 64 << 20

// grace is how long, at the end, clients and attempts may take for what is in hand.
const grace = 35 * time.Second

// maxOutage is how long the queue may not be able to write before the program ends, so that it is started again.
const maxOutage = 2 * time.Minute

// maxHold is for how long a user may have a message wait (FUTURERELEASE).
const maxHold = 30 * 24 * time.Hour

// open makes the parts, each before those that use it, and takes the ports. Run serves them.
func open(c *config, log *slog.Logger) (m *mta, err error) {
	m = &mta{config: c, log: log, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.people, err = newDirectory(c); err != nil {
		return m, err
	}
	if m.nobody.secrets, err = newSecrets("nobody knows"); err != nil {
		return m, err
	}
	if len(c.dkim) > 0 {
		if m.signer, err = dkim.New(&dkim.Options{Keys: c.dkim, MaxHeld: 2 * maxSize}); err != nil {
			return m, err
		}
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return m, err
	}
	c.client.Hostname = c.hostname
	if c.verbose {
		c.client.Trace = client.LogTrace(log, &client.LogOptions{Addresses: true})
	}
	if m.out, err = m.openOutbound(); err != nil {
		return m, err
	}
	if m.store, err = c.open(c); err != nil {
		return m, err
	}
	warnOfOthers(c, log)
	trace, opened := queue.LogTrace(log), make(chan struct{})
	trace.Failed = func(error) {
		<-opened // m.queue is there
		m.storeFailed()
	}
	m.queue, err = queue.New(m.store, m.out.exchangers, &queue.Options{
		Hostname: c.hostname, Route: m.route, Routes: m.out.routes, Policy: c.policy,
		Trace: trace, Logger: log, Limits: queue.Limits{Messages: 1_000_000, Share: 0.5},
	})
	close(opened)
	if err != nil {
		return m, err
	}
	return m, m.listen()
}

// run serves until stop ends. Then it takes no more mail, waits for what is in hand, and ends the parts.
func (m *mta) run(stop context.Context) error {
	ended := make(chan error, len(m.ports))
	for _, p := range m.ports {
		m.log.Info("listening", "addr", p.Addr())
		go func() { ended <- p.serve(p) }()
	}
	m.log.Info("ready", "hostname", m.config.hostname, "domains", m.config.domains)
	var err error
	left := len(m.ports)
	select {
	case <-stop.Done():
		m.log.Info("stopping")
	case err = <-ended:
		left--
	case err = <-m.failed:
		m.log.Error("the queue cannot be written: see to its disk, and start the program again", "err", err)
	}
	err = errors.Join(err, m.close())
	for range left {
		if e := <-ended; !errors.Is(e, server.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// close ends the parts, each before those that it uses. What does not end in time is broken off, which loses nothing:
// clients send again what was not accepted, and the queue keeps what was not delivered.
func (m *mta) close() (err error) {
	end := func(what string, f func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.Background(), m.config.grace)
		defer cancel()
		e := f(ctx)
		if errors.Is(e, context.DeadlineExceeded) {
			m.log.Warn("broken off", "what", what, "after", m.config.grace)
		} else {
			err = errors.Join(err, e)
		}
	}
	if m.server != nil {
		end("connections of clients", m.server.Shutdown)
	}
	err = errors.Join(err, m.page.Close())
	for _, p := range m.ports {
		p.Close()
	}
	if m.queue != nil {
		end("attempts to deliver", m.queue.Close)
	}
	if m.out != nil {
		end("connections to other servers", m.out.close)
	}
	if m.store != nil {
		err = errors.Join(err, m.store.Close())
	}
	return err
}
