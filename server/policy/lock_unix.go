//go:build unix && !solaris && !aix

package policy

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks a file, if nobody else has it, in this process or another.
func lockFile(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// syncDirectory has the names in a directory outlive a loss of power.
func syncDirectory(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
