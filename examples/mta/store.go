package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/sqlstore/sqlite"
)

// A kind is one of the kinds of stores that -queue names.
type kind struct {
	file string // its name in -dir, unless -queue says otherwise
	open func(path string) (queue.Store, error)
}

var kinds = map[string]kind{
	"sqlite": {"queue.db", func(path string) (queue.Store, error) {
		return sqlite.Open(context.Background(), path, nil)
	}},
	"dir": {"queue", func(path string) (queue.Store, error) { return queue.OpenDir(path, nil) }},
}

// location returns the kind of the store that -queue names, and where it is: by default in -dir.
func (c *config) location() (k kind, path string, err error) {
	name, path, named := strings.Cut(c.queue, ":")
	k, ok := kinds[name]
	if !ok {
		return k, "", fmt.Errorf("-queue %s: write sqlite, sqlite:FILE, dir, or dir:PATH", c.queue)
	}
	if !named {
		path = filepath.Join(c.dir, k.file)
	}
	return k, path, nil
}

// openStore opens the store that -queue names.
func openStore(c *config) (queue.Store, error) {
	k, path, err := c.location()
	if err != nil {
		return nil, err
	}
	store, err := k.open(path)
	if err != nil {
		return nil, fmt.Errorf("-queue %s: %w", path, err)
	}
	return store, nil
}

// warnOfOthers logs which queues in -dir have mail that nobody delivers, since -queue names another one now.
func warnOfOthers(c *config, log *slog.Logger) {
	_, used, err := c.location()
	if err != nil {
		return
	}
	for name, k := range kinds {
		path := filepath.Join(c.dir, k.file)
		if _, err := os.Stat(path); err != nil || same(path, used) {
			continue
		}
		messages, err := count(k, path)
		switch {
		case errors.Is(err, queue.ErrInUse): // another program delivers its mail
		case err != nil:
			log.Warn("another queue in -dir cannot be opened, and may have mail", "path", path, "err", err)
		case messages > 0:
			log.Warn("another queue in -dir has mail that is not delivered: start a program with this -queue for it",
				"queue", name+":"+path, "messages", messages)
		}
	}
}

// same reports whether two paths lead to the same file, which exists.
func same(a, b string) bool {
	one, err1 := os.Stat(a)
	two, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, two)
}

// count returns how many messages a store has.
func count(k kind, path string) (messages int64, err error) {
	store, err := k.open(path)
	if err != nil {
		return 0, err
	}
	u, err := store.Usage(context.Background(), "", true)
	return u.Messages, errors.Join(err, store.Close())
}

// storeFailed has the program end if the queue cannot be written for too long.
func (m *mta) storeFailed() {
	since, err := m.queue.Outage()
	if since.IsZero() || time.Since(since) < m.config.outage {
		return
	}
	select {
	case m.failed <- fmt.Errorf("the queue cannot be written since %s: %w", since.Format(time.RFC3339), err):
	default:
	}
}
