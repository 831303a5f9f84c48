package queue

import (
	"context"
	"errors"
	"slices"
)

// fileFlags say what Dir knows of the files of a message. They are changed with the message busy and Dir.mu locked.
type fileFlags uint8

const (
	// hasState: there is a state file.
	hasState fileFlags = 1 << iota
	// tornState: the last line of the state file has no end, since a write has failed.
	tornState
)

// Update implements Store. A change of a job that is handed out to another lease is not written. Of several changes
// some may be written if there is an error.
func (d *Dir) Update(ctx context.Context, l Lease, changes []Change) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.calls.Done()
	err := d.enterToWrite(ctx)
	if err == nil {
		_, err = d.index.lessee(l)
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	var reports []*Entry
	for i := range changes {
		reports = append(reports, changes[i].Reports...)
	}
	if err := d.addAll(ctx, reports); err != nil {
		return err
	}
	for i := range changes {
		d.backlog.holdBack(ctx)
		err = errors.Join(err, d.change(l, &changes[i]))
	}
	return err
}

// change writes one change.
func (d *Dir) change(l Lease, c *Change) error {
	id := c.Job.ID
	if !id.Message.Valid() {
		return nil
	}
	defer d.backlog.busyWith(id.Message).Unlock()
	d.mu.Lock()
	j, lessee := d.index.find(id), d.index.destinations[l.Destination]
	if j == nil || j.lessee != nil && j.lessee != lessee {
		d.mu.Unlock()
		return nil
	}
	edits, files := j.edits, j.message.files
	d.mu.Unlock()
	stored := &Job{Edits: c.Job.Edits}
	if edits != uint16(c.Job.Edits) {
		var err error
		if _, stored, err = d.reader.read(id, files, false); err != nil {
			return d.unreadable(id, err)
		}
	}
	merged := c.Merge(stored)
	if len(merged.To) == 0 {
		return d.remove(j, false)
	}
	return d.put(j, merged, func(facts jobFacts) {
		if _, err := d.index.lessee(l); err != nil {
			d.index.edit(j, facts) // the lease has ended meanwhile, and the job may be handed out again
			return
		}
		d.index.update(j, facts)
	})
}

// Edit implements Store. Jobs are edited one by one, so one that comes or goes meanwhile may be edited or not. If there
// is an error, n jobs have been edited.
func (d *Dir) Edit(ctx context.Context, f Filter, e Edit) (n int, err error) {
	if err := d.begin(ctx); err != nil {
		return 0, err
	}
	defer d.calls.Done()
	cursor := JobID{}
	for {
		var ids []listedID
		if ids, err = d.candidates(ctx, &f, cursor, true); err != nil || len(ids) == 0 {
			break
		}
		for _, id := range ids {
			d.backlog.holdBack(ctx)
			edited, editErr := d.edit(id.id, &f, e)
			if editErr != nil {
				err = editErr
				break
			}
			if edited {
				n++
			}
			cursor = id.id
		}
		if err != nil {
			break
		}
	}
	if n > 0 {
		err = errors.Join(err, d.backlog.syncAll())
	}
	return n, err
}

// edit applies e to a job if it matches.
func (d *Dir) edit(id JobID, f *Filter, e Edit) (edited bool, err error) {
	defer d.backlog.busyWith(id.Message).Unlock()
	d.mu.Lock()
	j := d.index.find(id)
	if j == nil || !j.matches(f) {
		d.mu.Unlock()
		return false, nil
	}
	files := j.message.files
	d.mu.Unlock()
	withMessage := f.From != "" || f.To != ""
	if e.Op == Drop && !withMessage {
		return true, d.remove(j, true)
	}
	m, stored, err := d.reader.read(id, files, withMessage)
	if err != nil {
		return false, d.unreadable(id, err)
	}
	if withMessage && !f.Match(m, stored) {
		return false, nil
	}
	if !e.Apply(stored) {
		return true, d.remove(j, true)
	}
	return true, d.put(j, stored, func(facts jobFacts) { d.index.edit(j, facts) })
}

// put writes how a job stands, and then changes the index. The message is busy.
func (d *Dir) put(j *indexJob, job *Job, change func(jobFacts)) error {
	buf := recordBuffers.Get().(*[]byte)
	defer recordBuffers.Put(buf)
	record, err := appendState(beginLine((*buf)[:0], j.ID()), job)
	if err != nil {
		return err
	}
	if err := d.backlog.putLine(j.ID(), slices.Clone(record)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	change(factsOf(job))
	return nil
}

// remove removes a job, and with the last one the message. The message is busy.
func (d *Dir) remove(j *indexJob, edited bool) error {
	d.mu.Lock()
	last := len(j.message.jobs) == 1
	d.mu.Unlock()
	var err error
	if last {
		err = d.backlog.remove(j.message.ID())
	} else {
		err = d.backlog.putLine(j.ID(), appendDone(beginLine(nil, j.ID()), j.ID()))
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index.remove(j, edited)
	return nil
}
