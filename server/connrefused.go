//go:build !plan9

package server

import (
	"errors"
	"syscall"
)

// isConnRefused reports whether err says that nobody listens where we have dialled.
func isConnRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
