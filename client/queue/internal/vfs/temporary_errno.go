//go:build unix

package vfs

import (
	"errors"
	"syscall"
)

// IsTemporary reports whether an error says that the disk or a quota is full, or that too many files are open.
func IsTemporary(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
