package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/queue/internal/vfs"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

// What cannot get into files now is in the journal, is read from there, and gets into files later, also behind a line
// that was written in part.
func TestDirSettleFails(t *testing.T) {
	for _, tt := range []struct {
		kind, suffix string
		err          error
		written      int
	}{
		{"Create", ".msg", syscall.EMFILE, 0},
		{"Write", ".msg", syscall.ENOSPC, 0},
		{"Write", ".msg", syscall.ENOSPC, 50},
		{"Append", ".state", syscall.EMFILE, 0},
		{"Write", ".state", syscall.ENOSPC, 0},
		{"Write", ".state", syscall.EIO, 25},
		{"Remove", ".msg", syscall.EACCES, 0},
		{"Remove", ".state", syscall.EACCES, 0},
	} {
		what := fmt.Sprint(tt.kind, " ", tt.suffix, ", ", tt.written)
		f := newFaulty(t)
		if err := errors.Join(f.add(), f.add()); err != nil {
			t.Fatal(err)
		}
		l := f.lease()
		update := func(change func(*Job)) {
			if err := f.d.Update(context.Background(), l, []Change{{Job: f.handOut(l, change)}}); err != nil {
				t.Fatal(err)
			}
		}
		update(attempted)
		if tt.kind == "Remove" {
			// Both files are there, and the message is done.
			update(attempted)
			f.messageFiles()
			one := testID(1)
			if n, err := f.d.Edit(context.Background(), Filter{IDs: []ID{one}}, Edit{Op: Drop}); n != 2 || err != nil {
				t.Fatal(n, err)
			}
		}
		before := f.jobs()
		f.fail(tt.kind, tt.suffix, tt.err, tt.written)
		if err := f.d.settleNow(); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", what, err, tt.err)
		}
		if jobs := f.jobs(); !slices.Equal(jobs, before) {
			t.Errorf("%s: the jobs are %v, want %v", what, jobs, before)
		}
		if err := f.d.Close(); !errors.Is(err, tt.err) {
			t.Errorf("%s: Close: %v, want %v", what, err, tt.err)
		}
		f.disk.Fail(nil)
		f.open()
		if jobs := f.jobs(); !slices.Equal(jobs, before) {
			t.Errorf("%s: after it was opened again the jobs are %v, want %v", what, jobs, before)
		}
		l = f.lease()
		update(attempted)
		f.reopened()
		want := 2
		if tt.kind == "Remove" {
			want = 1
		}
		messages := slices.DeleteFunc(f.messageFiles(), func(name string) bool { return !strings.HasSuffix(name, ".msg") })
		if len(messages) != want {
			t.Errorf("%s: there are the files %v, want %d messages", what, messages, want)
		}
	}
}

// When the disk is full, the journal takes messages until it is full itself. Then it refuses them, but takes outcomes.
// When there is room again it goes on by itself.
func TestDirJournalFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty(t)
		f.fail("Write", ".msg", syscall.ENOSPC, 0)
		var err error
		n := 0
		for ; err == nil && n < 1000; n++ {
			err = f.d.Add(context.Background(), f.entry(600))
		}
		wantTemporary(t, "Add", err, true)
		if n < 10 || n > 40 {
			t.Errorf("the %d. message was refused", n)
		}
		if !strings.Contains(f.log.first, "safe in its journal") || !strings.Contains(f.log.first, syscall.ENOSPC.Error()) {
			t.Errorf("logged %q", f.log.first)
		}
		if jobs := f.jobs(); len(jobs) != 2*(n-1) {
			t.Errorf("%d jobs, want 2 of each of %d messages", len(jobs), n-1)
		}
		l := f.lease()
		if err := f.d.Update(context.Background(), l, []Change{{Job: f.handOut(l, attempted)}}); err != nil {
			t.Errorf("Update: %v", err)
		}
		f.disk.Fail(nil)
		time.Sleep(2 * retryDelay) // of the bubble
		for range 100 {
			if err := f.d.Add(context.Background(), f.entry(600)); err != nil {
				t.Fatal(err)
			}
		}
		f.reopened()
		if err := f.d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A message that cannot be read when the directory is opened keeps what the journal has of it, also behind a line that
