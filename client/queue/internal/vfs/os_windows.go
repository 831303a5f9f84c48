package vfs

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// openFile opens a file so that it can be renamed and removed while it is open.
func openFile(path string, flags int) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	access, mode := uint32(syscall.GENERIC_READ), uint32(syscall.OPEN_EXISTING)
	switch {
	case flags&os.O_APPEND != 0:
		access, mode = syscall.FILE_APPEND_DATA|syscall.SYNCHRONIZE, syscall.OPEN_ALWAYS
	case flags&os.O_EXCL != 0:
		access, mode = syscall.GENERIC_READ|syscall.GENERIC_WRITE, syscall.CREATE_NEW
	}
	share := uint32(syscall.FILE_SHARE_READ | syscall.FILE_SHARE_WRITE | syscall.FILE_SHARE_DELETE)
	h, err := syscall.CreateFile(name, access, share, nil, mode, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

func removeFile(path string) error { return os.Remove(path) }

// syncOpenDir does nothing: NTFS writes names to its journal in their order, and directories cannot be flushed.
func syncOpenDir(*os.File) error { return nil }

func syncAll(*os.File) error { return errors.ErrUnsupported }

func syncsAll(*os.File) bool { return false }

const errSharingViolation = syscall.Errno(32)

// lock opens a file that nobody else may open meanwhile.
func lock(path string) (io.Closer, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS,
		syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, errSharingViolation) {
		err = ErrLocked
	}
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

var getDiskFreeSpaceEx = syscall.NewLazyDLL("kernel32.dll").NewProc("GetDiskFreeSpaceExW")

func free(path string) (int64, bool) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return 0, false
	}
	var available int64
	ok, _, _ := getDiskFreeSpaceEx.Call(uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&available)), 0, 0)
	return available, ok != 0
}
