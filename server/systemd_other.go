//go:build !unix

package server

import (
	"errors"
	"net"
)

// listenerOf returns an error: there is no systemd.
func listenerOf(int) (net.Listener, error) { return nil, errors.ErrUnsupported }

// closeFD is never called.
func closeFD(int) {}
