package queue_test

import (
	"log/slog"
	"testing"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/internal/vfs"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
	"smtpkit.example/smtp/client/queue/queuetest"
)

func TestDirStore(t *testing.T) {
	paths := map[queue.Store]string{}
	queuetest.TestStore(t, func(t *testing.T) queue.Store {
		path := t.TempDir()
		d := openDir(t, path, nil)
		paths[d] = path
		return d
	}, &queuetest.Options{Looked: dirLooked, Reopen: func(t *testing.T, s queue.Store) queue.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		d := openDir(t, paths[s], nil)
		paths[d] = paths[s]
		return d
	}})
}

// TestDirStoreInMemory also has the process killed where the store is opened again.
func TestDirStoreInMemory(t *testing.T) {
	disks := map[queue.Store]*crashfs.FS{}
	queuetest.TestStore(t, func(t *testing.T) queue.Store {
		disk := crashfs.New()
		d := openSmallDir(t, disk)
		disks[d] = disk
		return d
	}, &queuetest.Options{Looked: dirLooked, Reopen: func(t *testing.T, s queue.Store) queue.Store {
		disk := disks[s].Kill()
		_ = s.Close() // it was killed
		d := openSmallDir(t, disk)
		disks[d] = disk
		return d
	}})
}

func dirLooked(s queue.Store) int64 { return queue.DirLooked(s.(*queue.Dir)) }

func openDir(t testing.TB, path string, disk vfs.FS) *queue.Dir {
	t.Helper()
	d, err := queue.OpenDir(path, queue.DirOptionsOn(disk, queue.DirOptions{Logger: slog.New(slog.DiscardHandler)}))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openSmallDir(t testing.TB, disk vfs.FS) *queue.Dir {
	t.Helper()
	d, err := queue.OpenDir("", queue.SmallDirOptions(disk))
	if err != nil {
		t.Fatal(err)
	}
	return d
}
