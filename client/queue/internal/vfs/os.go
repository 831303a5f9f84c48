package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// An osFS is a directory of the operating system.
type osFS struct {
	path string
	// dir is open from the beginning, because SyncAll tells of the errors since then.
	dir      *os.File
	syncsAll bool
}

// OS returns a directory of the operating system. It makes the directory, for its owner only, if it is not there.
func OS(path string) (FS, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	made := false
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		made = true
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if made {
		// The parent has a new name. Parents of its own are the operator's.
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &osFS{path, dir, syncsAll(dir)}, nil
}

func (f *osFS) name(name string) string {
	return f.path + string(filepath.Separator) + filepath.FromSlash(name)
}

func (f *osFS) Mkdir(name string) error {
	err := os.Mkdir(f.name(name), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (f *osFS) Create(name string) (File, error) {
	return f.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (f *osFS) Append(name string) (File, error) {
	return f.open(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
}

func (f *osFS) Open(name string) (File, error) { return f.open(name, os.O_RDONLY) }

func (f *osFS) open(name string, flags int) (File, error) {
	file, err := openFile(f.name(name), flags)
	if err != nil {
		return nil, err
	}
	return osFile{file}, nil
}

func (f *osFS) Rename(from, to string) error { return os.Rename(f.name(from), f.name(to)) }

func (f *osFS) Remove(name string) error { return removeFile(f.name(name)) }

func (f *osFS) List(dir string) ([]string, error) {
	d, err := os.Open(f.name(dir))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (f *osFS) SyncDir(dir string) error {
	if dir == "." {
		return syncOpenDir(f.dir)
	}
	return syncDir(f.name(dir))
}

func (f *osFS) SyncAll() error {
	if !f.syncsAll {
		return errors.ErrUnsupported
	}
	return syncAll(f.dir)
}

func (f *osFS) SyncsAll() bool { return f.syncsAll }

func (f *osFS) Lock(name string) (io.Closer, error) { return lock(f.name(name)) }

func (f *osFS) Free() (int64, bool) { return free(f.path) }

func (f *osFS) Close() error { return f.dir.Close() }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncOpenDir(d)
}
