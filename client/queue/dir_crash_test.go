package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/client/queue/internal/vfs"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

// A slowFS has others write during each sync. It does not sleep, since its callers may hold locks, and the time of a
// bubble stands still while anybody waits for one.
type slowFS struct{ vfs.FS }

// slowFile is a file of a slowFS.
type slowFile struct{ vfs.File }

func letOthersWrite() {
	for range 100 {
		runtime.Gosched()
	}
}

func (f slowFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return slowFile{file}, err
}

func (f slowFS) Append(name string) (vfs.File, error) {
	file, err := f.FS.Append(name)
	return slowFile{file}, err
}

func (f slowFS) SyncDir(dir string) error {
	letOthersWrite()
	return f.FS.SyncDir(dir)
}

func (f slowFS) SyncAll() error {
	letOthersWrite()
	return f.FS.SyncAll()
}

func (f slowFile) Sync() error {
	letOthersWrite()
	return f.File.Sync()
}

func (f slowFile) SyncData() error {
	letOthersWrite()
	return f.File.SyncData()
}

// TestDirCrash loses power at each moment of a load, in many ways, and finds that Dir has kept its promises.
func TestDirCrash(t *testing.T) {
	steps := 10
	if testing.Short() || raceDetector {
		steps = 4
	}
	for mode := range crashModes {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			c := &crashTest{t: t, mode: mode, wrap: func(fs vfs.FS) vfs.FS { return slowFS{fs} }}
			synctest.Test(t, func(t *testing.T) {
				c.t = t
				c.load(4, steps, uint64(mode))
			})
			images, err := c.checkAll(4, rand.New(rand.NewPCG(1, uint64(mode))))
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d messages, %d moments, %d images", len(c.messages), c.disk.Moment(), images)
		})
	}
}

// TestDirPause finds that what Update has written is durable after a while, although nothing else happens.
func TestDirPause(t *testing.T) {
	c := &crashTest{mode: syncLate, disk: crashfs.New()} // files are made later than that
	synctest.Test(t, func(t *testing.T) {
		c.t = t
		d, err := c.open(c.disk, slog.DiscardHandler)
		if err != nil {
			t.Fatal(err)
		}
		w := &crashWorker{crashTest: c, d: d, rng: rand.New(rand.NewPCG(3, 3))}
		w.pauseAfterUpdates(10)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := c.checkAll(0, rand.New(rand.NewPCG(3, 4))); err != nil {
		t.Error(err)
	}
}

// TestDirDone opens a directory with a message whose jobs are all done, and that was not removed. It does not come
// back, also if power is lost then.
func TestDirDone(t *testing.T) {
	f := newFaulty(t)
	if err := errors.Join(f.add(), f.d.Close()); err != nil {
		t.Fatal(err)
	}
	id := testID(1)
	disk := crashfs.New()
	disk.Put(messageFile(id), f.disk.Files()[messageFile(id)])
	disk.Put(stateFile(id), appendDone(appendDone(nil, JobID{id, 0}), JobID{id, 1}))
	c := crashTest{t: t, disk: disk}
	d, err := c.open(disk, f.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if images, err := c.checkAll(0, rand.New(rand.NewPCG(3, 4))); err != nil || images < 4 {
		t.Errorf("%d images, %v", images, err)
	}
}

// TestDirKilled kills the process at each operation on files, opens the directory again, and then loses power.
func TestDirKilled(t *testing.T) {
	stride := 4 // every mode comes in turn
	if testing.Short() || raceDetector {
		stride = 7
	}
	for at := 1; ; at += stride {
		c := &crashTest{t: t, mode: crashMode(at) % crashModes}
		killed, moment := false, 0
		synctest.Test(t, func(t *testing.T) {
			c.t = t
			killed, moment = c.loadKilledAt(at)
		})
		first := moment
		if !killed {
			first = 0
		}
		images := 0
		for img := range c.disk.Images(first, 2, rand.New(rand.NewPCG(2, uint64(at)))) {
			images++
			if err := c.check(img); err != nil {
				t.Fatalf("killed at operation %d, then power lost at moment %d, %s left of what was not synced: %v",
					at, img.Moment, img.How, err)
			}
		}
		if !killed {
			t.Logf("%d operations, %d messages, and %d images of the whole", at, len(c.messages), images)
			return
		}
	}
}

// loadKilledAt has one worker use a Dir until the process is killed at an operation, and opens the Dir again. It
// returns the moment between, and false if the worker has come to its end before.
func (c *crashTest) loadKilledAt(at int) (killed bool, moment int) {
	c.disk = crashfs.New()
	var mu sync.Mutex
	ops := 0
	c.disk.Fail(func(crashfs.Op) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if ops++; ops >= at {
			killed = true
			return 0, crashfs.ErrKilled
		}
		return 0, nil
	})
	w := &crashWorker{crashTest: c, rng: rand.New(rand.NewPCG(7, 7))}
	var err error
	if w.d, err = c.open(c.disk, slog.DiscardHandler); err == nil {
		w.run(30)
		w.pauseAfterUpdates(2)
		if !w.killed() {
			if err = w.d.Close(); err == nil {
				return false, 0
			}
			if !errors.Is(err, crashfs.ErrKilled) {
				c.t.Fatal(err)
			}
		}
	}
	moment = c.disk.Moment()
	alive := c.disk.Kill()
	if w.d != nil {
		_ = w.d.Close() // it was killed
	}
	alive.Fail(nil)
	if w.d, err = c.open(alive, slog.DiscardHandler); err != nil {
		c.t.Fatalf("killed at operation %d: %v", at, err)
	}
	w.lookAround()
	if err := w.d.Close(); err != nil {
		c.t.Fatalf("killed at operation %d: %v", at, err)
	}
	return true, moment
}
