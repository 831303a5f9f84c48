// Package vfs is what a store of files needs of a file system, so that tests can put another one in its place: one that
// crashes, and one that fails.
package vfs

import (
	"errors"
	"io"
)

// An FS is a directory with files, and with directories that have files. Names are relative to it, with "/" between
// the parts. Errors wrap those of package io/fs, and the numbers of the operating system. All methods may be called
// concurrently.
type FS interface {
	// Mkdir makes a directory unless it is there.
	Mkdir(name string) error
	// Create makes a file to be written and read. The error is fs.ErrExist if the name is there.
	Create(name string) (File, error)
	// Append opens a file to write to its end. It makes the file if the name is not there.
	Append(name string) (File, error)
	// Open opens a file to read. It can be read to its end after it is removed.
	Open(name string) (File, error)
	// Rename replaces what has the other name.
	Rename(from, to string) error
	// Remove removes the name of a file.
	Remove(name string) error
	// List returns the names in a directory, "." for the FS itself, in any order.
	List(dir string) ([]string, error)

	// SyncDir makes durable which names a directory has.
	SyncDir(dir string) error
	// SyncAll makes all durable that has been written, and all names. The error is errors.ErrUnsupported if the operating
	// system cannot, or does not tell of errors.
	SyncAll() error
	// SyncsAll reports false if it is known that SyncAll cannot.
	SyncsAll() bool

	// Lock keeps other processes from locking the same name until it is closed. It also ends with the process. The error
	// is ErrLocked if it is locked.
	Lock(name string) (io.Closer, error)
	// Free returns how many octets there is room for. It reports false if it does not know.
	Free() (octets int64, ok bool)
	Close() error
}

// A File is an open file. ReadAt may be called concurrently.
type File interface {
	io.Writer
	io.WriterAt
	io.ReaderAt
	io.Closer
	// Sync makes durable what has been written to the file, whoever has written it. It does not make its name durable.
	Sync() error
	// SyncData is Sync, but may leave out what is not needed to read the file, such as when it was changed.
	SyncData() error
	Size() (int64, error)
}

// ErrLocked is the error of Lock if somebody has the lock.
var ErrLocked = errors.New("locked by another process")
