//go:build darwin || linux

package sqlite

import (
	"math"
	"syscall"
)

// free returns how many octets the disk of a directory has room for, and false if that is not known.
func free(dir string) (octets int64, ok bool) {
	var s syscall.Statfs_t
	err := syscall.Statfs(dir, &s)
	for err == syscall.EINTR {
		err = syscall.Statfs(dir, &s)
	}
	if err != nil || s.Bsize <= 0 {
		return 0, false
	}
	return int64(min(s.Bavail, math.MaxInt64/uint64(s.Bsize)) * uint64(s.Bsize)), true
}
