package queue

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// kill ends the process, and opens the Dir in another one.
func (f *faulty) kill() {
	f.Helper()
	f.disk = f.disk.Kill()
	_ = f.d.Close() // it was killed
	f.open()
}

// A message with an ID that was in use before outlives the records of the earlier one, which say that it is done.
func TestDirSameIDAgain(t *testing.T) {
	for _, before := range []int{100, journaledSize + 1} {
		for _, size := range []int{200, journaledSize + 2} {
			for _, settled := range []string{"none", "first", "both"} {
				f := newFaulty(t)
				settle := func(when ...string) {
					if slices.Contains(when, settled) {
						if err := f.d.settleNow(); err != nil {
							t.Fatal(err)
						}
					}
				}
				ctx, one := context.Background(), testID(1)
				add := func(size int) error {
					f.n = 0
					return f.d.Add(ctx, f.entry(size))
				}
				_, err := f.d.Edit(ctx, Filter{}, Edit{Op: Drop})
				if err := errors.Join(err, add(before)); err != nil {
					t.Fatal(err)
				}
				settle("first", "both")
				if _, err = f.d.Edit(ctx, Filter{Job: &JobID{one, 1}}, Edit{Op: Drop}); err != nil {
					t.Fatal(err)
				}
				settle("both")
				if n, err := f.d.Edit(ctx, Filter{}, Edit{Op: Drop}); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				if err := add(size); err != nil {
					t.Fatal(err)
				}
				if _, err := f.d.Edit(ctx, Filter{Job: &JobID{one, 0}}, Edit{Op: Drop}); err != nil {
					t.Fatal(err)
				}
				check := func(when string) {
					t.Helper()
					m, err := f.d.Message(ctx, one)
					if jobs := f.jobs(); len(jobs) != 1 || jobs[0][1] != 1 || err != nil || m.Size != int64(size) {
						t.Fatalf("%d octets after %d, settled: %s, %s: the jobs are %v, %v, %v",
							size, before, settled, when, jobs, m, err)
					}
				}
				check("at once")
				if n := f.durable(); n < 1 {
					t.Errorf("%d octets after %d, settled: %s: a loss of power takes it", size, before, settled)
				}
				settle("none", "both")
				check("in files")
				f.kill()
				check("after the process was killed")
				f.reopened()
				check("opened again")
			}
		}
	}
}

// What goes on while Close is called has happened when it returns, or has failed, and writes nothing afterwards.
func TestDirCloseWaits(t *testing.T) {
	for what, call := range map[string]func(d *Dir, l Lease, j *Job) error{
		"Update": func(d *Dir, l Lease, j *Job) error { return d.Update(context.Background(), l, []Change{{Job: j}}) },
		"Edit": func(d *Dir, _ Lease, _ *Job) error {
			_, err := d.Edit(context.Background(), Filter{}, Edit{Op: Hold})
			return err
		},
		"Message": func(d *Dir, _ Lease, _ *Job) error {
			_, err := d.Message(context.Background(), testID(2))
			return err
		},
		"Open": func(d *Dir, _ Lease, _ *Job) error {
			c, err := d.Open(context.Background(), testID(2))
			if err == nil {
				err = c.Close()
			}
			return err
		},
		"Take": func(d *Dir, l Lease, _ *Job) error {
			_, err := d.Take(context.Background(), l, Query{Max: 1, All: true})
			return err
		},
		"List": func(d *Dir, _ Lease, _ *Job) error {
			_, _, err := d.List(context.Background(), Filter{}, JobID{}, 100)
			return err
		},
		"Suspend": func(d *Dir, _ Lease, _ *Job) error {
			return d.Suspend(context.Background(), Suspension{Site: "a", Until: crashStart})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFaulty(t)
			if err := errors.Join(f.add(), f.add(), f.d.settleNow()); err != nil {
				t.Fatal(err)
			}
			l := f.lease()
			j := f.handOut(l, attempted)
			j.Edits = 1 // somebody has edited it meanwhile, so Update reads it
			inside, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			f.disk.Fail(nil)
			f.d.reader.fs = waitFS{f.d.fs, func() { once.Do(func() { close(inside); <-goOn }) }}
			f.d.suspensions.fs = f.d.reader.fs
			called, closed := make(chan error, 1), make(chan error, 1)
			go func() { called <- call(f.d, l, j) }()
			<-inside
			go func() { closed <- f.d.Close() }()
			synctest.Wait()
			select {
			case err := <-closed:
				t.Errorf("%s: Close has returned, %v", what, err)
				closed <- err
			default:
			}
			close(goOn)
			if err := <-called; err != nil && !errors.Is(err, errStoreClosed) {
				t.Errorf("%s: %v", what, err)
			}
			if err := <-closed; err != nil {
				t.Errorf("%s: Close: %v", what, err)
			}
		})
	}
}

// A waitFS calls wait before a file is opened to be read, or made.
type waitFS struct {
	vfs.FS
	wait func()
}

func (f waitFS) Open(name string) (vfs.File, error) {
	f.wait()
	return f.FS.Open(name)
}

func (f waitFS) Create(name string) (vfs.File, error) {
	f.wait()
	return f.FS.Create(name)
}

