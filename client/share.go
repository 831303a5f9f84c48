package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"smtpkit.example/smtp/proto"
)

// shareMemory is how much content Share keeps in memory, if it has to keep it at all.
const shareMemory = 1 << 20

// A Shared is a message that several goroutines can send at the same time, to recipients of their own. [Share] makes
// one. Its methods may be called by several goroutines at once.
type Shared struct {
	m    Message // as it was given, less what belongs to one attempt
	open func() io.Reader

	mu   sync.Mutex
	file *os.File // what was too much for memory; nil if there is none
	name string   // of file, where that could not be removed while it is open
}

// Share prepares m to be sent in several parts at the same time: one for each server, say. It is for those who write a
// [Sender] of their own that has several destinations. [Shared.Message] makes the parts. Call [Shared.Close] when all
// of them have been sent.
//
// What the parts read depends on the Body of m:
//   - Nothing is copied if Body is an [io.ReaderAt] and an [io.Seeker]: a bytes.Reader, a strings.Reader, an os.File,
//     or an io.SectionReader. Each part reads it from where it stands to its end, by ReadAt. The end is where it is
//     when Share is called: nobody may write to a file meanwhile. The same goes for the *bytes.Buffer of [NewMessage].
//   - What [OpenBody] returns is opened by each part, so several may be open at the same time.
//   - Any other Body is read once, by Share: what WriterBody returns, since two calls of WriteTo might disturb each
//     other, an io.Seeker without ReadAt, and a plain reader. Up to 1 MiB is kept in memory. What is longer goes into a
//     file in [os.TempDir], which nobody else can open, and which is gone after Close, or with the process; on Windows,
//     where an open file cannot be removed, after Close. Its size is bounded by the disk alone.
//
// M must not be sent or changed, nor its Body used, before Close. Its Body stands where it stood then. A Body that
// cannot be read again is used up by Share; see Message.Body.
//
// The error is a [MessageError] if Body fails, panics, or was used up before. If the file cannot be written, it is an
// error of another type, which is temporary with the status code 4.3.0. Nothing is left to be closed then.
func Share(m *Message) (*Shared, error) {
	if m == nil {
		m = &Message{} // which has no recipients
	}
	if m.spent() {
		return nil, errUsed
	}
	s := &Shared{m: *m}
	s.m.used, s.m.delivery = nil, nil
	if err := s.prepare(m); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// prepare finds out how the parts are going to read the Body of m.
func (s *Shared) prepare(m *Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &MessageError{What: "reading the body", Err: fmt.Errorf("it panicked: %v", p)}
		}
	}()
	if m.Body == nil {
		s.open = func() io.Reader { return nil }
		return nil
	}
	if src, ok := m.Body.(*source); ok && src.several {
		s.open = func() io.Reader { return &source{open: src.open, several: true, first: src.root()} }
		return nil
	}
	r := m.Body
	if at, ok := r.(io.ReaderAt); ok {
		// This moves the Body, so a bufferReader has begun now.
		start, size, err := extent(r)
		if err != nil {
			return err
		}
		if size > 0 {
			s.open = func() io.Reader { return io.NewSectionReader(at, start, size) }
			return nil
		}
	}
	return s.keep(m)
}

// extent returns where r stands, and how many octets are left from there. None are left if r cannot tell. It returns an
// error if r cannot be put back.
func extent(r io.Reader) (start, left int64, err error) {
	o := originOf(r)
	if o.seeker == nil {
		return 0, 0, nil
	}
	end, failed := o.seeker.Seek(0, io.SeekEnd)
	if _, err := o.seeker.Seek(o.start, io.SeekStart); err != nil {
		return 0, 0, &MessageError{What: "the body cannot be put back to where it stood", Err: err}
	}
	if failed != nil {
		return 0, 0, nil
	}
	return o.start, end - o.start, nil
}

// keep reads the Body of m, and keeps what it has read.
func (s *Shared) keep(m *Message) error {
	var b body
	used := true
	defer func() { // also if the Body panics
		if used {
			m.used = m.Body
		}
	}()
	defer func() { used = !b.rewind() }()
	defer b.close()
	var text bytes.Buffer
	var size int64
	err := b.load(m.Body)
	for err == nil {
		p := b.block()
		if size += int64(len(p)); s.file == nil && size > shareMemory {
			if err := s.create(); err != nil {
				return err
			}
			p = append(text.Bytes(), p...)
			text = bytes.Buffer{}
		}
		if s.file == nil {
			text.Write(p)
		} else if _, err := s.file.Write(p); err != nil {
			return &keepError{err}
		}
		if b.last() {
			break
		}
		err = b.next()
	}
	if err != nil {
		return &MessageError{What: "reading the body", Err: err}
	}
	if file := s.file; file != nil {
		s.open = func() io.Reader { return io.NewSectionReader(file, 0, size) }
	} else {
		s.open = func() io.Reader { return bytes.NewReader(text.Bytes()) }
	}
	return nil
}

// create makes the file, which has no name any more where that is possible.
func (s *Shared) create() error {
	f, err := os.CreateTemp("", "smtp-*")
	if err != nil {
		return &keepError{err}
	}
	s.file = f
	if os.Remove(f.Name()) != nil {
		s.name = f.Name()
	}
	return nil
}

// Message returns a copy of the message for the recipients to, with a Body of its own. It can be sent at the same time
// as others, and again, as long as the Shared is not closed.
func (s *Shared) Message(to []proto.Recipient) *Message {
	m := s.m
	m.To, m.Body = to, s.open()
	return &m
}

// Close gives back what Share has taken. Call it when no part is being sent any more: a Body that was kept in a file
// fails then. It may be called again.
func (s *Shared) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	if s.name != "" {
		err = errors.Join(err, os.Remove(s.name))
	}
	return err
}

// A keepError means that a message could not be kept in a file while it is sent. It is no fault of the message.
type keepError struct {
	err error
}

func (e *keepError) Error() string {
	return "smtp: keeping the content in a file while it is sent: " + cause(e.err)
}
func (e *keepError) Unwrap() error { return e.err }

// Status returns 4.3.0: another attempt may find room on the disk (RFC 3463 section 3.4).
func (e *keepError) Status() proto.Status { return proto.Status{4, 3, 0} }
