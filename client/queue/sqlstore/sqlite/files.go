package sqlite

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
)

// vfsName is the name of the files of a queue. They differ from those of the driver in two things:
//
//   - A write tells a full disk from one that fails. The driver takes the one for the other, up to its version 0.37.
//     Then a store that could go on would not.
//   - They know PRAGMA queue_sync, and write a transaction by one call of the system: see log.
const vfsName = "smtpkit-queue"

func init() { vfs.Register(vfsName, system{vfs.Find("os")}) }

// system is the files of the operating system.
type system struct{ vfs.VFS }

func (s system) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := vfsutil.WrapOpen(s.VFS, name, flags)
	if f == nil {
		return nil, flags, err
	}
	return &file{File: f}, flags, err
}

// OpenFilename opens a file. It looks for the database of a log, which the same connection has opened before.
func (s system) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, out, err := vfsutil.WrapOpenFilename(s.VFS, name, flags)
	if f == nil {
		return nil, out, err
	}
	w := &file{File: f}
	if flags&vfs.OPEN_WAL != 0 {
		if main, ok := vfsutil.UnwrapFile[*file](name.DatabaseFile()); ok {
			main.log = &log{file: w, main: main}
			return main.log, out, err
		}
	}
	return w, out, err
}

// A file is a file of one connection.
type file struct {
	vfs.File
	log  *log // of a database that has one
	mode mode // of its log
}

// WriteAt writes. What goes to a database comes from its log, which has to be durable before.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if f.log != nil && f.log.unsynced {
		if err := f.log.sync(vfs.SYNC_NORMAL); err != nil {
			return 0, err
		}
	}
	n, err := f.File.WriteAt(p, off)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return n, sqlite3.FULL
	}
	return n, err
}

// Pragma sets the mode of the log of a database: see log. It returns the mode, so that the connection knows that its
// files have understood.
func (f *file) Pragma(name, value string) (string, error) {
	if name != "queue_sync" {
		return "", sqlite3.NOTFOUND
	}
	switch m := mode(value); m {
	case full, normal:
		f.mode = m
		return value, nil
	}
	return "", fmt.Errorf("queue_sync cannot be %q", value)
}

func (f *file) Unwrap() vfs.File                { return f.File }
func (f *file) SharedMemory() vfs.SharedMemory  { return vfsutil.WrapSharedMemory(f.File) }
func (f *file) LockState() vfs.LockLevel        { return vfsutil.WrapLockState(f.File) }
func (f *file) PersistWAL() bool                { return vfsutil.WrapPersistWAL(f.File) }
func (f *file) SetPersistWAL(keep bool)         { vfsutil.WrapSetPersistWAL(f.File, keep) }
func (f *file) PowersafeOverwrite() bool        { return vfsutil.WrapPowersafeOverwrite(f.File) }
func (f *file) SetPowersafeOverwrite(psow bool) { vfsutil.WrapSetPowersafeOverwrite(f.File, psow) }
func (f *file) SizeHint(size int64) error       { return vfsutil.WrapSizeHint(f.File, size) }
