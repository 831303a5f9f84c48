package queue

import (
	"bytes"
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

// A recovery reads the directory into the index of a Dir, and removes what a crash has left over.
type recovery struct {
	*Dir
	messages []ID        // sorted
	states   map[ID]bool // those that have a state file
	temps    []string    // files to remove
	done     []ID        // messages that have no jobs left; Dir.mu is locked
}

func (d *recovery) run() error {
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
	for _, name := range names {
		base, kind := splitName(name)
		id := ID(base)
		switch {
		case kind == "tmp" && (id.Valid() || base == suspendedFile):
			d.temps = append(d.temps, name)
		case !id.Valid():
		case kind == "msg":
			d.messages = append(d.messages, id)
		case kind == "state":
			d.states[id] = true
		}
	}
	inJournal := d.backlog.pendingIDs()
	d.messages = append(d.messages, inJournal...)
	// In order, the index takes them fastest.
	slices.Sort(d.messages)
	d.messages = slices.Compact(d.messages)
	d.recoverMessages()
	for _, id := range d.messages {
		delete(d.states, id)
	}
	if err := d.suspensions.read(); err != nil {
		return err
	}
	return d.clean()
}

// recoverMessages reads the messages, several at once.
func (d *recovery) recoverMessages() {
	var (
		wg   sync.WaitGroup
		next atomic.Int64
	)
	for range min(4*runtime.GOMAXPROCS(0), len(d.messages)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(d.messages) {
					return
				}
				id := d.messages[i]
				left, err := d.recoverMessage(id)
				switch {
				case errors.Is(err, errDamaged):
					d.backlog.setAside(id, err)
				case err != nil:
					d.mu.Lock()
					d.unread[id] = err
					d.mu.Unlock()
					d.logger.Error("smtp: a message in the queue cannot be read, and stays where it is",
						"file", messageFile(id), "err", err)
				case !left:
					d.mu.Lock()
					d.done = append(d.done, id)
					d.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
}

// recoverMessage puts a message into the index. It reports false if no job is left.
func (d *recovery) recoverMessage(id ID) (left bool, err error) {
	p := d.backlog.pendingOf(id)
	if p != nil && p.clear && p.file == nil {
		return true, nil // it is done, and what is left of it is removed later
	}
	m, jobs, err := d.recoverHead(id)
	if p != nil && errors.Is(err, fs.ErrNotExist) {
		d.backlog.discard(p) // it was never accepted, or is done
		return true, nil
	}
	if err != nil {
		return false, err
	}
	var files fileFlags
	if d.states[id] && (p == nil || !p.clear) {
		if files, err = d.recoverState(id, jobs); err != nil {
			return false, err
		}
	}
	if p != nil {
		for i := range p.lines {
			line, err := d.backlog.read(&p.lines[i].unwritten)
			if err == nil {
				_, err = recoverLine(id, jobs, bytes.TrimSuffix(line, []byte{'\n'}))
			}
			if err != nil {
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

// recoverHead reads a message and its jobs as they were when it was added.
func (d *recovery) recoverHead(id ID) (m *Message, jobs []jobFacts, err error) {
	f, err := d.reader.openMessage(id, func(h *head) (err error) {
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
	if err != nil {
		return nil, nil, err
	}
	_ = f.Close() // nothing was written
	return m, jobs, nil
}

// recoverState changes jobs to what the state file says. A line that is damaged is as if it had not been written: of
// what was not synced, some may be there.
func (d *recovery) recoverState(id ID, jobs []jobFacts) (fileFlags, error) {
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
	i := j.ID.N // as usual
	if i < 0 || i >= len(jobs) || jobs[i].N != i {
		i = slices.IndexFunc(jobs, func(f jobFacts) bool { return f.N == j.ID.N })
	}
	if i >= 0 && j.ID.Message == id {
		jobs[i] = factsOf(j)
	}
	return true, nil
}

// clean removes messages that are done, files that were not accepted, and state files whose message is gone.
func (d *recovery) clean() error {
	for _, id := range d.done {
		if err := d.fs.Remove(messageFile(id)); err != nil {
			return err
		}
		d.states[id] = true
	}
	if len(d.done) > 0 {
		// That they are gone has to be durable before their state files are removed.
		if err := d.fs.SyncDir("."); err != nil {
			return err
		}
	}
	for id := range d.states {
		d.temps = append(d.temps, stateFile(id))
	}
	for _, name := range d.temps {
		if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.logger.Warn("smtp: the queue has a file left over", "file", name, "err", err)
		}
	}
	return nil
}
