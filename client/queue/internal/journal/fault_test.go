package journal_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/client/queue/internal/journal"
	"smtpkit.example/smtp/client/queue/internal/vfs"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

// A write that fails leaves the journal as it was.
func TestAppendFails(t *testing.T) {
	for _, kind := range []string{"WriteAt", "Create"} {
		disk := crashfs.New()
		u := open(t, disk, small)
		tries := 0
		disk.Fail(func(op crashfs.Op) (int, error) {
			if op.Kind != kind {
				return 0, nil
			}
			if tries++; tries%3 == 0 {
				return 0, nil
			}
			return op.Size / 2, syscall.ENOSPC
		})
		for n := uint64(0); n < 12; {
			err := u.append(n, 300, false)
			if err == nil {
				n++
			} else if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("%s: %v", kind, err)
			}
		}
		disk.Fail(nil)
		again := open(t, disk.Kill(), small)
		if len(again.replayed) != 12 || tries < 3 {
			t.Errorf("%s: %d were replayed, want 12", kind, again.replayed)
		}
	}
}

// After a sync that has failed nothing is taken.
func TestSyncFails(t *testing.T) {
	disk := crashfs.New()
	u := open(t, disk, small)
	must(t, u.append(0, 10, false))
	disk.Fail(func(op crashfs.Op) (int, error) {
		if op.Kind == "SyncData" {
			return 0, syscall.EIO
		}
		return 0, nil
	})
	if err := u.Sync(u.marks[0]); !errors.Is(err, syscall.EIO) || u.Synced() {
		t.Errorf("Sync: %v", err)
	}
	disk.Fail(nil)
	if err := u.append(1, 10, true); !errors.Is(err, syscall.EIO) {
		t.Errorf("Append: %v", err)
	}
	if err := u.SyncAll(); !errors.Is(err, syscall.EIO) {
		t.Errorf("SyncAll: %v", err)
	}
	u.settle(0)
	if err := u.Close(false); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close: %v", err)
	}
	if names := segments(t, disk); len(names) != 1 {
		t.Errorf("the segments are %q, want the one that is left for the next process", names)
	}
}

// A sync that fails while a segment is made, or while segments are reclaimed, is final too, and so is a segment that
// cannot be removed: those behind it must not be used again.
func TestOtherSyncFails(t *testing.T) {
	for _, tt := range []struct {
		kind, name string
		reclaims   bool
	}{{"SyncDir", ".", false}, {"SyncData", "journal.1", false}, {"Remove", "journal.1", true}, {"SyncDir", ".", true}} {
		disk := crashfs.New()
		u := open(t, disk, small)
		n := uint64(0)
		for ; tt.reclaims && n < 24; n++ { // twice as many segments as there should be
			must(t, u.append(n, 300, true))
			u.settle(n)
		}
		must(t, u.SyncAll())
		disk.Fail(func(op crashfs.Op) (int, error) {
			if op.Kind == tt.kind && op.Name == tt.name {
				return 0, syscall.EIO
			}
			return 0, nil
		})
		var err error
		if tt.reclaims {
			err = u.Reclaim()
		} else {
			err = u.append(n, 300, false)
		}
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%+v: %v", tt, err)
		}
		disk.Fail(nil)
		if err := u.append(n, 300, true); !errors.Is(err, syscall.EIO) || !errors.Is(u.Failed(), syscall.EIO) {
			t.Errorf("%+v: then Append: %v", tt, err)
		}
		if err := u.Close(false); !errors.Is(err, syscall.EIO) {
			t.Errorf("%+v: Close: %v", tt, err)
		}
		if again := open(t, disk.Kill(), small); len(again.replayed) > 0 && again.replayed[len(again.replayed)-1] != n-1 {
			t.Errorf("%+v: replayed %d", tt, again.replayed)
		}
	}
}

// A segment that is not one is not removed.
func TestDamagedBlock(t *testing.T) {
	disk := crashfs.New()
	disk.Put("journal.7", []byte(strings.Repeat("mail", 1000)))
	_, err := journal.Open(disk, small, nil)
	if err == nil || !strings.Contains(err.Error(), "journal.7 is damaged: move the file away") {
		t.Errorf("Open: %v", err)
	}
	if _, ok := disk.Files()["journal.7"]; !ok {
		t.Error("it was removed")
	}
}

// What was a record in another segment, or in an earlier use of this one, is none, whatever its number.
func TestStaleRecord(t *testing.T) {
	var disks [2]map[string][]byte
	for i := range disks {
		disk := crashfs.New()
		u := open(t, disk, small)
		for n := range uint64(3 - i) {
			must(t, u.append(n, 100, false))
		}
		disks[i] = disk.Files()
	}
	disk := crashfs.New()
	b := disks[1]["journal.1"]
	end := 512 + 2*len(record(0, 100))
	disk.Put("journal.1", append(b[:end], disks[0]["journal.1"][end:]...))
	if u := open(t, disk, small); len(u.replayed) != 2 {
		t.Errorf("replayed %d, want 2 records", u.replayed)
	}
}

// A closeFS tells of a file that is synced when it is closed, or closed while it is synced. Syncs wait for goOn.
type closeFS struct {
	vfs.FS
	t    *testing.T
	goOn chan struct{}
}

type closeFile struct {
	vfs.File
	fs              closeFS
	closed, syncing atomic.Bool
}

func (f closeFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return &closeFile{File: file, fs: f}, err
}

func (f *closeFile) SyncData() error {
	f.syncing.Store(true)
	<-f.fs.goOn
	f.syncing.Store(false)
	if f.closed.Load() {
		f.fs.t.Error("a file is closed and synced")
	}
	return f.File.SyncData()
}

func (f *closeFile) Close() error {
	f.closed.Store(true)
	return f.File.Close()
}

// A segment that is removed is not synced any more.
func TestReclaimWhileSyncing(t *testing.T) {
	for _, sync := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			fs := closeFS{crashfs.New(), t, make(chan struct{}, 100)}
			for range 10 {
				fs.goOn <- struct{}{} // the first blocks
			}
			u := open(t, fs, small)
			for n := range uint64(24) {
				must(t, u.append(n, 300, true))
				u.settle(n)
			}
			for range len(fs.goOn) {
				<-fs.goOn
			}
			done := make(chan error, 2)
			if sync {
				go func() { done <- u.SyncAll() }()
				synctest.Wait()
			}
			go func() { done <- u.Reclaim() }()
			synctest.Wait()
			close(fs.goOn)
			if err := <-done; err != nil {
				t.Error(err)
			}
			must(t, u.SyncAll())
			must(t, u.append(24, 300, true))
			must(t, u.SyncAll())
			synctest.Wait()
		})
	}
}

// Read of a record that was settled tells when its place has been used again, or is gone.
func TestReadAfterReclaim(t *testing.T) {
	u := open(t, crashfs.New(), small)
	var marks []journal.Mark
	for n := range uint64(20) {
		must(t, u.append(n, 300, true))
		marks = append(marks, u.marks[n])
		u.settle(n)
	}
	must(t, u.Reclaim())
	for n := range uint64(8) {
		must(t, u.append(20+n, 300, true))
	}
	for n, m := range marks {
		b, err := u.Read(m)
		if err == nil && string(b[journal.HeaderSize:]) != string(record(uint64(n), 300)[journal.HeaderSize:]) {
			t.Errorf("record %d is read as another one", n)
		}
	}
	if _, err := u.Read(marks[12]); err == nil {
		t.Error("a record is read that was written over")
	}
}
