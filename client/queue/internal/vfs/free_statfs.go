//go:build darwin || linux

package vfs

import (
	"math"
	"syscall"
)

func free(path string) (int64, bool) {
	var s syscall.Statfs_t
	for {
		err := syscall.Statfs(path, &s)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return 0, false
		}
	}
	size := uint64(s.Bsize)
	if size == 0 || s.Bavail > math.MaxInt64/size {
		return math.MaxInt64, size > 0
	}
	return int64(s.Bavail * size), true
}
