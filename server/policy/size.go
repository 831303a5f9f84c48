package policy

import (
	"context"
	"fmt"
	"io"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// Size bounds the size of messages by who sends them, below the Limits.MessageSize that holds for all:
//
//	policy.Size{Anonymous: 10 << 20, Authenticated: 50 << 20}
//
// A message that is larger has 552 5.3.4: for MAIL if the client declares its size (RFC 1870), and otherwise in reply
// to its content, of which the session inside has the error from its reader. EHLO tells the limit that holds for all.
//
// Its verdicts have the method "size", and "fail" or "temperror" as the result.
type Size struct {
	// Anonymous is the size in octets of the largest message of a client that has not authenticated. Default: no limit but
	// that of the server.
	Anonymous int64
	// Authenticated is that of a client that has. Default: no limit but that of the server.
	Authenticated int64
	// Max returns the size for a client, such as one for its Conn.Identity, or 0 to leave it to the fields above. They
	// hold also if it returns an error. Its context ends after 30 seconds, and it has to return then: the session waits
	// for it. It is called concurrently, for each MAIL. Default: nobody has a size of his own.
	Max func(ctx context.Context, c *server.Conn, from proto.Address) (int64, error)
	// Skip reports whom to leave out. Default: nobody.
	Skip func(ctx context.Context, c *server.Conn) bool
}

// Middleware returns the check as middleware. It returns an error if there is no limit, or if one is negative.
func (z Size) Middleware() (server.Middleware, error) {
	if z.Anonymous < 0 || z.Authenticated < 0 {
		return nil, optionError("Size", "Anonymous", "%d octets and %d for Authenticated: one of them is negative; "+
			"leave it out for no limit", z.Anonymous, z.Authenticated)
	}
	if z.Anonymous == 0 && z.Authenticated == 0 && z.Max == nil {
		return nil, optionError("Size", "Max", "there is no limit; set one of Anonymous, Authenticated and Max")
	}
	st := &stages[struct{}, sized]{method: "size", skip: z.Skip, mail: z.mail, content: z.content}
	return st.middleware(), nil
}

// A sized is how large the message of a transaction may be; 0 is no limit.
type sized struct{ most int64 }

func (z Size) mail(ctx context.Context, s *session[struct{}, sized], from proto.Address, p proto.Params) error {
	most := &s.transaction.known.most
	if *most = z.Anonymous; s.conn.Identity() != "" {
		*most = z.Authenticated
	}
	var failed error
	if z.Max != nil {
		var own int64
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout) // it has the Conn, so it is not left to itself
		failed = protect(func() (err error) { own, err = z.Max(ctx, s.conn, from); return err })
		cancel()
		if failed == nil && own > 0 {
			*most = own
		}
	}
	if size, _ := ehlo.ReadSize(p); *most > 0 && size > *most {
		return tooLarge(s, *most)
	}
	if failed != nil {
		return failure{failed}
	}
	return nil
}

func (z Size) content(_ context.Context, s *session[struct{}, sized], r io.Reader) (io.Reader, error) {
	if s.transaction.known.most == 0 {
		return r, nil
	}
	most := s.transaction.known.most
	return &sizeReader{r: r, left: most, record: func() error { return tooLarge(s, most) }}, nil
}

// tooLarge records that a message is too large, and returns the refusal.
func tooLarge(s *session[struct{}, sized], most int64) error {
	s.record("fail", fmt.Sprintf("the message has more than %d octets", most), nil)
	return proto.Refuse(552, proto.Status{5, 3, 4}, fmt.Sprintf("Messages of yours may have %d octets", most))
}

// A sizeReader is the reader of a content, and returns an error in place of the octet that is too much.
type sizeReader struct {
	r      io.Reader
	left   int64
	record func() error // returns the error for a message that is too large
	err    error        // what it returns from now on
}

func (r *sizeReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	if int64(n) > r.left {
		n = int(r.left)
		err = r.record()
	}
	r.left -= int64(n)
	if err != nil {
		r.err = err
	}
	return n, err
}
