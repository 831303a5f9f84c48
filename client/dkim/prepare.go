package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Signer signs messages on their way out. Several goroutines may use it at once, for different messages. New makes
// one.
type Signer struct {
	cfg *config
}

// New returns a signer with a copy of opt. Nil stands for the zero value: such a signer has no keys, and signs nothing.
// The error names the option that is wrong.
func New(opt *Options) (*Signer, error) {
	if opt == nil {
		opt = &Options{}
	}
	cfg, err := opt.config()
	if err != nil {
		return nil, err
	}
	return &Signer{cfg}, nil
}

// Prepare returns a copy of m with signatures in front of the content: one for each key of the domain in the From
// field. Where From has several addresses, the keys of all their domains sign. If there are no keys for any of them,
// the copy has no signature, or there is an error if Options.Required is set. M and its content have to stay as they
// are, and M must not be sent, until the copy has been sent.
//
// Signed is what the client transmits: each CR or LF that is not part of a CRLF counts as CRLF. Binary content
// (ext.Binary in Needs) is not text, and is an error if it has a CR or LF of that kind. A server on the way must not
// change the content: if octets above 127 may meet a server without 8BITMIME, encode them before.
//
// Prepare reads the content to its end if there is a key. What the copy reads when it is sent depends on Body:
//   - An [io.Seeker] is read a second time, from where it stood, and is put back then. Nothing is held in memory.
//   - Anything else is held in memory, up to Options.MaxHeld octets. A program that writes the content (see
//     [client.WriterBody]) may write it differently each time, and the signature is for one of them.
//   - What is longer, and comes from client.WriterBody or client.OpenBody, is read a second time. If that gives other
//     octets, the Body fails, and the server does not get the message.
//   - What is longer, and can be read once only, is an error: give it as one of the others.
//
// A signed copy can be sent several times. A Body that can be read once only is used up by Prepare: another call with m
// fails, as another attempt to send m would; see [client.Message.Body]. Sign again for an attempt hours later if
// signatures expire.
//
// The error is a [client.MessageError] if the message cannot be signed, a [KeyError] if a key failed, or that of ctx.
// Nothing is left behind then.
func (s *Signer) Prepare(ctx context.Context, m *client.Message) (*client.Message, error) {
	if m == nil {
		m = &client.Message{} // which has no recipients
	}
	start, seeker := place(m.Body)
	r, again, err := m.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	kept := &keeper{r: r, most: s.cfg.maxHeld, off: seeker != nil, again: again}
	fields, size, err := s.cfg.signatures(ctx, kept, m.Needs&ext.Binary != 0)
	if err != nil {
		return nil, err
	}
	if err := r.Close(); err != nil {
		return nil, &client.MessageError{What: "reading the body", Err: err}
	}
	signed := &client.Message{
		From: m.From, Mail: m.Mail, To: m.To, Body: m.Body, Size: m.Size, Needs: m.Needs, AllOrNone: m.AllOrNone,
	}
	if fields == "" {
		if !again {
			signed.Body = io.MultiReader(bytes.NewReader(kept.held), m.Body)
		}
		return signed, nil
	}
	signed.Size = int64(len(fields)) + size
	switch {
	case seeker != nil:
		signed.Body = behind(fields, seeker, start, kept.n)
	case !kept.off:
		signed.Body = bytes.NewReader(append([]byte(fields), kept.held...))
	default:
		original := *m
		signed.Body = client.WriterBody(client.WriterFunc(func(w io.Writer) error {
			return kept.write(w, fields, &original)
		}))
	}
	return signed, nil
}

// signatures returns the fields to be put in front of content, and the size of the content as it is transmitted. It
// reads the content to its end, unless there are none.
func (c *config) signatures(ctx context.Context, r io.Reader, binary bool) (fields string, size int64, err error) {
	t, err := openContent(ctx, r, binary, c.maxHeader)
	if err != nil {
		return "", 0, err
	}
	keys, err := c.keysFor(t.header)
	if err != nil || len(keys) == 0 {
		return "", 0, err
	}
	if t.header.wrong != nil {
		return "", 0, t.header.wrong
	}
	fields, err = c.sign(t, keys)
	return fields, t.wire.size, err
}

