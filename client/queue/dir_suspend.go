package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// suspendedFile has the suspensions.
const suspendedFile = "suspended"

// suspensions are those that have been written.
type suspensions struct {
	fs     vfs.FS
	logger *slog.Logger
	failed func(error) error // notes that a sync has failed, and returns what to say

	mu    sync.Mutex
	notes []Suspension // sorted by Site
}

// read reads the file.
func (s *suspensions) read() error {
	f, err := s.fs.Open(suspendedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written
	size, err := f.Size()
	if err != nil {
		return err
	}
	if err := json.NewDecoder(io.NewSectionReader(f, 0, size)).Decode(&s.notes); err != nil {
		s.notes = nil
		s.logger.Error("smtp: the suspensions of the queue cannot be read, and end", "file", suspendedFile, "err", err)
	}
	return nil
}

func compareSite(s Suspension, site string) int { return cmp.Compare(s.Site, site) }

// Suspend implements Store.
func (d *Dir) Suspend(ctx context.Context, s Suspension) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.calls.Done()
	err := d.enterToWrite(ctx)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.suspensions.set(s)
}

// set adds, replaces or removes a note.
func (s *suspensions) set(n Suspension) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	notes := slices.Clone(s.notes)
	i, found := slices.BinarySearchFunc(notes, n.Site, compareSite)
	switch {
	case n.Until.IsZero() && !found:
		return nil
	case n.Until.IsZero():
		notes = slices.Delete(notes, i, i+1)
	case found:
		notes[i] = n
	default:
		notes = slices.Insert(notes, i, n)
	}
	if err := s.write(notes); err != nil {
		return err
	}
	s.notes = notes
	return nil
}

// write replaces the file.
func (s *suspensions) write(notes []Suspension) error {
	b, err := json.Marshal(notes)
	if err != nil {
		return err
	}
	const temp = suspendedFile + ".tmp"
	f, err := create(s.fs, temp)
	if err != nil {
		return diskError("write "+temp, err)
	}
	defer func() { _ = f.Close() }() // all that could fail is synced
	if _, err := f.Write(append(b, '\n')); err != nil {
		return diskError("write "+temp, err)
	}
	if err := f.Sync(); err != nil {
		return s.failed(err)
	}
	if err := s.fs.Rename(temp, suspendedFile); err != nil {
		return diskError("rename "+temp, err)
	}
	if err := s.fs.SyncDir("."); err != nil {
		return s.failed(err)
	}
	return nil
}

// Suspended implements Store. The notes are sorted by Site.
func (d *Dir) Suspended(ctx context.Context, now time.Time) ([]Suspension, error) {
	err := d.enter(ctx)
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	d.suspensions.mu.Lock()
	defer d.suspensions.mu.Unlock()
	var notes []Suspension
	for _, s := range d.suspensions.notes {
		if s.Until.After(now) {
			notes = append(notes, s)
		}
	}
	return notes, nil
}
