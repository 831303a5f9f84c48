//go:build !linux

package vfs

func (f osFile) SyncData() error { return f.Sync() }
