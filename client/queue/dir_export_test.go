package queue

import (
	"cmp"

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

// settleNow gets into files all that is pending. It returns the first error.
func (d *Dir) settleNow() (err error) {
	for _, id := range d.backlog.pendingIDs() {
		err = cmp.Or(err, d.backlog.settle(id))
	}
	return err
}
