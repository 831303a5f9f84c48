package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"smtpkit.example/smtp/client/queue/internal/journal"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

// A faulty is a Dir on a disk on which operations can fail.
type faulty struct {
	*testing.T
	disk *crashfs.FS
	log  *errorLog
	d    *Dir
	// n numbers the messages.
	n int
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{T: t, disk: crashfs.New(), log: new(errorLog)}
	f.open()
	return f
}

func (f *faulty) open() {
	f.Helper()
	c := crashTest{mode: syncOneByOne}
	d, err := c.open(f.disk, f.log)
	if err != nil {
		f.Fatal(err)
	}
	f.d = d
}

// fail has operations of a kind fail, on files whose name ends so, after some octets.
func (f *faulty) fail(kind, suffix string, err error, written int) {
	f.disk.Fail(func(op crashfs.Op) (int, error) {
		if op.Kind == kind && strings.HasSuffix(op.Name, suffix) {
			return written, err
		}
		return 0, nil
	})
}

func (f *faulty) entry(size int) *Entry {
	f.n++
	id := testID(f.n)
	to := func(local string) []Recipient {
		var r Recipient
		r.Address.Local = local
		return []Recipient{r, r}
	}
	return &Entry{
		Message: &Message{ID: id, Arrived: crashStart},
		Jobs: []*Job{{ID: JobID{id, 0}, Destination: "a.example", To: to("a"), Due: crashStart, Alarm: crashStart},
			{ID: JobID{id, 1}, Destination: "b.example", To: to("b"), Due: crashStart, Alarm: crashStart}},
		Content: bytes.NewReader(make([]byte, size)),
	}
}

func (f *faulty) add() error { return f.d.Add(context.Background(), f.entry(100)) }

// jobs returns the IDs of all jobs, with the number of their recipients and attempts.
func (f *faulty) jobs() (jobs [][4]int) {
	f.Helper()
	listed, _, err := f.d.List(context.Background(), Filter{}, JobID{}, 1000)
	if err != nil {
		f.Fatal(err)
	}
	for _, l := range listed {
		jobs = append(jobs, [4]int{int(l.Message.ID[10]), l.Job.ID.N, len(l.Job.To), l.Job.Attempts})
	}
	return jobs
}

// reopened closes the Dir and opens it again, and finds the same jobs.
func (f *faulty) reopened() {
	f.Helper()
	before := f.jobs()
	f.disk.Fail(nil)
	_ = f.d.Close() // it fails after a sync that has failed
	f.open()
	if after := f.jobs(); !slices.Equal(before, after) {
		f.Errorf("after it was opened again there are %v, want %v", after, before)
	}
}

func wantTemporary(t *testing.T, what string, err error, temporary bool) {
	t.Helper()
	var x interface{ Temporary() bool }
	if err == nil || !errors.As(err, &x) || x.Temporary() != temporary || !strings.HasPrefix(err.Error(), "smtp: the queue cannot ") {
		t.Errorf("%s: %v, want an error that is temporary: %t", what, err, temporary)
	}
}

