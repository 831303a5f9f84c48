package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"smtpkit.example/smtp/client/queue"
)

// A Dialect is the SQL of one kind of database.
type Dialect uint8

// SQLite is the dialect of SQLite 3.35 or later, with any driver. The database has to be a file on a local disk.
const SQLite Dialect = 1

// String returns the name of the dialect.
func (d Dialect) String() string {
	if d == SQLite {
		return "SQLite"
	}
	return fmt.Sprintf("Dialect(%d)", uint8(d))
}

// What a writer says to begin and end a transaction.
const (
	begin    = "BEGIN IMMEDIATE"
	commit   = "COMMIT"
	rollback = "ROLLBACK"
)

// A syncing is how a writer says whether the transactions that follow are synced. These statements have an effect when
// they are compiled, so nothing is won by preparing them.
type syncing struct{ synced, unsynced string }

var (
	bySQLite = syncing{"PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"}
	// byFiles is for files of package sqlite, which are faster with it. For others it is an unknown pragma, which has no
	// effect and no result.
	byFiles = syncing{"PRAGMA queue_sync = full", "PRAGMA queue_sync = normal"}
)

// newSyncing finds out what a connection understands, and has its transactions synced.
func newSyncing(ctx context.Context, c *sql.Conn) (syncing, error) {
	var answer string
	switch err := c.QueryRowContext(ctx, byFiles.synced).Scan(&answer); {
	case err == nil:
		return byFiles, nil
	case errors.Is(err, sql.ErrNoRows):
		return bySQLite, nil
	default:
		return syncing{}, fmt.Errorf("%s: %w", byFiles.synced, err)
	}
}

// settings are made on the connection that writes. The first two have an effect on a new database only. A checkpoint
// moves pages from the log to the database; after one, the log begins again from its start.
var settings = []string{
	"PRAGMA busy_timeout = 5000",
	"PRAGMA page_size = 4096",
	"PRAGMA auto_vacuum = NONE",
	"PRAGMA journal_mode = WAL",
	"PRAGMA wal_autocheckpoint = 4000",
	"PRAGMA journal_size_limit = 67108864",
	"PRAGMA cache_size = -16384",
	bySQLite.synced,
}

// lock takes the lock of the database for this process, on a connection that then has it until it is closed. It is that
// of a file beside the database, which SQLite keeps locked for as long as the connection lives, and no longer.
func lock(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("smtp: connecting to the database of the queue: %w", err)
	}
	if err := lockFile(ctx, c); err != nil {
		_ = discard(c)
		return nil, err
	}
	return c, nil
}

func lockFile(ctx context.Context, c *sql.Conn) error {
	var file string
	err := c.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file)
	if err != nil {
		return fmt.Errorf("smtp: finding the file of the database of the queue: %w", err)
	}
	if file == "" {
		return errors.New("smtp: the database of the queue is in memory; give the driver the name of a file")
	}
	for _, q := range []struct {
		text string
		args []any
	}{
		{"PRAGMA busy_timeout = 0", nil},
		{"ATTACH DATABASE ? AS owner", []any{file + "-lock"}},
		{"PRAGMA owner.locking_mode = EXCLUSIVE", nil},
		{"PRAGMA owner.journal_mode = MEMORY", nil},
		{"BEGIN EXCLUSIVE", nil},
		{"PRAGMA owner.user_version = 1", nil},
		{commit, nil},
	} {
		if _, err := c.ExecContext(ctx, q.text, q.args...); err != nil {
			if isBusy(err) {
				return queue.ErrInUse
			}
			return fmt.Errorf("smtp: locking the queue: %s: %w", q.text, err)
		}
	}
	return nil
}

// discard closes a connection for good: the pool does not keep it.
func discard(c *sql.Conn) error {
	err := c.Raw(func(any) error { return errBad })
	if errors.Is(err, errBad) {
		return nil
	}
	return err
}

// The errors of SQLite are told by their texts, which are the same in all drivers, and have not changed in twenty
// years.
func contains(err error, texts ...string) bool {
	text := err.Error()
	for _, t := range texts {
		if strings.Contains(text, t) {
			return true
		}
	}
	return false
}

func isBusy(err error) bool {
	return contains(err, "database is locked", "database table is locked", "database schema is locked")
}

// isTemporary reports whether the same transaction may succeed later.
func isTemporary(err error) bool {
	return isBusy(err) || contains(err, "database or disk is full", "out of memory", "unable to open database file") ||
		errors.Is(err, syscall.ENOSPC)
}

// isFatal reports whether an error of a statement tells that the database cannot be relied on.
func isFatal(err error) bool {
	return contains(err, "disk I/O error", "malformed", "is not a database", "readonly database", "locking protocol") ||
		errors.Is(err, errBad) || errors.Is(err, sql.ErrConnDone)
}

func isConstraint(err error) bool { return contains(err, "constraint") }
