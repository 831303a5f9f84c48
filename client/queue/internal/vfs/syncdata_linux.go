package vfs

import (
	"os"
	"syscall"
)

// SyncData is fdatasync(2), which leaves the time of the last change alone. Where that is all that has changed beside
// the data, the file system has no journal of its own to write.
func (f osFile) SyncData() error {
	for {
		switch err := syscall.Fdatasync(int(f.Fd())); err {
		case nil:
			return nil
		case syscall.EINTR:
		default:
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
