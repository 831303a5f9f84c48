package queue

import (
	"cmp"
	"log/slog"
	"time"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// DirLooked returns how many jobs and files d has looked at.
func DirLooked(d *Dir) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.index.looked + d.reader.looked.Load()
}

// DirOptionsOn returns options with another file system, unless that is nil.
func DirOptionsOn(fs vfs.FS, o DirOptions) *DirOptions {
	o.fs = fs
	return &o
}

// SmallDirOptions are those of a Dir on another file system whose journal is used again all the time, and that keeps
// nothing in memory of what is not in files yet.
func SmallDirOptions(fs vfs.FS) *DirOptions {
	o := DirOptionsOn(fs, DirOptions{Logger: slog.New(slog.DiscardHandler)})
	o.limits = syncAllAtOnce.limits()
	o.limits.held, o.limits.delay = 0, time.Millisecond
	return o
}

// settleNow gets into files all that is pending. It returns the first error.
func (d *Dir) settleNow() (err error) {
	for _, id := range d.backlog.pendingIDs() {
		err = cmp.Or(err, d.backlog.settle(id))
	}
	return err
}
