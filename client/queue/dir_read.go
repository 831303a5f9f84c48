package queue

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

var headBuffers = sync.Pool{New: func() any { return new([usualHead]byte) }}

// A storedFile is the file of a message that is read.
type storedFile interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// A heldFile is a file that is not made yet.
type heldFile []byte

func (f heldFile) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(f).ReadAt(b, off) }

func (f heldFile) Size() (int64, error) { return int64(len(f)), nil }

func (f heldFile) Close() error { return nil }

// A reader reads the files of messages, and what is not in files yet.
type reader struct {
	fs      vfs.FS
	backlog *backlog
	looked  atomic.Int64 // files that were opened
}

// openMessage opens the file of a message, and calls use with its head, which is valid only there. The caller closes
// the file. If there is an error, it is closed.
func (r *reader) openMessage(id ID, use func(*head) error) (storedFile, error) {
	var f storedFile
	if b, err := r.backlog.held(id); err != nil {
		return nil, err
	} else if b != nil {
		f = heldFile(b)
	} else {
		r.looked.Add(1)
		file, err := r.fs.Open(messageFile(id))
		if err != nil {
			return nil, err
		}
		f = file
	}
	buf := headBuffers.Get().(*[usualHead]byte)
	defer headBuffers.Put(buf)
	h, err := readHead(f, buf[:])
	if err == nil {
		err = use(h)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// read reads a job as it stands, and its message if that is wanted. The message is busy. The error is for unreadable.
func (r *reader) read(id JobID, files fileFlags, withMessage bool) (m *Message, j *Job, err error) {
	if j, err = r.readState(id, files); err != nil {
		return nil, nil, err
	}
	if j != nil && !withMessage {
		return nil, j, nil
	}
	f, err := r.openMessage(id.Message, func(h *head) (err error) {
		if withMessage {
			if m, err = h.decodeMessage(); err != nil {
				return err
			}
		}
		if j == nil {
			j, err = decodeJob(h.job(id))
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return m, j, f.Close()
}

// readState reads the state of a job. It returns nil if it has none.
func (r *reader) readState(id JobID, files fileFlags) (*Job, error) {
	if line, err := r.backlog.heldLine(id); err != nil {
		return nil, err
	} else if line != nil {
		json, ok := openState(bytes.TrimSuffix(line, []byte{'\n'}))
		if !ok {
			return nil, damaged("a line is not what was written")
		}
		return decodeJob(json)
	}
	if files&hasState == 0 {
		return nil, nil
	}
	r.looked.Add(1)
	f, err := r.fs.Open(stateFile(id.Message))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	line, err := findState(f, id)
	if err != nil || line == nil {
		return nil, err
	}
	return decodeJob(line)
}

func decodeJob(json []byte) (*Job, error) {
	if json == nil {
		return nil, damaged("a job is missing")
	}
	j := new(Job)
	if err := j.UnmarshalJSON(json); err != nil {
		return nil, damaged("%v", err)
	}
	return j, nil
}

// unreadable returns the error to return for a job that could not be read, and nil if it is gone. A damaged message is
// put aside. The message is busy.
func (d *Dir) unreadable(id JobID, err error) error {
	if !errors.Is(err, errDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return diskError("read message "+string(id.Message), err)
	}
	d.mu.Lock()
	m := d.index.message(id.Message)
	d.mu.Unlock()
	if m != nil {
		d.backlog.setAside(id.Message, err)
		d.forget(m)
	}
	return nil
}

// forget takes all jobs of a message out of the index.
func (d *Dir) forget(m *indexMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(m.jobs) > 0 {
		d.index.remove(m.jobs[0], false)
	}
}

// Message implements Store.
func (d *Dir) Message(ctx context.Context, id ID) (m *Message, err error) {
	err = d.readMessage(ctx, id, func() error {
		f, err := d.reader.openMessage(id, func(h *head) (err error) {
			m, err = h.decodeMessage()
			return err
		})
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Open implements Store. It reads the whole content once, to see that it is what was written.
func (d *Dir) Open(ctx context.Context, id ID) (Content, error) {
	var c *dirContent
	err := d.readMessage(ctx, id, func() (err error) {
		c, err = d.reader.openContent(id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// openContent opens the content of a message.
func (r *reader) openContent(id ID) (*dirContent, error) {
	var line firstLine
	f, err := r.openMessage(id, func(h *head) error {
		line = h.firstLine
		return nil
	})
	if err != nil {
		return nil, err
	}
	c := &dirContent{f, int64(lineLength) + line.head, line.content}
	if _, held := f.(heldFile); held {
		return c, nil
	}
	if err := c.check(line.contentCRC); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return c, nil
}

// readMessage reads something of a message by calling read, which may fail if the message changes meanwhile. Then it is
// called once more with the message busy.
func (d *Dir) readMessage(ctx context.Context, id ID, read func() error) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.calls.Done()
	d.mu.Lock()
	m := d.index.message(id)
	d.mu.Unlock()
	if m == nil {
		return ErrNotFound
	}
	if read() == nil {
		return nil
	}
	defer d.backlog.busyWith(id).Unlock()
	err := read()
	if err == nil {
		return nil
	}
	if err := d.unreadable(JobID{Message: id}, err); err != nil {
		return err
	}
	return ErrNotFound
}

// A dirContent is a part of a file.
type dirContent struct {
	file      storedFile
	at, octet int64
}

// readSize is how much of the content is read at once.
const readSize = 64 << 10

var contentBuffers = sync.Pool{New: func() any {
	b := make([]byte, readSize)
	return &b
}}

// check compares the content with its checksum.
func (c *dirContent) check(sum uint32) error {
	buf := contentBuffers.Get().(*[]byte)
	defer contentBuffers.Put(buf)
	b := *buf
	have := uint32(0)
	for off := int64(0); off < c.octet; off += int64(len(b)) {
		n, err := c.ReadAt(b[:min(int64(len(b)), c.octet-off)], off)
		if err != nil && err != io.EOF {
			return err
		}
		have = crc32.Update(have, castagnoli, b[:n])
	}
	if have != sum {
		return damaged("the checksum of the content is wrong")
	}
	return nil
}

// ReadAt implements Content.
func (c *dirContent) ReadAt(b []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, errors.New("smtp: negative offset")
	case off >= c.octet:
		return 0, io.EOF
	}
	// The content is the end of the file, which never becomes longer.
	return c.file.ReadAt(b, c.at+off)
}

// Close implements Content.
func (c *dirContent) Close() error { return c.file.Close() }

// Size implements Content.
func (c *dirContent) Size() int64 { return c.octet }

// Take implements Store. A job whose message is damaged is not handed out: see OpenDir.
func (d *Dir) Take(ctx context.Context, l Lease, q Query) ([]*Job, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	defer d.calls.Done()
	ids, err := d.take(ctx, l, q)
	if err != nil {
		return nil, err
	}
	jobs := make([]*Job, 0, len(ids))
	for i, id := range ids {
		j, err := d.readTaken(id)
		if err != nil {
			d.putBack(l, ids[i:])
			if len(jobs) > 0 {
				return jobs, nil // the next Take tells of the error
			}
			return nil, err
		}
		if j != nil {
			j.Epoch = l.Epoch
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

// A listedID is the ID of a job, with what the index knew of it.
type listedID struct {
	id    JobID
	epoch int64
}

func (d *Dir) take(ctx context.Context, l Lease, q Query) ([]listedID, error) {
	err := d.enterToWrite(ctx)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	taken, err := d.index.take(l, q)
	if err != nil {
		return nil, err
	}
	ids := make([]listedID, len(taken))
	for i, j := range taken {
		ids[i] = listedID{j.ID(), l.Epoch}
	}
	return ids, nil
}

// readTaken reads a job that is handed out. It returns nil if the job is gone.
func (d *Dir) readTaken(id listedID) (*Job, error) {
	defer d.backlog.busyWith(id.id.Message).Unlock()
	_, j, err := d.reader.read(id.id, d.flags(id.id.Message), false)
	if err != nil {
		return nil, d.unreadable(id.id, err)
	}
	if len(j.To) == 0 {
		return nil, nil
	}
	return j, nil
}

// flags returns what is known of the files of a message. One that could not be read is not in the index: it may have a
// state file, of which the last line may have no end.
func (d *Dir) flags(id ID) fileFlags {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.index.message(id); m != nil {
		return m.files
	}
	return hasState | tornState
}

// setFlags notes what is known of the files of a message.
func (d *Dir) setFlags(id ID, flags fileFlags) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.index.message(id); m != nil {
		m.files = flags
	}
}

// putBack has jobs wait again that were taken and not handed out.
func (d *Dir) putBack(l Lease, ids []listedID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lessee, err := d.index.lessee(l)
	if err != nil {
		return // they wait again already
	}
	for _, id := range ids {
		if j := d.index.find(id.id); j != nil && j.lessee == lessee {
			d.index.putBack(j)
		}
	}
}

// listChunk is how many jobs are looked up in the index at once. Others can use it in between.
const listChunk = 256

// candidates returns jobs that match f as far as the index knows, from the one after a cursor.
func (d *Dir) candidates(ctx context.Context, f *Filter, after JobID, toWrite bool) ([]listedID, error) {
	err := d.enter(ctx)
	defer d.mu.Unlock()
	if err == nil && toWrite {
		err = d.backlog.failure()
	}
	if err != nil {
		return nil, err
	}
	var ids []listedID
	for j := range d.index.list(f, after) {
		ids = append(ids, listedID{j.ID(), j.epoch()})
		if len(ids) == listChunk {
			break
		}
	}
	return ids, nil
}

// List implements Store.
func (d *Dir) List(ctx context.Context, f Filter, after JobID, max int) (jobs []Listed, next JobID, err error) {
	if err := d.begin(ctx); err != nil {
		return nil, JobID{}, err
	}
	defer d.calls.Done()
	for {
		ids, err := d.candidates(ctx, &f, after, false)
		if err != nil || len(ids) == 0 {
			return jobs, JobID{}, err
		}
		for _, id := range ids {
			after = id.id
			l, err := d.listed(id)
			if err != nil {
				return nil, JobID{}, err
			}
			if l.Job == nil || !f.Match(l.Message, l.Job) {
				continue
			}
			if len(jobs) >= max {
				if len(jobs) > 0 {
					next = jobs[len(jobs)-1].Job.ID
				}
				return jobs, next, nil
			}
			jobs = append(jobs, l)
		}
	}
}

// listed reads a job with its message. The job is nil if it is gone.
func (d *Dir) listed(id listedID) (Listed, error) {
	defer d.backlog.busyWith(id.id.Message).Unlock()
	m, j, err := d.reader.read(id.id, d.flags(id.id.Message), true)
	if err != nil {
		return Listed{}, d.unreadable(id.id, err)
	}
	if len(j.To) == 0 {
		return Listed{}, nil
	}
	j.Epoch = id.epoch
	return Listed{m, j}, nil
}
