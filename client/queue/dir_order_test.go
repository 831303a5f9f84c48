package queue

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/queue/internal/vfs"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

// A hookFS calls a function after each operation on a file, before its caller goes on.
type hookFS struct {
	vfs.FS
	hook *func(kind, name string)
}

type hookFile struct {
	vfs.File
	name string
	hook *func(kind, name string)
}

func (f hookFS) done(kind, name string) {
	if *f.hook != nil {
		(*f.hook)(kind, name)
	}
}

func (f hookFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	f.done("Create", name)
	return hookFile{file, name, f.hook}, err
}

func (f hookFS) Append(name string) (vfs.File, error) {
	file, err := f.FS.Append(name)
	f.done("Append", name)
	return hookFile{file, name, f.hook}, err
}

func (f hookFS) Remove(name string) error {
	err := f.FS.Remove(name)
	f.done("Remove", name)
	return err
}

func (f hookFile) done(kind string) {
	if *f.hook != nil {
		(*f.hook)(kind, f.name)
	}
}

func (f hookFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.done("Write")
	return n, err
}

func (f hookFile) SyncData() error {
	err := f.File.SyncData()
	f.done("SyncData")
	return err
}

func (f hookFile) Close() error {
	err := f.File.Close()
	f.done("Close")
	return err
}

// hooked returns a faulty with the usual limits, whose hook can be set while nothing is under way.
func hooked(t *testing.T) (f *faulty, hook *func(kind, name string)) {
	hook = new(func(kind, name string))
	f = &faulty{T: t, disk: crashfs.New(), log: new(errorLog)}
	var err error
	if f.d, err = OpenDir("", &DirOptions{Logger: slog.New(f.log), fs: hookFS{f.disk, hook}}); err != nil {
		t.Fatal(err)
	}
	return f, hook
}

// durable counts the jobs that are there after a loss of power now, at least.
func (f *faulty) durable() int {
	f.Helper()
	least := 1 << 30
	for img := range f.disk.Images(f.disk.Moment(), 20, rand.New(rand.NewPCG(1, 1))) {
		c := crashTest{mode: syncLate}
		d, err := c.open(img.FS, slog.DiscardHandler)
		if err != nil {
			f.Fatal(err)
		}
		jobs, _, err := d.List(context.Background(), Filter{}, JobID{}, 1000)
		if err := errors.Join(err, d.Close()); err != nil {
			f.Fatal(err)
		}
		least = min(least, len(jobs))
	}
	return least
}

// Close begins to sync files one by one while one has been written that is not synced.
func TestDirCloseWhileSettling(t *testing.T) {
	for _, kind := range []string{"Create", "Write", "Close", "Append"} {
		for _, suffix := range []string{".msg", ".state"} {
			f, hook := hooked(t)
			for range fewFiles + 1 { // otherwise it begins before
				if err := f.add(); err != nil {
					t.Fatal(err)
				}
			}
			if suffix == ".state" {
				one := JobID{testID(1), 0}
				if _, err := f.d.Edit(context.Background(), Filter{Job: &one}, Edit{Op: Drop}); err != nil {
					t.Fatal(err)
				}
			}
			*hook = func(k, name string) {
				if k == kind && strings.HasSuffix(name, suffix) {
					f.d.backlog.files.oneByOne()
				}
			}
			want := len(f.jobs())
			if err := f.d.Close(); err != nil {
				t.Fatal(err)
			}
			if n := f.durable(); n != want {
				t.Errorf("%s of %s: %d jobs are durable after Close, want %d", kind, suffix, n, want)
			}
		}
	}
}
