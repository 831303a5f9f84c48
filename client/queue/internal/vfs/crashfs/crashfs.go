// Package crashfs is a file system in memory that knows what a loss of power may leave of it. It keeps a log of all
// changes and syncs. For each moment of the log it makes the file systems that a machine may find when it starts again:
// what was synced is there, and of the rest anything may be.
//
// It promises less than most real ones. Syncing a file does not make its name durable, names become durable in any
// order, a file may have its new length without the data, and a rename may leave both names.
package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// ErrKilled is the error of everything that a process does after Kill.
var ErrKilled = errors.New("crashfs: the process was killed")

// An Op is something that a process asks of the file system. Fail gets it.
type Op struct {
	// Kind is the name of the method of vfs.FS or vfs.File, such as "Create" or "Sync".
	Kind string
	// Name is the file, or the directory for SyncDir and List. For Rename it is the old name.
	Name string
	// Size is the number of octets that are to be written.
	Size int
}

// An FS is the file system as a process sees it. It is a vfs.FS.
type FS struct {
	disk *disk
	life int
}

// A disk is what processes share, one after the other.
type disk struct {
	mu    sync.Mutex
	life  int // of the process that is alive
	names map[string]*node
	locks map[string]int // by the life of the process
	start map[string]*node
	log   []change
	fail  func(Op) (written int, err error)
	room  int64
}

// A node is a file or a directory, without its name.
type node struct {
	dir  bool
	data []byte // as a process sees it
	own  bool   // nothing else has data
	base []byte // as it was when the log began
}

type changeKind uint8

const (
	link changeKind = iota
	unlink
	write
	syncFile
	syncDir
	syncAll
)

// A change is an entry of the log.
type change struct {
	kind changeKind
	name string // that is linked or unlinked, or the directory that is synced
	node *node
	off  int
	data []byte
}

// New returns an empty file system.
func New() *FS {
	return &FS{disk: &disk{
		names: map[string]*node{}, locks: map[string]int{}, start: map[string]*node{}, room: 1 << 40,
	}}
}

// Kill ends the process that uses f: all that it does from now on fails. It returns the file system for the next one,
// which finds all as it was: only a loss of power takes away what was not synced.
func (f *FS) Kill() *FS {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.life++
	f.disk.locks = map[string]int{}
	return &FS{f.disk, f.disk.life}
}

// Fail has a function asked before each operation. If it returns an error, the operation does nothing and fails with
// it, except that a Write writes the first octets, as many as it says.
func (f *FS) Fail(fail func(Op) (written int, err error)) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.fail = fail
}

// Moment returns how many changes and syncs the log has.
func (f *FS) Moment() int {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return len(f.disk.log)
}

// Files returns the contents of all files.
func (f *FS) Files() map[string][]byte {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	files := map[string][]byte{}
	for name, n := range f.disk.names {
		if !n.dir {
			files[name] = slices.Clone(n.data)
		}
	}
	return files
}

// Put makes or replaces a file, durable from the beginning of the log. It must not be called after other changes.
func (f *FS) Put(name string, data []byte) {
	n := &node{data: slices.Clone(data), base: slices.Clone(data)}
	f.disk.names[name], f.disk.start[name] = n, n
}

// begin locks the disk, and asks whether the operation fails. The caller unlocks it.
func (f *FS) begin(op Op) (written int, err error) {
	f.disk.mu.Lock()
	if f.life != f.disk.life {
		return 0, &fs.PathError{Op: strings.ToLower(op.Kind), Path: op.Name, Err: ErrKilled}
	}
	if f.disk.fail != nil {
		if written, err = f.disk.fail(op); err != nil {
			return written, &fs.PathError{Op: strings.ToLower(op.Kind), Path: op.Name, Err: err}
		}
	}
	return 0, nil
}

func (f *FS) end() { f.disk.mu.Unlock() }

func (d *disk) link(name string, n *node) {
	d.names[name] = n
	d.log = append(d.log, change{kind: link, name: name, node: n})
}

func (d *disk) unlink(name string) {
	delete(d.names, name)
	d.log = append(d.log, change{kind: unlink, name: name})
}

// Mkdir is the method of vfs.FS. So are those below.
func (f *FS) Mkdir(name string) error {
	_, err := f.begin(Op{Kind: "Mkdir", Name: name})
	defer f.end()
	if err == nil && f.disk.names[name] == nil {
		f.disk.link(name, &node{dir: true})
	}
	return err
}

// Create makes a file.
func (f *FS) Create(name string) (vfs.File, error) { return f.open("Create", name) }

// Append opens or makes a file.
func (f *FS) Append(name string) (vfs.File, error) { return f.open("Append", name) }

// Open opens a file.
func (f *FS) Open(name string) (vfs.File, error) { return f.open("Open", name) }

func (f *FS) open(kind, name string) (vfs.File, error) {
	_, err := f.begin(Op{Kind: kind, Name: name})
	defer f.end()
	if err != nil {
		return nil, err
	}
	n := f.disk.names[name]
	switch {
	case n != nil && n.dir:
		err = errors.New("is a directory")
	case n == nil && kind == "Open":
		err = fs.ErrNotExist
	case n != nil && kind == "Create":
		err = fs.ErrExist
	case n == nil:
		n = &node{}
		f.disk.link(name, n)
	}
	if err != nil {
		return nil, &fs.PathError{Op: strings.ToLower(kind), Path: name, Err: err}
	}
	return &file{fs: f, name: name, node: n, kind: kind}, nil
}

