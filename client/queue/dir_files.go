package queue

import (
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"smtpkit.example/smtp/client/queue/internal/journal"
	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// Files writes the files of messages, and knows what of them is not synced yet.
type files struct {
	fs vfs.FS
	// flags returns what is known of the files of a message, and setFlags changes it.
	flags    func(ID) fileFlags
	setFlags func(ID, fileFlags)
	failed   func(error) error // notes that a sync has failed, and returns what to say

	names journal.Group // for names that have to be durable at once
	each  atomic.Bool   // files are synced one by one, when they are written

	mu       sync.Mutex
	unsynced leftover
}

// A leftover is what was done to files and is not synced yet.
type leftover uint8

const (
	nothing  leftover = iota
	names             // a sync of the directory is wanted
	contents          // a sync of the file system
)

// remove removes a file, if it is there.
func (f *files) remove(name string) error {
	if err := f.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove "+name, err)
	}
	return nil
}

// create makes a file in place of any of that name.
func create(dir vfs.FS, name string) (vfs.File, error) {
	file, err := dir.Create(name)
	if errors.Is(err, fs.ErrExist) {
		if err = dir.Remove(name); err == nil {
			file, err = dir.Create(name)
		}
	}
	return file, err
}

// make makes a file. If it fails there is none.
func (f *files) make(name string, b []byte) error {
	file, err := create(f.fs, name)
	if err != nil {
		return diskError("write "+name, err)
	}
	each := f.each.Load()
	_, err = file.Write(b)
	if err == nil && each {
		err = f.syncFile(file)
	}
	_ = file.Close() // a sync tells what could not be written
	if err != nil {
		return errors.Join(diskError("write "+name, err), f.remove(name))
	}
	f.touched(each)
	return nil
}

// syncFile syncs a file.
func (f *files) syncFile(file vfs.File) error {
	if err := file.Sync(); err != nil {
		return f.failed(err)
	}
	return nil
}

// syncNames makes durable the names that have changed.
func (f *files) syncNames() error {
	if err := f.names.Wait(f.names.Note()); err != nil {
		return f.failed(err)
	}
	return nil
}

// touched notes that a file was made, changed or removed, and whether its content was synced. It is called before the
// records that say so are settled.
func (f *files) touched(synced bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unsynced = max(f.unsynced, names); !synced {
		f.unsynced = contents
	}
}

// oneByOne has files synced one by one from now on, unless there are some that cannot be.
func (f *files) oneByOne() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unsynced != contents {
		f.each.Store(true)
	}
}

// appendLines appends lines to the state file of a message.
func (f *files) appendLines(id ID, b []byte) error {
	flags := f.flags(id)
	if flags&tornState != 0 {
		b = append([]byte{'\n'}, b...)
	}
	file, err := f.fs.Append(stateFile(id))
	if err != nil {
		return diskError("open "+stateFile(id), err)
	}
	each := f.each.Load()
	n, err := file.Write(b)
	switch {
	case err == nil:
		flags = hasState
	case n > 0:
		flags = hasState | tornState
	default:
		flags |= hasState
	}
	f.setFlags(id, flags)
	if err == nil && each {
		err = f.syncFile(file)
	}
	_ = file.Close() // a sync tells what could not be written
	if err != nil {
		return diskError("write "+stateFile(id), err)
	}
	f.touched(each)
	return nil
}

// sync makes durable what was done to files.
func (f *files) sync() error {
	f.mu.Lock()
	left := f.unsynced
	f.unsynced = nothing
	f.mu.Unlock()
	switch left {
	case names:
		return f.fs.SyncDir(".")
	case contents:
		if err := f.fs.SyncAll(); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		f.each.Store(true)
		return f.syncEveryFile()
	}
	return nil
}

// syncEveryFile syncs all files one by one. It is for the first time that the operating system cannot sync all at once.
func (f *files) syncEveryFile() error {
	list, err := f.fs.List(".")
	if err != nil {
		return err
	}
	for _, name := range list {
		if _, kind := splitName(name); kind != "msg" && kind != "state" {
			continue
		}
		file, err := f.fs.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return err
		}
	}
	return f.fs.SyncDir(".")
}

// putAside moves the files of a message to where nothing but a person looks at them, and logs that.
func (f *files) putAside(id ID, why error, logger *slog.Logger) {
	err := f.fs.Mkdir(damagedDir)
	for _, name := range []string{messageFile(id), stateFile(id)} {
		if err == nil {
			err = f.fs.Rename(name, damagedDir+"/"+name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		// They have their new names before they lose the old ones.
		if err = errors.Join(f.fs.SyncDir(damagedDir), f.fs.SyncDir(".")); err != nil {
			_ = f.failed(err)
		}
	}
	if err != nil {
		logger.Error("smtp: a message in the queue is damaged, and cannot be put aside",
			"file", messageFile(id), "damage", why, "err", err)
		return
	}
	logger.Error("smtp: a message in the queue is damaged, and was put aside",
		"file", damagedDir+"/"+messageFile(id), "damage", why)
}
