//go:build !unix && !windows

package vfs

// IsTemporary does not know the errors of this operating system.
func IsTemporary(error) bool { return false }
