package vfs

import (
	"errors"
	"syscall"
)

// IsTemporary reports whether an error says that the disk is full, or that too many files are open.
func IsTemporary(err error) bool {
	const tooManyFiles, handleDiskFull, diskFull, quota = 4, 39, 112, 1295
	for _, e := range []syscall.Errno{tooManyFiles, handleDiskFull, diskFull, quota} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
