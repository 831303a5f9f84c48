package sqlite

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite" // the other driver

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/queuetest"
	"smtpkit.example/smtp/client/queue/sqlstore"
)

// drivers are those that a program may choose. The package has the first one.
var drivers = map[string]func(t testing.TB, file string, opt *sqlstore.Options) (*sqlstore.Store, error){
	"ncruces": func(t testing.TB, file string, opt *sqlstore.Options) (*sqlstore.Store, error) {
		return Open(context.Background(), file, opt)
	},
	"modernc": func(t testing.TB, file string, opt *sqlstore.Options) (*sqlstore.Store, error) {
		db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: file, RawQuery: "_pragma=busy_timeout(5000)"}).String())
		if err != nil {
			return nil, err
		}
		s, err := sqlstore.Open(context.Background(), db, sqlstore.SQLite, opt)
		if err != nil {
			_ = db.Close()
		}
		return s, err
	},
}

// TestStore runs the tests for stores with each driver, and also with contents of several chunks.
func TestStore(t *testing.T) {
	for driver := range drivers {
		t.Run(driver, func(t *testing.T) { testStore(t, driver, 0, 10) })
	}
	t.Run("chunks", func(t *testing.T) { testStore(t, "ncruces", 64<<10, 2) })
}

func testStore(t *testing.T, driver string, chunk, seeds int) {
	files := map[queue.Store]string{}
	at := func(t *testing.T, file string) queue.Store {
		s, err := drivers[driver](t, file, &sqlstore.Options{ChunkSize: chunk})
		if err != nil {
			t.Fatal(err)
		}
		files[s] = file
		return s
	}
	open := func(t *testing.T) queue.Store { return at(t, filepath.Join(t.TempDir(), "queue.db")) }
	reopen := func(t *testing.T, s queue.Store) queue.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return at(t, files[s])
	}
	queuetest.TestStore(t, open, &queuetest.Options{Reopen: reopen, Seeds: seeds})
}
