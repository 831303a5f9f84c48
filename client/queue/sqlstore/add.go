package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"smtpkit.example/smtp/client/queue"
)

// An addition is a message that is to be added: its rows, and what is handed out with it.
type addition struct {
	id      queue.ID
	tag     string
	size    int64
	message []byte
	content []byte // nil if there is a body
	body    int64
	rows    []row
	epochs  []int64 // of the rows

	out  []*handed // for each row that was handed out when the addition was prepared; nil for others
	dup  bool      // there is a message of this ID already
	open bool      // body is complete, but has no message yet
}

// Add adds a message. See [queue.Store]. It keeps at most one chunk of the content in memory: see [Options].
//
// If ctx ends, Add fails with its error, and nothing is kept, unless the message is being written already. Then Add
// returns what comes of that.
func (s *Store) Add(ctx context.Context, e *queue.Entry) error {
	a, err := s.newAddition(ctx, e)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, &request{task: a, octets: len(a.content) + len(a.message), durable: true})
	s.abandon(a)
	return err
}

// newAddition reads the content, and writes it if it is long.
func (s *Store) newAddition(ctx context.Context, e *queue.Entry) (a *addition, err error) {
	if !e.Message.ID.Valid() {
		return nil, fmt.Errorf("smtp: %q is not the ID of a message; use queue.NewID", e.Message.ID)
	}
	a = &addition{id: e.Message.ID, tag: e.Message.Tag}
	if err := s.readContent(ctx, a, e.Content); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.abandon(a)
		}
	}()
	e.Message.Size = a.size
	if a.message, err = e.Message.MarshalJSON(); err != nil {
		return nil, fmt.Errorf("smtp: encoding the message %s: %w", a.id, err)
	}
	arrived := floor(e.Message.Arrived)
	a.rows = make([]row, len(e.Jobs))
	for i, j := range e.Jobs {
		if j.ID.Message != a.id {
			return nil, fmt.Errorf("smtp: the job %v is not one of the message %s", j.ID, a.id)
		}
		if a.rows[i], err = newRow(j, arrived); err != nil {
			return nil, err
		}
		a.epochs = append(a.epochs, j.Epoch)
	}
	return a, nil
}

// readContent reads the content into a, if it is one chunk at most, or writes it as a body.
func (s *Store) readContent(ctx context.Context, a *addition, content io.Reader) error {
	if b, ok := content.(*bytes.Reader); ok && b.Len() <= s.chunk {
		var in inPlace
		_, _ = b.WriteTo(&in) // it cannot fail
		a.content = in.b
		if in.b == nil {
			a.content = []byte{}
		}
		a.size = int64(len(a.content))
		return nil
	}
	var buffer bytes.Buffer
	n, err := io.CopyN(&buffer, content, int64(s.chunk)+1)
	if errors.Is(err, io.EOF) {
		a.content, a.size = append([]byte{}, buffer.Bytes()...), n
		return nil
	}
	if err != nil {
		return err
	}
	a.body, a.open = s.newBody(), true
	if err := s.writeBody(ctx, a, io.MultiReader(bytes.NewReader(buffer.Bytes()), content)); err != nil {
		s.abandon(a)
		return err
	}
	return nil
}

// An inPlace takes note of where a bytes.Reader has its octets, which are written before Add returns.
type inPlace struct{ b []byte }

func (w *inPlace) Write(b []byte) (int, error) {
	w.b = b
	return len(b), nil
}

// writeBody writes chunks, in transactions of their own. They are durable when the message is.
func (s *Store) writeBody(ctx context.Context, a *addition, content io.Reader) error {
	chunk := make([]byte, s.chunk)
	for n := 0; ; n++ {
		k, err := io.ReadFull(content, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if k > 0 {
			t := &chunkTask{body: a.body, n: n, data: chunk[:k]}
			if err := s.w.do(ctx, &request{task: t, octets: k}); err != nil {
				return err
			}
		}
		a.size += int64(k)
		if err != nil {
			return nil
		}
	}
}

// abandon removes the body of a message that was not added.
func (s *Store) abandon(a *addition) {
	if a.open {
		a.open = false
		s.removeBody(a.body)
	}
}

// prepare hands jobs out whose lease has not ended, before anybody else can see them.
func (a *addition) prepare(s *Store) (bool, error) {
	for i, epoch := range a.epochs {
		if epoch == 0 {
			continue
		}
		r := &a.rows[i]
		d, err := s.leases.lessee(queue.Lease{Destination: r.destination, Epoch: epoch})
		if err != nil || d.lease.out[r.id] != nil {
			continue
		}
		if a.out == nil {
			a.out = make([]*handed, len(a.rows))
		}
		sole := len(a.rows) == 1 && a.body == 0
		a.out[i] = &handed{lease: d.lease, arrived: r.arrived, sole: sole, tag: a.tag, size: a.size}
		d.lease.out[r.id] = a.out[i]
	}
	return true, nil
}

// write adds the message. A message whose ID is there already fails its transaction, and is then tried alone.
func (a *addition) write(b *batch) error {
	if b.careful {
		var err error
		if a.dup, err = b.has(a.id); err != nil || a.dup {
			return err
		}
	}
	b.add(a)
	return nil
}

func (a *addition) finish(s *Store, err error) {
	added := err == nil && !a.dup
	if added {
		a.open = false
		if a.out != nil && a.body == 0 && a.size <= recentLimit {
			s.recent.add(&kept{a.id, a.message, bytes.Clone(a.content)})
		}
	}
	for i := range a.rows {
		r := &a.rows[i]
		var h *handed
		if a.out != nil {
			h = a.out[i]
		}
		if h != nil && !added {
			delete(h.lease.out, r.id)
			h.lease.rewind() // it may be there from before
		}
		if !added {
			continue
		}
		d := s.leases.destination(r.destination)
		d.jobs++
		if h == nil || d.lease != h.lease {
			s.leases.waits(r)
		}
	}
}

// A chunkTask writes a chunk of a body.
type chunkTask struct {
	body int64
	n    int
	data []byte
}

func (t *chunkTask) prepare(*Store) (bool, error) { return true, nil }

func (t *chunkTask) write(b *batch) error {
	return b.w.exec("INSERT INTO queue_chunk (body, n, data) VALUES (?, ?, ?)", t.body, t.n, t.data)
}

func (t *chunkTask) finish(*Store, error) {}