// Sender returns a Sender that signs each message and sends it by next: a pool, say, or what delivers to mail
// exchangers. The outcomes are those for the recipients of the message. If it cannot be signed, nothing is sent, and
// each recipient has the error of [Signer.Prepare].
func (s *Signer) Sender(next client.Sender) client.Sender {
	return client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
		signed, err := s.Prepare(ctx, m)
		if err == nil {
			return next.Send(ctx, signed)
		}
		res := &client.Result{}
		if m != nil {
			res.Recipients = make([]proto.Outcome, len(m.To))
			for i := range m.To {
				res.Recipients[i] = proto.Outcome{Recipient: m.To[i], Err: err}
			}
		}
		return res, &client.SendError{Result: res, Err: err}
	})
}

// place returns r as a seeker and where it stands, or nil if it is none. The type does not tell: a pipe can be an
// *os.File.
func place(r io.Reader) (start int64, seeker io.ReadSeeker) {
	if s, ok := r.(io.ReadSeeker); ok {
		if start, err := s.Seek(0, io.SeekCurrent); err == nil {
			return start, s
		}
	}
	return 0, nil
}

// A keeper reads content, counts it, and keeps what has been read.
type keeper struct {
	r     io.Reader
	most  int  // of octets that may be held
	again bool // r can be had again

	n    int64
	held []byte
	off  bool      // nothing is held any more
	sum  hash.Hash // of what was read, if it is not held
}

func (k *keeper) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	k.n += int64(n)
	if k.sum != nil {
		k.sum.Write(p[:n])
	}
	if k.off {
		return n, err
	}
	if len(k.held)+n <= k.most {
		k.held = append(k.held, p[:n]...)
		return n, err
	}
	if !k.again {
		return n, fmt.Errorf("it is longer than the %d octets of Options.MaxHeld and can be read once only: give the "+
			"message a Body that can be read again, such as a file, or what client.OpenBody returns", k.most)
	}
	k.sum = sha256.New()
	k.sum.Write(k.held)
	k.sum.Write(p[:n])
	k.held, k.off = nil, true
	return n, err
}

// write writes the fields and the content of m, which has to be what was read before.
func (k *keeper) write(w io.Writer, fields string, m *client.Message) error {
	if _, err := io.WriteString(w, fields); err != nil {
		return err
	}
	r, _, err := m.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), r); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), k.sum.Sum(nil)) {
		return errOther
	}
	return r.Close()
}

var errOther = errors.New("it is not what it was when it was signed: each reading has to give the same octets")

// behind returns a Body that has fields in front of the n octets of r from start on.
func behind(fields string, r io.ReadSeeker, start, n int64) io.Reader {
	switch r.(type) {
	case *os.File, *bytes.Reader, *strings.Reader, *io.SectionReader:
		all := &joined{head: fields, tail: io.NewSectionReader(r.(io.ReaderAt), start, n)}
		return io.NewSectionReader(all, 0, int64(len(fields))+n)
	}
	return &prefixed{head: fields, r: r, start: start, end: int64(len(fields)) + n}
}

// A joined has octets in front of others. It can be read at several places at once.
type joined struct {
	head string
	tail *io.SectionReader
}

func (j *joined) ReadAt(p []byte, off int64) (n int, err error) {
	if off < int64(len(j.head)) {
		n = copy(p, j.head[off:])
	}
	if n == len(p) {
		return n, nil
	}
	off += int64(n - len(j.head))
	m, err := j.tail.ReadAt(p[n:], off)
	if err == io.EOF && off+int64(m) < j.tail.Size() {
		err = io.ErrUnexpectedEOF
	}
	return n + m, err
}

// A prefixed has octets in front of those of a seeker.
type prefixed struct {
	head  string
	r     io.ReadSeeker
	start int64 // of the seeker
	pos   int64
	end   int64
}

func (b *prefixed) Read(p []byte) (int, error) {
	if b.pos >= b.end {
		return 0, io.EOF
	}
	var n int
	var err error
	if b.pos < int64(len(b.head)) {
		n = copy(p, b.head[b.pos:])
	} else if n, err = b.r.Read(p[:min(int64(len(p)), b.end-b.pos)]); err == io.EOF && b.pos+int64(n) < b.end {
		err = io.ErrUnexpectedEOF
	}
	b.pos += int64(n)
	return n, err
}

// Seek puts the seeker to the octet that is read next.
func (b *prefixed) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.pos
	case io.SeekEnd:
		offset += b.end
	}
	if offset < 0 {
		return 0, errors.New("smtp: dkim: a place in front of the content")
	}
	if _, err := b.r.Seek(b.start+max(0, offset-int64(len(b.head))), io.SeekStart); err != nil {
		return 0, err
	}
	b.pos = offset
	return offset, nil
}
