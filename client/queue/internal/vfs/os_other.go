//go:build !unix && !windows

package vfs

import "os"

func openFile(path string, flags int) (*os.File, error) { return os.OpenFile(path, flags, 0o600) }

func removeFile(path string) error { return os.Remove(path) }

func syncOpenDir(d *os.File) error { return d.Sync() }
