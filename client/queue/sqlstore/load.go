package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"smtpkit.example/smtp/client/queue"
)

// A loading fills a Store that is being opened, by the connection that is to write.
type loading struct {
	s *Store
	c *sql.Conn
}

// load prepares the connection that writes, and reads what has to be in memory.
func (l *loading) load(ctx context.Context) (how syncing, err error) {
	for _, q := range settings {
		if _, err := l.c.ExecContext(ctx, q); err != nil {
			return how, fmt.Errorf("smtp: preparing the database of the queue: %s: %w", q, err)
		}
	}
	mode := ""
	if err := l.c.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		return how, fmt.Errorf("smtp: the database of the queue has journal_mode %q and not wal: "+
			"it has to be a file on a local disk (%v)", mode, err)
	}
	opened, err := migrate(ctx, l.c)
	if err != nil {
		return how, err
	}
	l.s.leases.epoch = opened << 40 // more than there are leases until the next time
	for _, step := range []func(context.Context) error{l.cleanUp, l.loadJobs, l.loadUsage, l.prepare} {
		if err := step(ctx); err != nil {
			return how, fmt.Errorf("smtp: opening the queue: %w", err)
		}
	}
	if how, err = newSyncing(ctx, l.c); err != nil {
		return how, fmt.Errorf("smtp: opening the queue: %w", err)
	}
	return how, nil
}

// cleanUp removes chunks without a message, and has all jobs wait that are not held: those that are damaged too, since
// somebody may have repaired them, or this program may know more.
func (l *loading) cleanUp(ctx context.Context) error {
	for _, q := range []string{
		"DELETE FROM queue_chunk WHERE body NOT IN (SELECT body FROM queue_message WHERE body IS NOT NULL)",
		"UPDATE queue_job SET state = 0 WHERE state <> 0 AND state IN (2, 3)",
	} {
		if _, err := l.c.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	var last sql.NullInt64
	err := l.c.QueryRowContext(ctx, "SELECT max(body) FROM queue_message WHERE body IS NOT NULL").Scan(&last)
	l.s.lastBody = last.Int64
	return err
}

// loadJobs finds out when destinations are to be woken. It reads indexes, not jobs.
func (l *loading) loadJobs(ctx context.Context) error {
	for _, q := range []string{
		"SELECT destination, count(*), min(due) FROM queue_job WHERE state = 0 GROUP BY destination",
		"SELECT destination, 0, min(alarm) FROM queue_job WHERE state = 0 GROUP BY destination",
		"SELECT destination, count(*), -1 FROM queue_job WHERE state <> 0 GROUP BY destination",
	} {
		rows, err := l.c.QueryContext(ctx, q)
		if err != nil {
			return err
		}
		for i := 0; rows.Next(); i++ {
			var name string
			var jobs int
			var at int64
			if err := rows.Scan(&name, &jobs, &at); err != nil {
				return errors.Join(err, rows.Close())
			}
			d := l.s.leases.destination(name)
			d.jobs += jobs
			switch {
			case at == -1:
			case jobs > 0:
				d.due = at
			default:
				d.alarm = at
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	for _, d := range l.s.leases.destinations {
		l.s.leases.settle(d)
	}
	return nil
}

func (l *loading) loadUsage(ctx context.Context) error {
	rows, err := l.c.QueryContext(ctx, "SELECT tag, messages, octets FROM queue_usage")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var tag string
		var u queue.Usage
		if err := rows.Scan(&tag, &u.Messages, &u.Octets); err != nil {
			return err
		}
		l.s.usage.add(tag, u)
	}
	return rows.Err()
}

func (l *loading) prepare(ctx context.Context) (err error) {
	for _, st := range []struct {
		into **sql.Stmt
		text string
	}{
		{&l.s.read.earliest, selectEarliest},
		{&l.s.read.due, selectDue},
		{&l.s.read.alarms, selectAlarms},
		{&l.s.read.message, "SELECT message FROM queue_message WHERE id = ?"},
		{&l.s.read.content, "SELECT size, body, content FROM queue_message WHERE id = ?"},
		{&l.s.read.body, "SELECT body FROM queue_message WHERE id = ?"},
		{&l.s.read.chunkSize, "SELECT length(data) FROM queue_chunk WHERE body = ? AND n = 0"},
		{&l.s.read.chunk, "SELECT data FROM queue_chunk WHERE body = ? AND n = ?"},
	} {
		if *st.into, err = l.s.db.PrepareContext(ctx, st.text); err != nil {
			return err
		}
	}
	return nil
}
