package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// A Store is a [queue.Store] in a database.
type Store struct {
	db    *sql.DB
	lock  *sql.Conn
	chunk int
	free  func() (octets int64, ok bool)
	// logger gets what an operator has to know.
	logger *slog.Logger
	w      *writer
	read   reads

	// editing is held while jobs are changed that a Take might be about to hand out, and shared by each Take.
	editing sync.RWMutex

	// mu guards what follows. It is not held while the database is at work.
	mu       sync.Mutex
	closed   bool
	broken   error // why nothing is written any more
	leases   leases
	usage    usage
	recent   recent
	bodies   map[int64]*body
	lastBody int64
}

// Options are the settings of a Store. Nil stands for the defaults.
type Options struct {
	// ChunkSize is how many octets of a content are in one row of the database, and in memory, while it is added or
	// read. A longer content has several rows. The default is 256 KiB, and the largest 1 MiB.
	ChunkSize int
	// Free tells how many octets the disk of the database has room for, and reports false if that is not known. See
	// queue.Limits.FreeDisk, which has no effect if Free is nil. It is called for each message that is added.
	Free func() (octets int64, ok bool)
	// Logger gets what an operator has to know: jobs that are damaged. The default is slog.Default.
	Logger *slog.Logger
}

// The bounds of Options.ChunkSize.
const (
	defaultChunk = 256 << 10
	maxChunk     = 1 << 20
)

// reads are the statements that read, on any connection.
type reads struct{ earliest, due, alarms, message, content, body, chunkSize, chunk *sql.Stmt }

func (r *reads) close() error {
	var errs []error
	for _, st := range []*sql.Stmt{r.earliest, r.due, r.alarms, r.message, r.content, r.body, r.chunkSize, r.chunk} {
		errs = append(errs, st.Close())
	}
	return errors.Join(errs...)
}

// Open opens the queue in a database. It makes its tables, whose names begin with queue_, or brings them to the version
// of this package; an error tells that they are of a later one. It removes what a crash has left.
//
// The database belongs to the Store from then on: Close closes it. If Open fails, it does not. Three of its connections
// are needed at least; one of them writes, and another one has the lock that keeps other processes out. The error is
// [queue.ErrInUse] if one of them has opened the queue.
//
// With [SQLite], Open sets on its own connection what durability needs: the write-ahead log, and synchronous = FULL.
// Give the other connections a busy_timeout: see the package smtpkit.example/smtp/client/queue/sqlstore/sqlite.
func Open(ctx context.Context, db *sql.DB, dialect Dialect, opt *Options) (*Store, error) {
	var o Options
	if opt != nil {
		o = *opt
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = defaultChunk
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	switch n := db.Stats().MaxOpenConnections; {
	case dialect != SQLite:
		return nil, fmt.Errorf("smtp: sqlstore has no %v; use sqlstore.SQLite", dialect)
	case o.ChunkSize < 0 || o.ChunkSize > maxChunk:
		return nil, fmt.Errorf("smtp: ChunkSize is %d, and has to be from 1 to %d", o.ChunkSize, maxChunk)
	case n > 0 && n < 3:
		return nil, fmt.Errorf(
			"smtp: the database has %d connections at most, and the queue needs 3: see sql.DB.SetMaxOpenConns", n)
	}
	s := &Store{
		db: db, chunk: o.ChunkSize, free: o.Free, logger: o.Logger,
		leases: leases{destinations: map[string]*destination{}, moved: map[queue.JobID]*handed{}},
		usage:  usage{of: map[string]queue.Usage{}}, bodies: map[int64]*body{},
	}
	var err error
	if s.lock, err = lock(ctx, db); err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("smtp: connecting to the database of the queue: %w", err), discard(s.lock))
	}
	how, err := (&loading{s, conn}).load(ctx)
	if err != nil {
		return nil, errors.Join(err, discard(conn), discard(s.lock))
	}
	s.w = newWriter(s, conn, how)
	go s.w.run()
	return s, nil
}

// Free returns how many octets the disk has room for, as [Options].Free tells. It reports false if that is not known.
func (s *Store) Free() (octets int64, ok bool) {
	if s.free == nil {
		return 0, false
	}
	return s.free()
}

func (s *Store) isOpen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return nil
}

func (s *Store) isBroken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// Close ends all leases, writes what waits to be written, and closes the database.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	s.w.close()
	s.mu.Lock()
	for _, d := range s.leases.destinations {
		d.lease = nil
	}
	s.mu.Unlock()
	return errors.Join(s.read.close(), s.w.closeStatements(), s.w.conn.Close(), s.lock.Close(), s.db.Close())
}

// Suspend keeps a note. See [queue.Store].
func (s *Store) Suspend(ctx context.Context, note queue.Suspension) error {
	return s.w.do(ctx, &request{task: (*suspend)(&note), durable: true})
}

type suspend queue.Suspension

func (t *suspend) prepare(*Store) (bool, error) { return true, nil }

func (t *suspend) write(b *batch) error {
	if t.Until.IsZero() {
		return b.w.exec("DELETE FROM queue_suspension WHERE site = ?", t.Site)
	}
	return b.w.exec(`INSERT INTO queue_suspension (site, until, why) VALUES (?, ?, ?)
		ON CONFLICT (site) DO UPDATE SET until = excluded.until, why = excluded.why`, t.Site, ceil(t.Until), t.Why)
}

func (t *suspend) finish(*Store, error) {}

// Suspended returns the notes whose time has not come. See [queue.Store].
func (s *Store) Suspended(ctx context.Context, now time.Time) ([]queue.Suspension, error) {
	if err := s.isOpen(); err != nil {
		return nil, err
	}
	rows, err := s.db.QueryContext(ctx,
		"SELECT site, until, why FROM queue_suspension WHERE until > ? ORDER BY site", floor(now))
	if err != nil {
		return nil, reading(err)
	}
	defer rows.Close()
	var notes []queue.Suspension
	for rows.Next() {
		var n queue.Suspension
		var until int64
		if err := rows.Scan(&n.Site, &until, &n.Why); err != nil {
			return nil, reading(err)
		}
		n.Until = time.UnixMicro(until).UTC()
		notes = append(notes, n)
	}
	return notes, reading(rows.Err())
}
