package client

import "io"

// Open begins to read the content of m. It is for those who write a [Sender] of their own, or make another message of
// m, with a signature in front, say. Close ends the reading, and puts an [io.Seeker] back to where it stood. Call it
// before the content is read again, and before m is sent. Without a Body there is nothing to read.
//
// Again reports whether the content can be read again then, by Open or by whatever sends m. If not, Open has used up
// Body, and another Open, or an attempt to send m, fails with a [MessageError]; see Message.Body.
//
// What is read is the Body, octet for octet: other ends of lines than CRLF have not become CRLF yet. Errors of Read are
// those of the Body. The error of Open is a MessageError.
func (m *Message) Open() (r io.ReadCloser, again bool, err error) {
	if m.spent() {
		return nil, false, errUsed
	}
	if m.Body == nil {
		return io.NopCloser(nothing{}), true, nil
	}
	o := originOf(m.Body)
	open := o.opener()
	if open == nil {
		m.used = m.Body
		return io.NopCloser(m.Body), false, nil
	}
	if r, err = open(); err != nil {
		return nil, true, &MessageError{What: "reading the body", Err: err}
	}
	if o.seeker != nil {
		r = &putBack{Reader: m.Body, origin: o}
	}
	return r, true, nil
}

// A putBack is a reader of a seeker, which Close puts back.
type putBack struct {
	io.Reader
	origin origin
}

// Close puts the seeker back.
func (p *putBack) Close() error {
	_, err := p.origin.seeker.Seek(p.origin.start, io.SeekStart)
	return err
}
