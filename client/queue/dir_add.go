package queue

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// An adding is a message that is being added: first its file is written under a temporary name, and synced; then it is
// renamed, and the directory synced. The syncer does all but the first.
type adding struct {
	id     ID
	size   int64
	file   vfs.File
	synced chan struct{} // closed by the syncer when it has done its part, or failed
	// renamed and err are the syncer's until then.
	renamed bool
	err     error
	ended   chan struct{} // closed when the message is in the index, or has failed
}

// Add implements Store. The error is that of Content, or of ctx while the content is read, or says what is wrong with
// the entry or the disk. It is temporary if the disk is full or too many files are open.
func (d *Dir) Add(ctx context.Context, e *Entry) error {
	a, err := d.beginAdd(ctx, e)
	if a == nil {
		return err
	}
	return d.endAdd(a, e)
}

// addAll adds several messages with the same syncs.
func (d *Dir) addAll(ctx context.Context, entries []*Entry) error {
	begun := make([]*adding, len(entries))
	var err error
	for i := 0; i < len(entries) && err == nil; i++ {
		begun[i], err = d.beginAdd(ctx, entries[i])
	}
	for i, a := range begun {
		if a != nil {
			err = errors.Join(err, d.endAdd(a, entries[i]))
		}
	}
	return err
}

// beginAdd writes a message, and gives it to the syncer. If it returns nil, there is nothing more to do.
func (d *Dir) beginAdd(ctx context.Context, e *Entry) (*adding, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	a, other, err := d.register(ctx, e)
	if a == nil && other != nil {
		// Somebody is adding the same message.
		<-other.ended
		e.Message.Size = other.size
		return nil, other.err
	}
	if a == nil {
		return nil, err
	}
	if err = d.write(ctx, a, e); err == nil {
		err = d.syncer.add(a)
	}
	if err != nil {
		a.err = err
		close(a.synced)
		return nil, d.endAdd(a, e)
	}
	return a, nil
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
	if other := d.adding[id]; other != nil {
		return nil, other, nil
	}
	a = &adding{id: id, synced: make(chan struct{}), ended: make(chan struct{})}
	d.adding[id] = a
	d.adds.Add(1)
	return a, nil, nil
}

// endAdd waits for the syncer, and puts the message into the index.
func (d *Dir) endAdd(a *adding, e *Entry) error {
	<-a.synced
	if a.file != nil {
		_ = a.file.Close() // all that could fail is synced
	}
	if a.err != nil && a.file != nil && !a.renamed && d.syncer.failure() == nil {
		// If it cannot be removed, OpenDir does it.
		_ = d.fs.Remove(tempFile(a.id))
	}
	e.Message.Size = a.size
	d.mu.Lock()
	delete(d.adding, a.id)
	if a.err == nil {
		d.index.add(e.Message, e.Jobs)
	}
	d.mu.Unlock()
	close(a.ended)
	d.adds.Done()
	return a.err
}

// writeBuffer is the size of what is written at once.
const writeBuffer = 64 << 10

var writeBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, writeBuffer)
	return &b
}}

// write writes a message under its temporary name.
func (d *Dir) write(ctx context.Context, a *adding, e *Entry) error {
	buf := writeBuffers.Get().(*[]byte)
	defer writeBuffers.Put(buf)
	blank := firstLine{}
	b, err := appendHead(blank.append((*buf)[:0]), e.Message, e.Jobs)
	if err != nil {
		return err
	}
	head := b[lineLength:]
	line := firstLine{head: int64(len(head)), headCRC: crc32.Checksum(head, castagnoli)}
	for whole := true; ; whole = false {
		if len(b) == cap(b) {
			// The envelope is larger than the buffer, and goes to the file alone.
			b = append(b, 0)[:len(b)]
		}
		n, err := fill(e.Content, b[len(b):cap(b)])
		line.contentCRC = crc32.Update(line.contentCRC, castagnoli, b[len(b):len(b)+n])
		line.content += int64(n)
		b = b[:len(b)+n]
		if ended := ctx.Err(); ended != nil && (err == nil || err == io.EOF) {
			err = ended
		}
		if err != nil && err != io.EOF {
			return err
		}
		if whole && err == io.EOF {
			line.append(b[:0])
		}
		if writeErr := d.writePart(a, b); writeErr != nil {
			return diskError("write "+tempFile(a.id), writeErr)
		}
		if err == io.EOF {
			a.size = line.content
			if whole {
				return nil
			}
			_, err = a.file.WriteAt(line.append(b[:0]), 0)
			if err != nil {
				return diskError("write "+tempFile(a.id), err)
			}
			return nil
		}
		b = b[:0]
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

// writePart writes to the file of a message. It makes the file for the first part, which has been read by then, so a
// client that hangs up early costs nothing.
func (d *Dir) writePart(a *adding, b []byte) error {
	if a.file == nil {
		f, err := d.fs.Create(tempFile(a.id))
		if errors.Is(err, fs.ErrExist) {
			// One that could not be removed.
			if err = d.fs.Remove(tempFile(a.id)); err == nil {
				f, err = d.fs.Create(tempFile(a.id))
			}
		}
		if err != nil {
			return err
		}
		a.file = f
	}
	_, err := a.file.Write(b)
	return err
}
