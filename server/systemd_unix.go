//go:build unix

package server

import (
	"net"
	"os"
	"syscall"
)

// listenerOf returns a listener for a duplicate of the descriptor fd, which stays open. The programs that this one
// starts do not get it.
func listenerOf(fd int) (net.Listener, error) {
	syscall.CloseOnExec(fd)
	syscall.ForkLock.RLock()
	dup, err := syscall.Dup(fd)
	if err == nil {
		syscall.CloseOnExec(dup)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	f := os.NewFile(uintptr(dup), "listener")
	defer f.Close()
	return net.FileListener(f)
}

// closeFD closes a descriptor.
func closeFD(fd int) { _ = syscall.Close(fd) }
