package sqlite

import (
	"math"

	"golang.org/x/sys/windows"
)

// free returns how many octets the disk of a directory has room for, and false if that is not known.
func free(dir string) (octets int64, ok bool) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, false
	}
	var n uint64
	if err := windows.GetDiskFreeSpaceEx(name, &n, nil, nil); err != nil {
		return 0, false
	}
	return int64(min(n, math.MaxInt64)), true
}
