//go:build unix

package vfs

import (
	"os"
	"syscall"
)

func openFile(path string, flags int) (*os.File, error) { return os.OpenFile(path, flags, 0o600) }

// removeFile is os.Remove for what is not a directory: that tries to remove one when the name is not there.
func removeFile(path string) error {
	for {
		switch err := syscall.Unlink(path); err {
		case nil:
			return nil
		case syscall.EINTR:
		default:
			return &os.PathError{Op: "remove", Path: path, Err: err}
		}
	}
}

func syncOpenDir(d *os.File) error { return d.Sync() }