// Updates that add the same reports in another order, or one twice, do not wait for each other.
func TestDirSameReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty(t)
		var wg sync.WaitGroup
		reached := make(chan struct{})
		reports := func(numbers ...int) (entries []*Entry) {
			for i, n := range numbers {
				f.n = n - 1
				e := f.entry(100)
				if i == 0 {
					e.Content = &waitingReader{e.Content, reached}
				}
				entries = append(entries, e)
			}
			return entries
		}
		for _, entries := range [][]*Entry{reports(1, 2), reports(2, 1), reports(3, 3)} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // of the bubble
				defer cancel()
				if err := f.d.addAll(ctx, entries); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(reached)
		wg.Wait()
		if jobs := f.jobs(); len(jobs) != 6 {
			t.Errorf("the jobs are %v", jobs)
		}
		if err := f.d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A waitingReader reads when it may.
type waitingReader struct {
	io.Reader
	may <-chan struct{}
}

func (r *waitingReader) Read(b []byte) (int, error) {
	<-r.may
	return r.Reader.Read(b)
}

// A message that is done, and added again with the same ID, while it is read is not taken for one that is lost.
func TestDirSameIDWhileReading(t *testing.T) {
	ctx, one := context.Background(), testID(1)
	for what, read := range map[string]func(*Dir) error{
		"Message": func(d *Dir) error {
			_, err := d.Message(ctx, one)
			return err
		},
		"Open": func(d *Dir) error {
			c, err := d.Open(ctx, one)
			if err == nil && c.Size() != 100 {
				t.Errorf("it has %d octets", c.Size())
			}
			return err
		},
	} {
		f := newFaulty(t)
		if err := errors.Join(f.add(), f.d.settleNow()); err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		f.d.reader.fs = waitFS{f.d.fs, func() {
			once.Do(func() {
				_, err := f.d.Edit(ctx, Filter{}, Edit{Op: Drop})
				f.n = 0
				if err := errors.Join(err, f.d.settleNow(), f.add()); err != nil {
					t.Fatal(err)
				}
			})
		}}
		if err := read(f.d); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if jobs := f.jobs(); len(jobs) != 2 || f.log.first != "" {
			t.Errorf("%s: the jobs are %v, logged %q", what, jobs, f.log.first)
		}
		f.reopened()
	}
}

// A message is added while an earlier one with the same ID, which is done, is removed from its files.
func TestDirSameIDWhileSettling(t *testing.T) {
	f, hook := hooked(t)
	if err := errors.Join(f.add(), f.d.settleNow()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.Edit(context.Background(), Filter{}, Edit{Op: Drop}); err != nil {
		t.Fatal(err)
	}
	f.n = 0
	e := f.entry(100)
	added := make(chan error, 1)
	*hook = func(kind, name string) {
		if kind == "Remove" && strings.HasSuffix(name, ".state") {
			go func() { added <- f.d.Add(context.Background(), e) }()
			letOthersWrite() // that should not be possible now
		}
	}
	if err := f.d.settleNow(); err != nil {
		t.Fatal(err)
	}
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	*hook = nil
	if err := f.d.settleNow(); err != nil {
		t.Fatal(err)
	}
	if jobs := f.jobs(); len(jobs) != 2 || f.log.first != "" {
		t.Errorf("the jobs are %v, logged %q", jobs, f.log.first)
	}
	f.reopened()
}

// A job that is done stays so when power is lost while the files of its message are removed, and afterwards.
func TestDirDoneStaysDone(t *testing.T) {
	f, _ := hooked(t)
	ctx, one := context.Background(), testID(1)
	if err := f.add(); err != nil {
		t.Fatal(err)
	}
	if n, err := f.d.Edit(ctx, Filter{Job: &JobID{one, 0}}, Edit{Op: Drop}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.reopened() // in files, and not in the journal
	most := func(from int, why string) {
		t.Helper()
		for img := range f.disk.Images(from, 3, rand.New(rand.NewPCG(1, 1))) {
			d, err := (&crashTest{mode: syncLate}).open(img.FS, slog.DiscardHandler)
			if err != nil {
				t.Fatal(err)
			}
			jobs, _, err := d.List(ctx, Filter{}, JobID{}, 10)
			if err := errors.Join(err, d.Close()); err != nil {
				t.Fatal(err)
			}
			for _, l := range jobs {
				if l.Job.ID.N == 0 || why == "synced" {
					t.Errorf("%s, power lost at moment %d: job %s is back", why, img.Moment, l.Job.ID)
				}
			}
		}
	}
	from := f.disk.Moment()
	if _, err := f.d.edit(JobID{one, 1}, &Filter{}, Edit{Op: Drop}); err != nil { // it does not sync
		t.Fatal(err)
	}
	if err := f.d.settleNow(); err != nil {
		t.Fatal(err)
	}
	most(from, "not synced")
	if err := f.d.backlog.syncAll(); err != nil {
		t.Fatal(err)
	}
	from = f.disk.Moment()
	if err := f.d.Close(); err != nil {
		t.Fatal(err)
	}
	most(from, "synced")
}