// was written in part.
func TestDirUnreadableWithTornState(t *testing.T) {
	f := newFaulty(t)
	if err := f.add(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.reopened()
		l := f.lease()
		if err := f.d.Update(context.Background(), l, []Change{{Job: f.handOut(l, attempted)}}); err != nil {
			t.Fatal(err)
		}
	}
	f.fail("Write", ".state", syscall.ENOSPC, 30)
	if err := f.d.settleNow(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	want := f.jobs()
	f.disk = f.disk.Kill()
	_ = f.d.Close() // it was killed
	f.fail("ReadAt", ".msg", syscall.EIO, 0)
	f.open()
	if jobs := f.jobs(); len(jobs) != 0 {
		t.Fatal(jobs)
	}
	f.disk.Fail(nil)
	if err := f.d.Close(); err != nil {
		t.Fatal(err)
	}
	f.open()
	if jobs := f.jobs(); !slices.Equal(jobs, want) {
		t.Errorf("the jobs are %v, want %v", jobs, want)
	}
}

// A countFS counts the files that are open.
type countFS struct {
	vfs.FS
	open *atomic.Int64
}

type countFile struct {
	vfs.File
	open *atomic.Int64
}

func (f countFS) count(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	f.open.Add(1)
	return countFile{file, f.open}, nil
}

func (f countFS) Create(name string) (vfs.File, error) { return f.count(f.FS.Create(name)) }

func (f countFS) Append(name string) (vfs.File, error) { return f.count(f.FS.Append(name)) }

func (f countFS) Open(name string) (vfs.File, error) { return f.count(f.FS.Open(name)) }

func (f countFile) Close() error {
	f.open.Add(-1)
	return f.File.Close()
}

// Neither Close, nor an OpenDir that fails, leaves a file open.
func TestDirClosesFiles(t *testing.T) {
	f := newFaulty(t)
	for range 40 {
		if err := f.d.Add(context.Background(), f.entry(600)); err != nil {
			t.Fatal(err)
		}
	}
	disk := f.disk.Kill()
	_ = f.d.Close() // it was killed
	for _, fault := range []string{"ReadAt journal.", "Open suspended", "SyncDir .", "Remove journal.", ""} {
		seen := 0
		disk.Fail(func(op crashfs.Op) (int, error) {
			if fault == "" || !strings.HasPrefix(op.Kind+" "+op.Name, fault) {
				return 0, nil
			}
			// Not the first blocks, nor what OpenDir begins with.
			if seen++; op.Kind == "ReadAt" && seen < 6 || op.Kind == "SyncDir" && seen < 2 {
				return 0, nil
			}
			return 0, syscall.EIO
		})
		var open atomic.Int64
		c := crashTest{wrap: func(fs vfs.FS) vfs.FS { return countFS{fs, &open} }}
		d, err := c.open(disk, f.log)
		if err == nil {
			err = d.Close()
		}
		if (err != nil) != (fault != "") || open.Load() != 0 {
			t.Errorf("%q fails: %v, and %d files are open", fault, err, open.Load())
		}
		disk = disk.Kill()
	}
}

// A file that was made in part, and cannot be removed now, is removed later, also if the message is done meanwhile.
func TestDirHalfMadeFile(t *testing.T) {
	f := newFaulty(t)
	if err := f.add(); err != nil {
		t.Fatal(err)
	}
	f.disk.Fail(func(op crashfs.Op) (int, error) {
		if (op.Kind == "Write" || op.Kind == "Remove") && strings.HasSuffix(op.Name, ".msg") {
			return 50, syscall.EROFS
		}
		return 0, nil
	})
	if err := f.d.settleNow(); !errors.Is(err, syscall.EROFS) {
		t.Fatal(err)
	}
	f.disk.Fail(nil)
	if n, err := f.d.Edit(context.Background(), Filter{}, Edit{Op: Drop}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if files := f.messageFiles(); len(files) != 0 {
		t.Errorf("there are the files %v", files)
	}
	f.reopened()
}

// Outcomes and edits that wait to get into files take no more memory than they should, and are read from the journal.
func TestDirManyLines(t *testing.T) {
	f := newFaulty(t)
	f.fail("Append", ".state", syscall.EMFILE, 0)
	for range 40 {
		if err := f.add(); err != nil {
			t.Fatal(err)
		}
	}
	why := strings.Repeat("why ", 300)
	if n, err := f.d.Edit(context.Background(), Filter{}, Edit{Op: Hold, Why: why}); n != 80 || err != nil {
		t.Fatal(n, err)
	}
	bl := f.d.backlog
	bl.mu.Lock()
	octets, limit := bl.list.octets, bl.limits.held
	bl.mu.Unlock()
	if octets > limit {
		t.Errorf("%d octets are in memory, want at most %d", octets, limit)
	}
	check := func(when string) {
		t.Helper()
		listed, _, err := f.d.List(context.Background(), Filter{}, JobID{}, 1000)
		if err != nil || len(listed) != 80 {
			t.Fatalf("%s: %d jobs, %v", when, len(listed), err)
		}
		for _, l := range listed {
			if l.Job.State != Held || l.Job.Why != why {
				t.Errorf("%s: job %s is %v, %.20q", when, l.Job.ID, l.Job.State, l.Job.Why)
			}
		}
	}
	check("in the journal")
	f.disk.Fail(nil)
	f.kill()
	check("after the process was killed")
	if err := f.d.settleNow(); err != nil {
		t.Fatal(err)
	}
	check("in files")
	f.reopened()
	check("opened again")
}

// A damaged message is not lost when power is lost after it was put aside.
func TestDirDamagedIsDurable(t *testing.T) {
	disk := crashfs.New()
	name := messageFile(testID(1))
	disk.Put(name, []byte("no message"))
	f := &faulty{T: t, disk: disk, log: new(errorLog)}
	f.open()
	if err := f.d.Close(); err != nil {
		t.Fatal(err)
	}
	for img := range disk.Images(disk.Moment(), 10, rand.New(rand.NewPCG(1, 1))) {
		files := img.FS.Files()
		if string(files[name])+string(files["damaged/"+name]) != "no message" {
			t.Errorf("%s left of what was not synced: there are the files %v", img.How, files)
		}
	}
}

// A length that is negative is damage.
func TestDirNegativeLength(t *testing.T) {
	f := newFaulty(t)
	if err := errors.Join(f.add(), f.d.Close()); err != nil {
		t.Fatal(err)
	}
	name := messageFile(testID(1))
	b := f.disk.Files()[name]
	line := fmt.Sprintf("smtpkit queue 1, head -000000001 00000000, content %019d 00000000\n", len(b)-lineLength+1)
	f.disk = crashfs.New()
	f.disk.Put(name, append([]byte(line), b[lineLength:]...))
	f.open()
	if jobs := f.jobs(); len(jobs) != 0 || !strings.Contains(f.log.first, "put aside") {
		t.Errorf("the jobs are %v, logged %q", jobs, f.log.first)
	}
	f.reopened()
}

// Messages get into files when they have waited, also when nothing else happens.
func TestDirSettlesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty(t)
		for n := range 3 {
			time.Sleep(time.Minute) // of the bubble
			if err := f.add(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if _, ok := f.disk.Files()[messageFile(testID(n+1))]; !ok {
				t.Errorf("message %d has no file", n+1)
			}
		}
		if err := f.d.Close(); err != nil {
			t.Error(err)
		}
	})
}