// Rename renames a file.
func (f *FS) Rename(from, to string) error {
	_, err := f.begin(Op{Kind: "Rename", Name: from})
	defer f.end()
	if err != nil {
		return err
	}
	n := f.disk.names[from]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	f.disk.link(to, n)
	f.disk.unlink(from)
	return nil
}

// Remove removes a file.
func (f *FS) Remove(name string) error {
	_, err := f.begin(Op{Kind: "Remove", Name: name})
	defer f.end()
	if err != nil {
		return err
	}
	if f.disk.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	f.disk.unlink(name)
	return nil
}

// List lists a directory.
func (f *FS) List(dir string) ([]string, error) {
	_, err := f.begin(Op{Kind: "List", Name: dir})
	defer f.end()
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range f.disk.names {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir syncs the names in a directory.
func (f *FS) SyncDir(dir string) error {
	_, err := f.begin(Op{Kind: "SyncDir", Name: dir})
	defer f.end()
	if err == nil {
		f.disk.log = append(f.disk.log, change{kind: syncDir, name: dir})
	}
	return err
}

// SyncAll syncs all.
func (f *FS) SyncAll() error {
	_, err := f.begin(Op{Kind: "SyncAll"})
	defer f.end()
	if err == nil {
		f.disk.log = append(f.disk.log, change{kind: syncAll})
	}
	return err
}

// SyncsAll returns true.
func (f *FS) SyncsAll() bool { return true }

type unlocker struct {
	fs   *FS
	name string
}

func (u unlocker) Close() error {
	u.fs.disk.mu.Lock()
	defer u.fs.disk.mu.Unlock()
	if life, ok := u.fs.disk.locks[u.name]; ok && life == u.fs.life {
		delete(u.fs.disk.locks, u.name)
	}
	return nil
}

// Lock locks a name until Kill, or until the lock is closed.
func (f *FS) Lock(name string) (io.Closer, error) {
	_, err := f.begin(Op{Kind: "Lock", Name: name})
	defer f.end()
	if err != nil {
		return nil, err
	}
	if _, ok := f.disk.locks[name]; ok {
		return nil, vfs.ErrLocked
	}
	f.disk.locks[name] = f.life
	return unlocker{f, name}, nil
}

// Free returns the room there is, which is a lot.
func (f *FS) Free() (int64, bool) { return f.disk.room, true }

// Close does nothing.
func (f *FS) Close() error { return nil }

// A file is an open file.
type file struct {
	fs   *FS
	name string
	node *node
	kind string
	off  int
}

func (f *file) Write(b []byte) (int, error) {
	n, err := f.writeAt("Write", b, func() int {
		if f.kind == "Append" {
			return len(f.node.data)
		}
		return f.off
	})
	f.off += n
	return n, err
}

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	return f.writeAt("WriteAt", b, func() int { return int(off) })
}

func (f *file) writeAt(kind string, b []byte, at func() int) (int, error) {
	n, err := f.fs.begin(Op{Kind: kind, Name: f.name, Size: len(b)})
	defer f.fs.end()
	if err == nil && f.kind == "Open" {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrPermission}
	}
	if err == nil {
		n = len(b)
	}
	if n > 0 {
		c := change{kind: write, node: f.node, off: at(), data: slices.Clone(b[:n])}
		f.node.write(&c)
		f.fs.disk.log = append(f.fs.disk.log, c)
	}
	return n, err
}

// write changes the content as a process sees it.
func (n *node) write(c *change) {
	if !n.own {
		n.data, n.own = slices.Clone(n.data), true
	}
	if more := c.off + len(c.data) - len(n.data); more > 0 {
		n.data = append(n.data, make([]byte, more)...)
	}
	copy(n.data[c.off:], c.data)
}

// apply returns the content of a file after a write. It does not change data.
func (c *change) apply(data []byte) []byte {
	out := make([]byte, max(len(data), c.off+len(c.data)))
	copy(out, data)
	copy(out[c.off:], c.data)
	return out
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	_, err := f.fs.begin(Op{Kind: "ReadAt", Name: f.name, Size: len(b)})
	defer f.fs.end()
	if err != nil {
		return 0, err
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Sync() error { return f.sync("Sync") }

func (f *file) SyncData() error { return f.sync("SyncData") }

func (f *file) sync(kind string) error {
	_, err := f.fs.begin(Op{Kind: kind, Name: f.name})
	defer f.fs.end()
	if err == nil {
		f.fs.disk.log = append(f.fs.disk.log, change{kind: syncFile, node: f.node})
	}
	return err
}

func (f *file) Size() (int64, error) {
	_, err := f.fs.begin(Op{Kind: "Size", Name: f.name})
	defer f.fs.end()
	return int64(len(f.node.data)), err
}

func (f *file) Close() error { return nil }
