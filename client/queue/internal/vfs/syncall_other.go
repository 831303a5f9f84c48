//go:build !linux && !windows

package vfs

import (
	"errors"
	"os"
)

func syncAll(*os.File) error { return errors.ErrUnsupported }

func syncsAll(*os.File) bool { return false }
