package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// errBad is what a connection is thrown away with.
var errBad = driver.ErrBadConn

// version is that of the tables. Open brings those of an earlier version to this one, by the migrations in between.
const version = 1

// migrations[i] makes version i+1 of version i.
//
// A message has its content in its row, or, if that is long, in chunks whose body is its own; chunks of a body without
// a message are what a crash has left. Rows of jobs are narrow, since they are what changes: the columns are what jobs
// are looked for by, and job is the whole. A message is in the order of its ID there, which is that of arrival.
//
// The state of a job is waiting, held, moved or damaged.
var migrations = []string{`
CREATE TABLE queue_message (
	id TEXT NOT NULL PRIMARY KEY,
	tag TEXT NOT NULL,
	size BIGINT NOT NULL,
	body BIGINT,
	message TEXT NOT NULL,
	content BLOB
);
CREATE UNIQUE INDEX queue_message_body ON queue_message (body) WHERE body IS NOT NULL;
CREATE TABLE queue_chunk (
	body BIGINT NOT NULL,
	n BIGINT NOT NULL,
	data BLOB NOT NULL,
	PRIMARY KEY (body, n)
);
CREATE TABLE queue_job (
	message TEXT NOT NULL,
	n BIGINT NOT NULL,
	destination TEXT NOT NULL,
	lane BIGINT NOT NULL,
	due BIGINT NOT NULL,
	alarm BIGINT NOT NULL,
	state BIGINT NOT NULL,
	arrived BIGINT NOT NULL,
	recipients BIGINT NOT NULL,
	job TEXT NOT NULL,
	PRIMARY KEY (message, n)
) WITHOUT ROWID;
CREATE INDEX queue_job_due ON queue_job (destination, lane, due) WHERE state = 0;
CREATE INDEX queue_job_alarm ON queue_job (destination, alarm) WHERE state = 0;
CREATE INDEX queue_job_other ON queue_job (destination) WHERE state <> 0;
CREATE TABLE queue_usage (
	tag TEXT NOT NULL PRIMARY KEY,
	messages BIGINT NOT NULL,
	octets BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE queue_suspension (
	site TEXT NOT NULL PRIMARY KEY,
	until BIGINT NOT NULL,
	why TEXT NOT NULL
) WITHOUT ROWID;
`}

// The states of a row of queue_job. One that is moved was rerouted while it was handed out: it waits, but until the
// lease under which it was handed out is done with it, that of the new destination must not hand it out. One that is
// damaged cannot be read, and has been put aside: see putAside.
const (
	waiting = 0
	held    = 1
	moved   = 2
	damaged = 3
)

// migrate makes the tables, or brings them to the version of this package. It returns how often the queue has been
// opened, this time included.
func migrate(ctx context.Context, c *sql.Conn) (opened int64, err error) {
	if _, err := c.ExecContext(ctx, begin); err != nil {
		return 0, fmt.Errorf("smtp: writing to the database of the queue: %w", err)
	}
	if opened, err = migrateWithin(ctx, c); err == nil {
		if _, err = c.ExecContext(ctx, commit); err == nil {
			return opened, nil
		}
	}
	_, _ = c.ExecContext(ctx, rollback)
	return 0, fmt.Errorf("smtp: making the tables of the queue: %w", err)
}

func migrateWithin(ctx context.Context, c *sql.Conn) (opened int64, err error) {
	_, err = c.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS queue_meta (
		one BIGINT NOT NULL PRIMARY KEY, version BIGINT NOT NULL, opened BIGINT NOT NULL)`)
	if err != nil {
		return 0, err
	}
	have := 0
	err = c.QueryRowContext(ctx, "SELECT version, opened FROM queue_meta").Scan(&have, &opened)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	if have > version {
		return 0, fmt.Errorf("they have version %d, and this program knows version %d: "+
			"use the program that wrote them, or a later one", have, version)
	}
	for _, m := range migrations[have:] {
		if _, err := c.ExecContext(ctx, m); err != nil {
			return 0, err
		}
	}
	opened++
	_, err = c.ExecContext(ctx, `INSERT INTO queue_meta (one, version, opened) VALUES (1, ?, ?)
		ON CONFLICT (one) DO UPDATE SET version = excluded.version, opened = excluded.opened`, version, opened)
	return opened, err
}
