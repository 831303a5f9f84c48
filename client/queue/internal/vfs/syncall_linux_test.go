package vfs

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"testing"
)

func TestReleaseAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0": true, "5.7.19": false, "5.10.0-30-amd64": true, "6.0\n": true, "4.19.0": false, "5.8-rc1": true,
		"10.1.0": true, "5": false, "": false, "x.y": false, "5.x": false,
	} {
		if got := releaseAtLeast(release, 5, 8); got != want {
			t.Errorf("%q: %t, want %t", release, got, want)
		}
	}
}

// TestSyncfsNumber finds that the number for this processor is that of a call which wants a file: it refuses one that
// is not open, and takes one that is.
func TestSyncfsNumber(t *testing.T) {
	n := syncfsNumbers[runtime.GOARCH]
	if n == 0 {
		t.Fatalf("there is no number for %s", runtime.GOARCH)
	}
	if _, _, errno := syscall.Syscall(n, ^uintptr(0), 0, 0); errno != syscall.EBADF {
		t.Errorf("without a file: %v, want EBADF", errno)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, errno := syscall.Syscall(n, dir.Fd(), 0, 0); errno != 0 {
		t.Errorf("with a directory: %v", errno)
	}
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSyncsAll finds that not all file systems are said to sync all at once.
func TestSyncsAll(t *testing.T) {
	proc, err := OS("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	if proc.SyncsAll() || proc.SyncAll() != errors.ErrUnsupported {
		t.Error("/proc is said to sync all at once")
	}
	path := t.TempDir()
	f, err := OS(path)
	if err != nil {
		t.Fatal(err)
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		t.Fatal(err)
	}
	if want := s.Type == 0xef53 && syncfsNumber() != 0; want && !f.SyncsAll() {
		t.Error("ext4 is said not to sync all at once")
	}
	if err := errors.Join(proc.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
