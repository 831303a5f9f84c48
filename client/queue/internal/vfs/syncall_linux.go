package vfs

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// syncfsNumbers are the numbers of the system call syncfs(2), which package syscall does not have for all of these.
var syncfsNumbers = map[string]uintptr{
	"386": 344, "amd64": 306, "arm": 373, "arm64": 267, "loong64": 267, "mips": 4342, "mipsle": 4342, "mips64": 5301,
	"mips64le": 5301, "ppc64": 348, "ppc64le": 348, "riscv64": 267, "s390x": 338,
}

// syncfsNumber returns the number, or 0 if the kernel is older than 5.8: its syncfs does not tell of errors.
var syncfsNumber = sync.OnceValue(func() uintptr {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || !releaseAtLeast(string(b), 5, 8) {
		return 0
	}
	return syncfsNumbers[runtime.GOARCH]
})

// releaseAtLeast reports whether the release of a kernel, such as "6.1.0-13-amd64", is major.minor or later.
func releaseAtLeast(release string, major, minor int) bool {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return false
	}
	have, err := strconv.Atoi(parts[0])
	if err != nil || have != major {
		return err == nil && have > major
	}
	digits := strings.TrimRight(parts[1], "\n")
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	have, err = strconv.Atoi(digits)
	return err == nil && have >= minor
}

func syncAll(dir *os.File) error {
	n := syncfsNumber()
	if n == 0 {
		return errors.ErrUnsupported
	}
	for {
		_, _, errno := syscall.Syscall(n, dir.Fd(), 0, 0)
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		case syscall.ENOSYS:
			return errors.ErrUnsupported
		default:
			return &os.PathError{Op: "syncfs", Path: dir.Name(), Err: errno}
		}
	}
}

// syncfsTypes are the file systems whose syncfs makes all durable, by the numbers of statfs(2). On others, such as FUSE
// and 9p, it may have the server keep in memory what it was given, and say that all is well.
var syncfsTypes = map[uint32]bool{
	0xef53:     true, // ext2, ext3, ext4
	0x58465342: true, // XFS
	0x9123683e: true, // Btrfs
	0xf2f52010: true, // F2FS
	0x2fc12fc1: true, // ZFS
	0xca451a4e: true, // bcachefs
	0x794c7630: true, // overlayfs
	0x01021994: true, // tmpfs
}

func syncsAll(dir *os.File) bool {
	var s syscall.Statfs_t
	for {
		switch err := syscall.Fstatfs(int(dir.Fd()), &s); err {
		case nil:
			return syncfsNumber() != 0 && syncfsTypes[uint32(s.Type)]
		case syscall.EINTR:
		default:
			return false
		}
	}
}
