package queue

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// Suspend implements Store.
func (d *Dir) Suspend(ctx context.Context, s Suspension) error {
	err := d.enterToWrite(ctx)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	d.suspensions.mu.Lock()
	defer d.suspensions.mu.Unlock()
	notes := slices.Clone(d.suspensions.notes)
	i, found := slices.BinarySearchFunc(notes, s.Site, compareSite)
	switch {
	case s.Until.IsZero() && !found:
		return nil
	case s.Until.IsZero():
		notes = slices.Delete(notes, i, i+1)
	case found:
		notes[i] = s
	default:
		notes = slices.Insert(notes, i, s)
	}
	if err := d.writeSuspensions(notes); err != nil {
		return err
	}
	d.suspensions.notes = notes
	return nil
}

// writeSuspensions replaces the file.
func (d *Dir) writeSuspensions(notes []Suspension) error {
	b, err := json.Marshal(notes)
	if err != nil {
		return err
	}
	const temp = suspendedFile + ".tmp"
	f, err := create(d.fs, temp)
	if err != nil {
		return diskError("write "+temp, err)
	}
	defer func() { _ = f.Close() }() // all that could fail is synced
	if _, err := f.Write(append(b, '\n')); err != nil {
		return diskError("write "+temp, err)
	}
	if err := f.Sync(); err != nil {
		return d.backlog.fail(err)
	}
	if err := d.fs.Rename(temp, suspendedFile); err != nil {
		return diskError("rename "+temp, err)
	}
	if err := d.fs.SyncDir("."); err != nil {
		return d.backlog.fail(err)
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
