package sqlite

import "github.com/ncruces/go-sqlite3/vfs"

// A log is the write-ahead log of a database. SQLite writes each page of a transaction by itself, and a header before
// each: a log collects them, and writes them together when SQLite syncs. It does so at the end of a transaction, before
// others may see it, if it is set to synchronous = FULL.
//
// PRAGMA queue_sync then says what a sync is: with the value full it is one, and with normal the transaction is only
// written. As SQLite does for synchronous = NORMAL, these are synced all the same:
//
//   - the log, before anything is written to the database, as that overwrites what the log would have to bring back;
//   - the header of a log that begins again from its start, for the sake of disks that change the order of writes.
//
// Without the pragma a log is a file like others.
type log struct {
	*file
	main     *file
	pages    []byte // to be written
	at       int64  // and where
	unsynced bool   // something was written since the last sync
}

// A mode is what PRAGMA queue_sync has set.
type mode string

const (
	direct mode = "" // nothing is collected
	full   mode = "full"
	normal mode = "normal"
)

// maxPages is how much is collected before it is written.
const maxPages = 256 << 10

func (l *log) WriteAt(p []byte, off int64) (int, error) {
	if l.main.mode == direct {
		return l.file.WriteAt(p, off)
	}
	if off != l.at+int64(len(l.pages)) || len(l.pages)+len(p) > maxPages {
		if err := l.flush(); err != nil {
			return 0, err
		}
		l.at = off
	}
	l.pages = append(l.pages, p...)
	return len(p), nil
}

// flush writes what was collected. If it fails, SQLite rolls back, and then writes to the same place again.
func (l *log) flush() error {
	if len(l.pages) == 0 {
		return nil
	}
	l.unsynced = true
	_, err := l.file.WriteAt(l.pages, l.at)
	l.pages = l.pages[:0]
	return err
}

func (l *log) Sync(flags vfs.SyncFlag) error {
	header := l.at == 0 && len(l.pages) > 0
	if l.main.mode == normal && !header {
		return l.flush()
	}
	return l.sync(flags)
}

func (l *log) sync(flags vfs.SyncFlag) error {
	if err := l.flush(); err != nil {
		return err
	}
	if err := l.File.Sync(flags); err != nil {
		return err
	}
	l.unsynced = false
	return nil
}

func (l *log) ReadAt(p []byte, off int64) (int, error) {
	if err := l.flush(); err != nil {
		return 0, err
	}
	return l.file.ReadAt(p, off)
}

func (l *log) Truncate(size int64) error {
	if err := l.flush(); err != nil {
		return err
	}
	return l.file.Truncate(size)
}

func (l *log) Size() (int64, error) {
	if err := l.flush(); err != nil {
		return 0, err
	}
	return l.file.Size()
}

func (l *log) Unwrap() vfs.File { return l.file }
