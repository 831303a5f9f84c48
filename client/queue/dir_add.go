package queue

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"smtpkit.example/smtp/client/queue/internal/journal"
	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// An adding is a message that is being added. The journal has it, or else a file of its own under a temporary name.
type adding struct {
	d     *Dir
	id    ID
	size  int64
	mark  journal.Mark
	file  vfs.File
	err   error
	ended chan struct{} // closed when the message is in the index, or has failed
}

// Add implements Store. The error is that of Content, or of ctx while the content is read or the journal is full, or
// says what is wrong with the entry or the disk. It is temporary if the disk is full or too many files are open.
func (d *Dir) Add(ctx context.Context, e *Entry) error {
	a, other, err := d.beginAdd(ctx, e)
	switch {
	case a != nil:
		return a.end(e)
	case other != nil:
		return other.wait(ctx, e)
	}
	return err
}

// addAll adds several messages with the same syncs.
func (d *Dir) addAll(ctx context.Context, entries []*Entry) error {
	own, others := make([]*adding, len(entries)), make([]*adding, len(entries))
	var err error
	for i := 0; i < len(entries) && err == nil; i++ {
		own[i], others[i], err = d.beginAdd(ctx, entries[i])
	}
	for i, a := range own {
		if a != nil {
			err = errors.Join(err, a.end(entries[i]))
		}
	}
	// Only now, since somebody who adds one of these may wait for one of those.
	for i, a := range others {
		if a != nil {
			err = errors.Join(err, a.wait(ctx, entries[i]))
		}
	}
	return err
}

// beginAdd writes a message. If the message is there, or there is an error, there is nothing more to do. Other is
// somebody else who is adding the same message.
func (d *Dir) beginAdd(ctx context.Context, e *Entry) (a, other *adding, err error) {
	if err := e.check(); err != nil {
		return nil, nil, err
	}
	a, other, err = d.register(ctx, e)
	if a == nil {
		return nil, other, err
	}
	if a.err = a.write(ctx, e); a.err != nil {
		return nil, nil, a.end(e)
	}
	return a, nil, nil
}

// wait waits until somebody else has added a message.
func (a *adding) wait(ctx context.Context, e *Entry) error {
	select {
	case <-a.ended:
		e.Message.Size = a.size
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// register notes that a message is being added. It returns nil if there is nothing to do, or somebody else is adding
// it.
func (d *Dir) register(ctx context.Context, e *Entry) (a, other *adding, err error) {
	id := e.Message.ID
	err = d.enterToWrite(ctx)
	defer d.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	if m := d.index.message(id); m != nil {
		e.Message.Size = m.size
		return nil, nil, nil
	}
	if err := d.unread[id]; err != nil {
		return nil, nil, &dirError{"take a message that it has, and cannot read", err, true}
	}
	if other := d.adding[id]; other != nil {
		return nil, other, nil
	}
	a = &adding{d: d, id: id, ended: make(chan struct{})}
	d.adding[id] = a
	d.calls.Add(1)
	return a, nil, nil
}

// end makes a message durable that is written, and puts it into the index.
func (a *adding) end(e *Entry) error {
	d := a.d
	switch {
	case a.file != nil:
		a.err = a.finishFile()
	case a.err == nil:
		a.err = d.backlog.sync(a.mark)
	}
	e.Message.Size = a.size
	d.mu.Lock()
	delete(d.adding, a.id)
	if a.err == nil {
		d.index.add(e.Message, e.Jobs)
	}
	d.mu.Unlock()
	close(a.ended)
	d.calls.Done()
	return a.err
}

// finishFile syncs the file of a message, gives it its name, and makes that durable. After an error the file is
// removed, but not after one of a sync.
func (a *adding) finishFile() error {
	d := a.d
	err := a.err
	if err == nil {
		err = d.backlog.files.syncFile(a.file)
	}
	_ = a.file.Close() // all that could fail is synced
	if err == nil {
		err = d.backlog.putFile(a.id)
	}
	if err == nil {
		// What is in the journal becomes durable too, as with each Add.
		return d.backlog.syncAll()
	}
	if d.backlog.failure() == nil {
		_ = d.fs.Remove(tempFile(a.id)) // if it cannot be removed, OpenDir does it
	}
	return err
}

// recordBuffers have room for the largest record.
var recordBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, recordStart+journaledSize)
	return &b
}}

// write writes a message: to the journal if it is small enough.
func (a *adding) write(ctx context.Context, e *Entry) error {
	buf := recordBuffers.Get().(*[]byte)
	defer recordBuffers.Put(buf)
	b := beginRecord((*buf)[:0], addRecord, a.id)
	b, err := appendHead(append(b, make([]byte, lineLength)...), e.Message, e.Jobs)
	if err != nil {
		return err
	}
	head := b[recordStart+lineLength:]
	line := firstLine{head: int64(len(head)), headCRC: crc32.Checksum(head, castagnoli)}
	if len(b) == cap(b) {
		b = append(b, 0)[:len(b)] // an envelope that is larger than the buffer
	}
	n, err := fill(e.Content, b[len(b):cap(b)])
	line.add(b[len(b) : len(b)+n])
	b = b[:len(b)+n]
	if ended := ctx.Err(); ended != nil && (err == nil || err == io.EOF) {
		err = ended
	}
	switch {
	case err == nil || err == io.EOF && len(b) > recordStart+journaledSize:
		return a.writeFile(ctx, e.Content, line, b[recordStart:])
	case err != io.EOF:
		return err
	}
	line.append(b[:recordStart])
	a.size = line.content
	a.mark, err = a.d.backlog.put(ctx, a.id, slices.Clone(b))
	return err
}

// writeFile writes a message to a file, under a temporary name. The first part is read already. A client that hangs up
// early has cost no file.
func (a *adding) writeFile(ctx context.Context, content io.Reader, line firstLine, b []byte) error {
	file, err := create(a.d.fs, tempFile(a.id))
	if err != nil {
		return diskError("write "+tempFile(a.id), err)
	}
	a.file = file
	for {
		if _, err := file.Write(b); err != nil {
			return diskError("write "+tempFile(a.id), err)
		}
		b = b[:cap(b)]
		n, err := fill(content, b)
		b = b[:n]
		line.add(b)
		if ended := ctx.Err(); ended != nil && (err == nil || err == io.EOF) {
			err = ended
		}
		if err != nil && err != io.EOF {
			return err
		}
		if n > 0 {
			continue
		}
		a.size = line.content
		if _, err = file.WriteAt(line.append(b[:0]), 0); err != nil {
			return diskError("write "+tempFile(a.id), err)
		}
		return nil
	}
}

// fill reads until b is full, or an error, which is io.EOF at the end of r.
func fill(r io.Reader, b []byte) (n int, err error) {
	for empty := 0; n < len(b) && err == nil; {
		var m int
		m, err = r.Read(b[n:])
		n += m
		if m > 0 {
			empty = 0
		} else if empty++; empty == 100 && err == nil {
			err = io.ErrNoProgress
		}
	}
	return n, err
}
