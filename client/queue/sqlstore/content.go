package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"

	"smtpkit.example/smtp/client/queue"
)

// Message returns a message. See [queue.Store].
func (s *Store) Message(ctx context.Context, id queue.ID) (*queue.Message, error) {
	if err := errors.Join(ctx.Err(), s.isOpen()); err != nil {
		return nil, err
	}
	if k := s.recently(id); k != nil {
		return decodeMessage(k.message, id)
	}
	var text []byte
	if err := s.read.message.QueryRow(string(id)).Scan(&text); err != nil {
		return nil, reading(err)
	}
	return decodeMessage(text, id)
}

func (s *Store) recently(id queue.ID) *kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent.get(id)
}

// Open returns the content of a message. See [queue.Store]. A content of one chunk is read at once; of a longer one,
// one chunk is kept in memory. When the message is removed, its chunks are when all contents of it are closed.
func (s *Store) Open(ctx context.Context, id queue.ID) (queue.Content, error) {
	if err := errors.Join(ctx.Err(), s.isOpen()); err != nil {
		return nil, err
	}
	if k := s.recently(id); k != nil {
		return short(k.content), nil
	}
	var size int64
	var number sql.NullInt64
	var content []byte
	if err := s.read.content.QueryRow(string(id)).Scan(&size, &number, &content); err != nil {
		return nil, reading(err)
	}
	if !number.Valid {
		return short(content), nil
	}
	return s.openBody(id, number.Int64, size)
}

func (s *Store) openBody(id queue.ID, number, size int64) (queue.Content, error) {
	s.mu.Lock()
	s.body(number).open++
	s.mu.Unlock()
	c := &long{s: s, number: number, size: size, cached: -1}
	// The message may have been removed after its row was read, and before the body was marked as open.
	var same sql.NullInt64
	err := s.read.body.QueryRow(string(id)).Scan(&same)
	if err == nil && same.Int64 != number {
		err = sql.ErrNoRows
	}
	if err == nil {
		err = s.read.chunkSize.QueryRow(number).Scan(&c.each)
	}
	if err != nil {
		_ = c.Close()
		return nil, reading(err)
	}
	return c, nil
}

func (s *Store) body(number int64) *body {
	b := s.bodies[number]
	if b == nil {
		b = new(body)
		s.bodies[number] = b
	}
	return b
}

// A body is a long content that is open, or is being removed.
type body struct {
	open    int
	removed bool
}

// newBody returns a number for a body.
func (s *Store) newBody() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastBody++
	return s.lastBody
}

// removeBody removes the chunks of a body when it is not open any more. If that fails, or the process ends, they are
// removed when the queue is opened.
func (s *Store) removeBody(number int64) {
	s.mu.Lock()
	b := s.body(number)
	b.removed = true
	free := b.open == 0
	s.mu.Unlock()
	if free {
		s.w.post(&request{task: &sweep{number: number}, alone: true})
	}
}

// A sweep removes a chunk of a body, and then the next one.
type sweep struct {
	number int64
	last   bool
}

func (t *sweep) prepare(*Store) (bool, error) { return true, nil }

func (t *sweep) write(b *batch) error {
	st, err := b.w.statement(
		"DELETE FROM queue_chunk WHERE body = ? AND n = (SELECT max(n) FROM queue_chunk WHERE body = ?)")
	if err != nil {
		return err
	}
	result, err := st.Exec(t.number, t.number)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	t.last = n == 0
	return err
}

func (t *sweep) finish(s *Store, err error) {
	if err != nil || t.last {
		delete(s.bodies, t.number)
		return
	}
	s.w.post(&request{task: &sweep{number: t.number}, alone: true})
}

// short is a content that is in memory.
type short []byte

func (c short) Size() int64  { return int64(len(c)) }
func (c short) Close() error { return nil }

func (c short) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errOffset
	}
	if off >= int64(len(c)) {
		return 0, io.EOF
	}
	n := copy(p, c[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

var errOffset = errors.New("smtp: the content was to be read before its beginning")

// A long is a content in chunks.
type long struct {
	s      *Store
	number int64
	size   int64
	each   int64 // the size of all chunks but the last

	mu     sync.Mutex
	closed bool
	cached int64 // which chunk is in chunk
	chunk  []byte
}

func (c *long) Size() int64 { return c.size }

func (c *long) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errOffset
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, errors.New("smtp: the content is closed")
	}
	for n < len(p) && off < c.size {
		if i := off / c.each; i != c.cached {
			c.cached = -1
			if err := c.s.read.chunk.QueryRow(c.number, i).Scan(&c.chunk); err != nil {
				return n, reading(err)
			}
			c.cached = i
		}
		k := copy(p[n:], c.chunk[off%c.each:])
		n += k
		off += int64(k)
		if k == 0 {
			return n, fmt.Errorf("smtp: chunk %d of a content in the database is too short", c.cached)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close lets go of the content.
func (c *long) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed, c.chunk = true, nil
	c.s.mu.Lock()
	b := c.s.bodies[c.number]
	b.open--
	removed := b.removed
	if b.open == 0 && !removed {
		delete(c.s.bodies, c.number)
	}
	free := b.open == 0 && removed
	c.s.mu.Unlock()
	if free {
		c.s.w.post(&request{task: &sweep{number: c.number}, alone: true})
	}
	return nil
}

// reading says what was done when an error came.
func reading(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return queue.ErrNotFound
	case isTemporary(err):
		return &temporaryError{fmt.Errorf("smtp: reading the queue: %w", err)}
	}
	return fmt.Errorf("smtp: reading the queue: %w", err)
}
