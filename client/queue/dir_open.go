package queue

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// damagedDir is the directory for files that cannot be read.
const damagedDir = "damaged"

// recover reads the directory into the index, and removes what a crash has left over.
func (d *Dir) recover() error {
	// A process that was killed has left names that are not durable: new ones, and some that it has removed.
	if err := d.fs.SyncDir("."); err != nil {
		return err
	}
	if err := d.backlog.open(); err != nil {
		return err
	}
	names, err := d.fs.List(".")
	if err != nil {
		return err
	}
	var (
		messages []ID
		temps    []string
		states   = map[ID]bool{}
	)
	for _, name := range names {
		base, kind := splitName(name)
		id := ID(base)
		switch {
		case kind == "tmp" && (id.Valid() || base == suspendedFile):
			temps = append(temps, name)
		case !id.Valid():
		case kind == "msg":
			messages = append(messages, id)
		case kind == "state":
			states[id] = true
		}
	}
	inJournal := d.backlog.pendingIDs()
	messages = append(messages, inJournal...)
	// In order, the index takes them fastest.
	slices.Sort(messages)
	messages = slices.Compact(messages)
	done := d.recoverMessages(messages, states)
	for _, id := range messages {
		delete(states, id)
	}
	if err := d.recoverSuspensions(); err != nil {
		return err
	}
	for _, id := range inJournal {
		delete(states, id) // what has to be done is pending
	}
	return d.clean(temps, states, done)
}

// recoverMessages reads messages, several at once. It returns those that have no jobs left.
func (d *Dir) recoverMessages(messages []ID, states map[ID]bool) (done []ID) {
	var (
		wg   sync.WaitGroup
		next atomic.Int64
	)
	for range min(4*runtime.GOMAXPROCS(0), len(messages)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(messages) {
					return
				}
				id := messages[i]
				left, err := d.recoverMessage(id, states[id])
				switch {
				case errors.Is(err, errDamaged):
					d.setAside(id, err)
				case err != nil:
					d.logger.Error("smtp: a message in the queue cannot be read, and stays where it is",
						"file", messageFile(id), "err", err)
				case !left:
					d.mu.Lock()
					done = append(done, id)
					d.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return done
}

// recoverMessage puts a message into the index. It reports false if no job is left.
func (d *Dir) recoverMessage(id ID, withState bool) (left bool, err error) {
	p := d.backlog.pendingOf(id)
	if p != nil && p.clear && p.file == nil {
		return true, nil // it is done, and what is left of it is removed later
	}
	var m *Message
	var jobs []jobFacts
	f, err := d.openMessage(id, func(h *head) (err error) {
		if m, err = h.decodeMessage(); err != nil {
			return err
		}
		if m.ID != id {
			return damaged("it has the message %q", m.ID)
		}
		for _, line := range h.jobs {
			j, err := decodeJob(line)
			if err != nil {
				return err
			}
			jobs = append(jobs, factsOf(j))
		}
		return nil
	})
	if p != nil && errors.Is(err, fs.ErrNotExist) {
		d.backlog.discard(p) // it was never accepted, or is done
		return true, nil
	}
	if err != nil {
		return false, err
	}
	_ = f.Close() // nothing was written
	var files fileFlags
	if withState && (p == nil || !p.clear) {
		if files, err = d.recoverState(id, jobs); err != nil {
			return false, err
		}
	}
	if p != nil {
		for _, l := range p.lines {
			if _, err := recoverLine(id, jobs, bytes.TrimSuffix(l.line, []byte{'\n'})); err != nil {
				return false, err
			}
		}
	}
	jobs = slices.DeleteFunc(jobs, func(j jobFacts) bool { return j.Recipients == 0 })
	if len(jobs) == 0 && p != nil {
		d.backlog.discard(p)
		return true, nil
	}
	if len(jobs) == 0 {
		return false, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	im := d.index.addMessage(id, m.Arrived, m.Size, m.Tag)
	im.files = files
	for _, j := range jobs {
		d.index.addJob(im, j)
	}
	return true, nil
}

// recoverState changes jobs to what the state file says. A line that is damaged is as if it had not been written: of
// what was not synced, some may be there.
func (d *Dir) recoverState(id ID, jobs []jobFacts) (fileFlags, error) {
	f, err := d.fs.Open(stateFile(id))
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return 0, err
	} else {
		b = b[:n]
	}
	files := hasState
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		b = rest
		if !ended {
			files |= tornState
		}
		if _, err := recoverLine(id, jobs, line); err != nil {
			return 0, err
		}
	}
	return files, nil
}

// recoverLine changes jobs to what a line of the state file says. It reports false if the line is damaged.
func recoverLine(id ID, jobs []jobFacts, line []byte) (ok bool, err error) {
	text, ok := openState(line)
	if !ok {
		return false, nil
	}
	j, err := decodeJob(text)
	if err != nil {
		return false, err
	}
	if i := slices.IndexFunc(jobs, func(f jobFacts) bool { return f.N == j.ID.N }); i >= 0 && j.ID.Message == id {
		jobs[i] = factsOf(j)
	}
	return true, nil
}

// setAside is putAside with all that the journal has of the message.
func (d *Dir) setAside(id ID, why error) {
	if err := d.backlog.settleBusy(id); err != nil {
		d.logger.Error("smtp: what happened last to a damaged message of the queue cannot be written",
			"file", messageFile(id), "damage", why, "err", err)
	}
	d.putAside(id, why)
}

// putAside moves the files of a message to where nothing but a person looks at them.
func (d *Dir) putAside(id ID, why error) {
	err := d.fs.Mkdir(damagedDir)
	for _, name := range []string{messageFile(id), stateFile(id)} {
		if err == nil {
			err = d.fs.Rename(name, damagedDir+"/"+name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		d.logger.Error("smtp: a message in the queue is damaged, and cannot be put aside",
			"file", messageFile(id), "damage", why, "err", err)
		return
	}
	d.logger.Error("smtp: a message in the queue is damaged, and was put aside",
		"file", damagedDir+"/"+messageFile(id), "damage", why)
}

// clean removes messages that are done, files that were not accepted, and state files whose message is gone.
func (d *Dir) clean(temps []string, states map[ID]bool, done []ID) error {
	for _, id := range done {
		if err := d.fs.Remove(messageFile(id)); err != nil {
			return err
		}
		states[id] = true
	}
	if len(done) > 0 {
		// That they are gone has to be durable before their state files are removed.
		if err := d.fs.SyncDir("."); err != nil {
			return err
		}
	}
	for id := range states {
		temps = append(temps, stateFile(id))
	}
	for _, name := range temps {
		if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.logger.Warn("smtp: the queue has a file left over", "file", name, "err", err)
		}
	}
	return nil
}

// suspendedFile has the suspensions.
const suspendedFile = "suspended"

// suspensions are those that have been written.
type suspensions struct {
	mu    sync.Mutex
	notes []Suspension // sorted by Site
}

func (d *Dir) recoverSuspensions() error {
	f, err := d.fs.Open(suspendedFile)
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
	if err := json.NewDecoder(io.NewSectionReader(f, 0, size)).Decode(&d.suspensions.notes); err != nil {
		d.suspensions.notes = nil
		d.logger.Error("smtp: the suspensions of the queue cannot be read, and end", "file", suspendedFile, "err", err)
	}
	return nil
}

func compareSite(s Suspension, site string) int { return cmp.Compare(s.Site, site) }
