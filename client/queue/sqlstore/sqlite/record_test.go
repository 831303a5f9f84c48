package sqlite

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ncruces/go-sqlite3/vfs"

	"smtpkit.example/smtp/client/queue"
)

// A disk is a VFS of SQLite that records what is written, and does not sync. What was not synced survives a loss of
// power by chance only, as do names in the directory: see image. Above it are the files of this package.
type disk struct {
	vfs.VFSFilename // that of the operating system

	mu  sync.Mutex
	log []event
	// fail returns the error of an operation on a file, or nil. It may be nil.
	fail func(op operation, file string) error
	// reading is called before the next read of the database or its log, if it is not nil.
	reading atomic.Pointer[func()]
}

// An event is an operation on a file, or something that the test has seen.
type event struct {
	op   operation
	file string // without its directory
	off  int64  // or the size
	data []byte
	id   queue.ID
}

type operation int

const (
	created operation = iota
	written
	truncated
	synced
	removed
	directorySynced
	addBegins
	added
	doneBegins
	done
)

// newDisk returns a disk under a name for the parameter vfs of a data source name.
func newDisk(t testing.TB) (d *disk, name string) {
	d = &disk{VFSFilename: vfs.Find("os").(vfs.VFSFilename)}
	name = t.Name()
	vfs.Register(name, system{d})
	t.Cleanup(func() { vfs.Unregister(name) })
	return d, name
}

func (d *disk) record(e event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, e)
}

// events returns what was recorded.
func (d *disk) events() []event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log
}

// try records an operation, unless it is to fail.
func (d *disk) try(e event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(e.op, e.file); err != nil {
			return err
		}
	}
	d.log = append(d.log, e)
	return nil
}

func (d *disk) setFail(fail func(op operation, file string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

// beforeRead has f be called once, before the next read of the database or its log.
func (d *disk) beforeRead(f func()) { d.reading.Store(&f) }

func (d *disk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	_, err := os.Stat(name.String())
	f, flags, err2 := d.VFSFilename.OpenFilename(name, flags)
	if err2 != nil || name.String() == "" {
		return f, flags, err2
	}
	if err != nil {
		d.record(event{op: created, file: filepath.Base(name.String())})
	}
	const logs = vfs.OPEN_MAIN_JOURNAL | vfs.OPEN_SUPER_JOURNAL | vfs.OPEN_WAL
	syncs := flags&logs != 0 && flags&vfs.OPEN_CREATE != 0
	return &recordedFile{f, d, filepath.Base(name.String()), syncs}, flags, nil
}

func (d *disk) Delete(name string, syncDir bool) error {
	err := d.VFSFilename.Delete(name, false)
	if err == nil {
		d.record(event{op: removed, file: filepath.Base(name)})
	}
	if syncDir {
		d.record(event{op: directorySynced})
	}
	return err
}

type recordedFile struct {
	vfs.File
	disk *disk
	name string
	// syncsDirectory has the next Sync be one of the directory too, as the VFS of the operating system does.
	syncsDirectory bool
}

func (f *recordedFile) ReadAt(b []byte, off int64) (int, error) {
	if do := f.disk.reading.Swap(nil); do != nil {
		(*do)()
	}
	return f.File.ReadAt(b, off)
}

func (f *recordedFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.disk.try(event{op: written, file: f.name, off: off, data: slices.Clone(b)}); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f *recordedFile) Truncate(size int64) error {
	f.disk.record(event{op: truncated, file: f.name, off: size})
	return f.File.Truncate(size)
}

func (f *recordedFile) Sync(vfs.SyncFlag) error {
	if err := f.disk.try(event{op: synced, file: f.name}); err != nil {
		return err
	}
	if f.syncsDirectory {
		f.disk.record(event{op: directorySynced})
		f.syncsDirectory = false
	}
	return nil
}

func (f *recordedFile) SharedMemory() vfs.SharedMemory {
	return f.File.(vfs.FileSharedMemory).SharedMemory()
}

func (f *recordedFile) LockState() vfs.LockLevel { return f.File.(vfs.FileLockState).LockState() }

// A loss is what becomes of writes that were not synced.
type loss int

const (
	lost      loss = iota // all of them
	kept                  // none of them
	torn                  // the last one ends at a sector of 512 octets
	scattered             // any of them, in any order
	losses
)

// image makes files as they may be after a loss of power, when the first events of a log had happened.
func image(t *testing.T, log []event, how loss, chance *rand.Rand, dir string) {
	files := map[string][]byte{}
	pending := map[string][]event{}
	names, durable := map[string]bool{}, map[string]bool{} // the directory
	for _, e := range log {
		switch e.op {
		case created:
			files[e.file], names[e.file] = []byte{}, true
			delete(pending, e.file)
		case written, truncated:
			pending[e.file] = append(pending[e.file], e)
		case synced:
			for _, p := range pending[e.file] {
				files[e.file] = p.apply(files[e.file], len(p.data))
			}
			delete(pending, e.file)
		case removed:
			delete(names, e.file)
		case directorySynced:
			durable = maps.Clone(names)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pending)) {
		for i, p := range pending[name] {
			n := len(p.data)
			switch {
			case how == lost, how == scattered && chance.IntN(2) == 0:
				continue
			case how == torn && i == len(pending[name])-1:
				n = chance.IntN(n/512+1) * 512
			}
			files[name] = p.apply(files[name], n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		exists := names[name]
		if names[name] != durable[name] && (how == lost || how == scattered && chance.IntN(2) == 0) {
			exists = durable[name]
		}
		if !exists {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// apply makes the change of e to a file, with the first n octets only.
func (e event) apply(file []byte, n int) []byte {
	if e.op == truncated {
		return grown(file, e.off)[:e.off]
	}
	file = grown(file, e.off+int64(n))
	copy(file[e.off:], e.data[:n])
	return file
}

func grown(file []byte, size int64) []byte {
	if n := size - int64(len(file)); n > 0 {
		return append(file, make([]byte, n)...)
	}
	return file
}