// messageFiles returns the names of all files but those of the journal.
func (f *faulty) messageFiles() (names []string) {
	f.Helper()
	if err := f.d.settleNow(); err != nil {
		f.Fatal(err)
	}
	for name := range f.disk.Files() {
		if !journal.IsName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// A message that cannot be written is refused, leaves nothing, and the next one is taken.
func TestDirAddFails(t *testing.T) {
	for _, tt := range []struct {
		kind, suffix string
		err          error
		written      int
		temporary    bool
		size         int
	}{
		{"WriteAt", "journal.1", syscall.ENOSPC, 0, true, 100},
		{"WriteAt", "journal.1", syscall.ENOSPC, 50, true, 100},
		{"WriteAt", "journal.1", syscall.EDQUOT, 512, true, 100},
		{"WriteAt", "journal.1", syscall.EIO, 1, false, 100},
		{"Create", "journal.2", syscall.EMFILE, 0, true, 6000},
		{"Create", "journal.2", syscall.ENFILE, 0, true, 6000},
		{"Create", "journal.2", syscall.ENOSPC, 0, true, 6000},
		{"Create", "journal.2", syscall.EROFS, 0, false, 6000},
		{"WriteAt", "journal.2", syscall.ENOSPC, 100, true, 6000},
		{"Create", ".tmp", syscall.EMFILE, 0, true, journaledSize + 1},
		{"Create", ".tmp", syscall.ENOSPC, 0, true, journaledSize + 1},
		{"Create", ".tmp", syscall.EACCES, 0, false, journaledSize + 1},
		{"Write", ".tmp", syscall.ENOSPC, 0, true, journaledSize + 1},
		{"Write", ".tmp", syscall.ENOSPC, 50, true, journaledSize + 1},
		{"Write", ".tmp", syscall.EDQUOT, 512, true, journaledSize + 1},
		{"Write", ".tmp", syscall.EIO, 1, false, journaledSize + 1},
		{"WriteAt", ".tmp", syscall.ENOSPC, 0, true, journaledSize + 1},
		{"Rename", ".tmp", syscall.ENOSPC, 0, true, journaledSize + 1},
		{"Rename", ".tmp", syscall.EIO, 0, false, journaledSize + 1},
	} {
		what := fmt.Sprint(tt.kind, " ", tt.suffix, ", ", tt.err)
		f := newFaulty(t)
		if err := f.add(); err != nil {
			t.Fatal(err)
		}
		f.fail(tt.kind, tt.suffix, tt.err, tt.written)
		e := f.entry(tt.size)
		err := f.d.Add(context.Background(), e)
		wantTemporary(t, what, err, tt.temporary)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want one that wraps %v", what, err, tt.err)
		}
		f.disk.Fail(nil)
		if files := f.messageFiles(); !slices.Equal(files, []string{messageFile(testID(1))}) {
			t.Errorf("%s: there are the files %v", what, files)
		}
		e.Content = bytes.NewReader(make([]byte, 10))
		if err := f.d.Add(context.Background(), e); err != nil {
			t.Errorf("%s: once more: %v", what, err)
		}
		if n := len(f.jobs()); n != 4 {
			t.Errorf("%s: %d jobs, want 4", what, n)
		}
		f.reopened()
	}
}

// A sync that fails is final, is logged, and nothing that was accepted is lost.
func TestDirSyncFails(t *testing.T) {
	for _, tt := range []struct {
		kind, suffix string
		size         int
	}{
		{"SyncData", "journal.1", 100},
		{"SyncData", "journal.2", 6000},
		{"SyncDir", ".", 6000},
		{"Sync", ".tmp", journaledSize + 1},
		{"SyncDir", ".", journaledSize + 1},
	} {
		f := newFaulty(t)
		if err := f.add(); err != nil {
			t.Fatal(err)
		}
		l, _, err := f.d.ClaimOne(context.Background(), "a.example")
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := f.d.Take(context.Background(), l, Query{Max: 1, All: true})
		if err != nil || len(jobs) != 1 {
			t.Fatal(jobs, err)
		}
		f.fail(tt.kind, tt.suffix, syscall.EIO, 0)
		wantTemporary(t, tt.kind, f.d.Add(context.Background(), f.entry(tt.size)), false)
		if !strings.Contains(f.log.first, "takes no more mail") || !strings.Contains(f.log.first, syscall.EIO.Error()) {
			t.Errorf("%s: logged %q", tt.kind, f.log.first)
		}
		f.disk.Fail(nil) // the next sync would succeed, and tell nothing of what was lost
		wantTemporary(t, "Add", f.add(), false)
		jobs[0].To = nil
		wantTemporary(t, "Update", f.d.Update(context.Background(), l, []Change{{Job: jobs[0]}}), false)
		_, err = f.d.Take(context.Background(), l, Query{Max: 1, All: true})
		wantTemporary(t, "Take", err, false)
		_, err = f.d.Edit(context.Background(), Filter{}, Edit{Op: Hold})
		wantTemporary(t, "Edit", err, false)
		wantTemporary(t, "Suspend", f.d.Suspend(context.Background(), Suspension{Site: "a", Until: crashStart}), false)
		if n := len(f.jobs()); n != 2 {
			t.Errorf("%s: %d jobs, want 2", tt.kind, n)
		}
		if err := f.d.Close(); err == nil {
			t.Errorf("%s: Close says nothing", tt.kind)
		}
		f.open()
		// The message that was not made durable may be there, and its sender tries again.
		if jobs := f.jobs(); len(jobs) < 2 {
			t.Errorf("%s: %v is left", tt.kind, jobs)
		}
		if err := f.add(); err != nil {
			t.Errorf("%s: after it was opened again: %v", tt.kind, err)
		}
		f.reopened()
	}
}

// handOut returns the first job for a.example, and changes it.
func (f *faulty) handOut(l Lease, change func(*Job)) *Job {
	f.Helper()
	jobs, err := f.d.Take(context.Background(), l, Query{Max: 1, All: true})
	if err != nil || len(jobs) != 1 {
		f.Fatal(jobs, err)
	}
	change(jobs[0])
	return jobs[0]
}

func (f *faulty) lease() Lease {
	f.Helper()
	l, ok, err := f.d.ClaimOne(context.Background(), "a.example")
	if err != nil || !ok {
		f.Fatal(ok, err)
	}
	return l
}

func attempted(j *Job) {
	j.Attempts++
	j.To = j.To[:1]
}

// An outcome that cannot be written is an error, and can be written later.
func TestDirUpdateFails(t *testing.T) {
	for _, tt := range []struct {
		err       error
		written   int
		temporary bool
		to        int
	}{
		{syscall.ENOSPC, 0, true, 1},
		{syscall.ENOSPC, 25, true, 1},
		{syscall.ENOSPC, 25, true, 0},
		{syscall.EROFS, 0, false, 0},
		{syscall.EIO, 25, false, 1},
	} {
		f := newFaulty(t)
		if err := f.add(); err != nil {
			t.Fatal(err)
		}
		l := f.lease()
		if err := f.d.Update(context.Background(), l, []Change{{Job: f.handOut(l, attempted)}}); err != nil {
			t.Fatal(err)
		}
		j := f.handOut(l, func(j *Job) {
			j.Attempts++
			j.To = j.To[:tt.to]
		})
		f.fail("WriteAt", "journal.1", tt.err, tt.written)
		wantTemporary(t, tt.err.Error(), f.d.Update(context.Background(), l, []Change{{Job: j}}), tt.temporary)
		f.disk.Fail(nil)
		if err := f.d.Update(context.Background(), l, []Change{{Job: j}}); err != nil {
			t.Fatal(err)
		}
		if jobs := f.jobs(); len(jobs) != 1+tt.to || tt.to > 0 && jobs[0] != [4]int{jobs[0][0], 0, 1, 2} {
			t.Errorf("%v, %d octets: the jobs are %v", tt.err, tt.written, jobs)
		}
		f.reopened()
	}
}

// A job that cannot be read now is handed out later.
func TestDirTakeFails(t *testing.T) {
	f := newFaulty(t)
	if err := errors.Join(f.add(), f.add(), f.add(), f.d.settleNow()); err != nil {
		t.Fatal(err)
	}
	l := f.lease()
	opened := 0
	f.disk.Fail(func(op crashfs.Op) (int, error) {
		if op.Kind == "Open" {
			if opened++; opened > 1 {
				return 0, syscall.EMFILE
			}
		}
		return 0, nil
	})
	jobs, err := f.d.Take(context.Background(), l, Query{Max: 3, All: true})
	if len(jobs) != 1 || err != nil {
		t.Errorf("Take: %d jobs, %v, want the one that could be read", len(jobs), err)
	}
	_, err = f.d.Take(context.Background(), l, Query{Max: 3, All: true})
	wantTemporary(t, "Take", err, true)
	f.disk.Fail(nil)
	jobs, err = f.d.Take(context.Background(), l, Query{Max: 3, All: true})
	if len(jobs) != 2 || err != nil {
		t.Errorf("Take: %d jobs, %v, want the two that are left", len(jobs), err)
	}
	f.reopened()
}

// The error of the content, and of the context, are returned as they are.
func TestDirContentFails(t *testing.T) {
	f := newFaulty(t)
	e := f.entry(0)
	gone := errors.New("the client is gone")
	e.Content = io.MultiReader(bytes.NewReader(make([]byte, 2*journaledSize)), iotest.ErrReader(gone))
	if err := f.d.Add(context.Background(), e); err != gone {
		t.Errorf("Add: %v, want %v", err, gone)
	}
	if files := f.disk.Files(); len(files) != 0 {
		t.Errorf("there are the files %v", files)
	}
	f.reopened()
}

// Files that are damaged are put aside, logged, and everything else is there.
func TestDirDamaged(t *testing.T) {
	for name, damage := range map[string]func(file []byte) []byte{
		"cut":          func(b []byte) []byte { return b[:len(b)-1] },
		"empty":        func([]byte) []byte { return nil },
		"longer":       func(b []byte) []byte { return append(b, 0) },
		"first line":   func(b []byte) []byte { b[0] = 'S'; return b },
		"length":       func(b []byte) []byte { b[28] = '9'; return b },
		"head":         func(b []byte) []byte { b[lineLength+5] ^= 1; return b },
		"zeros":        func(b []byte) []byte { clear(b); return b },
		"another name": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("0020000000000"), []byte("0020000000001")) },
	} {
		f := newFaulty(t)
		for range 3 {
			if err := f.add(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.d.Close(); err != nil {
			t.Fatal(err)
		}
		disk := crashfs.New()
		damaged := messageFile(testID(2))
		for file, b := range f.disk.Files() {
			if file == damaged {
				b = damage(b)
			}
			disk.Put(file, b)
		}
		f.disk = disk
		f.open()
		if n := len(f.jobs()); n != 4 {
			t.Errorf("%s: %d jobs, want 4", name, n)
		}
		if !strings.Contains(f.log.first, "damaged/"+damaged) {
			t.Errorf("%s: logged %q", name, f.log.first)
		}
		files := f.disk.Files()
		if _, ok := files["damaged/"+damaged]; !ok || len(files) != 3 {
			t.Errorf("%s: there are the files %v", name, files)
		}
		f.reopened()
	}
}

// A content that is damaged is not delivered: the message is put aside when it is read.
func TestDirDamagedContent(t *testing.T) {
	f := newFaulty(t)
	if err := errors.Join(f.add(), f.add(), f.d.Close()); err != nil {
		t.Fatal(err)
	}
	disk := crashfs.New()
	for file, b := range f.disk.Files() {
		if file == messageFile(testID(1)) {
			b[len(b)-7] ^= 1
		}
		disk.Put(file, b)
	}
	f.disk = disk
	f.open()
	if c, err := f.d.Open(context.Background(), testID(1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open: %v, %v", c, err)
	}
	if n := len(f.jobs()); n != 2 || !strings.Contains(f.log.first, "checksum of the content") {
		t.Errorf("%d jobs, logged %q", n, f.log.first)
	}
	f.reopened()
}

// A file of which nothing can be read now stays where it is.
func TestDirUnreadable(t *testing.T) {
	f := newFaulty(t)
	if err := errors.Join(f.add(), f.add(), f.d.Close()); err != nil {
		t.Fatal(err)
	}
	f.fail("ReadAt", messageFile(testID(1)), syscall.EIO, 0)
	f.open()
	if n := len(f.jobs()); n != 2 || !strings.Contains(f.log.first, "stays where it is") {
		t.Errorf("%d jobs, logged %q", n, f.log.first)
	}
	f.disk.Fail(nil)
	f.n = 0
	wantTemporary(t, "Add of the same message", f.add(), true)
	if err := f.d.Close(); err != nil {
		t.Fatal(err)
	}
	f.open()
	if n := len(f.jobs()); n != 4 {
		t.Errorf("%d jobs, want all 4", n)
	}
}

// Two processes cannot use one directory, and suspensions outlive one.
func TestDirInUse(t *testing.T) {
	path := t.TempDir()
	d, err := OpenDir(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(path, nil); err != ErrInUse {
		t.Errorf("the second OpenDir: %v, want ErrInUse", err)
	}
	s := Suspension{Site: "a.example", Until: crashStart.Add(time.Hour), Why: "too many complaints"}
	if err := errors.Join(d.Suspend(context.Background(), s), d.Close()); err != nil {
		t.Fatal(err)
	}
	if octets, ok := d.Free(); ok && octets <= 0 {
		t.Errorf("%d octets are free", octets)
	}
	if d, err = OpenDir(path, nil); err != nil {
		t.Fatal(err)
	}
	notes, err := d.Suspended(context.Background(), crashStart)
	if err != nil || !slices.Equal(notes, []Suspension{s}) {
		t.Errorf("Suspended: %v, %v", notes, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
