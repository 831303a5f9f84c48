// Package sqlite opens a mail queue in a file of SQLite. It is a module of its own, since it stands on the driver
// github.com/ncruces/go-sqlite3, which needs Go 1.26 and no C compiler:
//
//	go get smtpkit.example/smtp/client/queue/sqlstore/sqlite
//
//	store, err := sqlite.Open(ctx, "queue.db", nil)
//	if err != nil {
//		return err
//	}
//	defer store.Close()
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"

	"smtpkit.example/smtp/client/queue/sqlstore"
)

// connections is how many connections there are at most: one that writes, one that has the lock, and others that read.
const connections = 8

// Open opens the queue in a file, and makes the file if there is none. It has to be on a local disk: SQLite cannot rely
// on the locks of a network file system. SQLite keeps its log in FILE-wal and FILE-shm, and the queue has its lock in
// FILE-lock; a copy of the queue has all of FILE and FILE-wal. The error is queue.ErrInUse if a process has it open.
// The options may be nil. Options.Free is set unless it is given: it tells how much room the disk has for this user, on
// Linux, macOS and Windows.
func Open(ctx context.Context, file string, opt *sqlstore.Options) (*sqlstore.Store, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("smtp: opening the queue: %w", err)
	}
	db, err := driver.Open(source(path, "&vfs="+vfsName), prepareOnce)
	if err != nil {
		return nil, fmt.Errorf("smtp: opening the queue %s: %w", file, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	var o sqlstore.Options
	if opt != nil {
		o = *opt
	}
	if o.Free == nil {
		dir := filepath.Dir(path)
		o.Free = func() (int64, bool) { return free(dir) }
	}
	s, err := sqlstore.Open(ctx, db, sqlstore.SQLite, &o)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// prepareOnce has the plan of a statement not depend on its arguments. By default SQLite prepares a statement anew
// whenever an argument changes that a plan could depend on, such as that of LIMIT, and that takes longer than the
// statement.
func prepareOnce(c *sqlite3.Conn) error {
	_, err := c.Config(sqlite3.DBCONFIG_ENABLE_QPSG, true)
	return err
}

// source returns the data source name of a file, with more parameters.
func source(path, more string) string {
	pragmas := url.Values{"_pragma": {"busy_timeout(5000)", "cache_size(-2048)", "temp_store(memory)"}}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: pragmas.Encode() + more}
	return name.String()
}
