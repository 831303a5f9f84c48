package main

import (
	"context"
	"crypto"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A session takes messages, from strangers or from users, and adds them to the queue. Which recipients there are is
// the affair of the checks around it.
type session struct {
	*mta
	conn   *server.Conn
	from   proto.Address
	params proto.Params
	to     []proto.Recipient
}

func (s *session) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
	if err := s.queue.Room(ctx, s.tag()); err != nil {
		return err // 452, before the message has come
	}
	s.from, s.params, s.to = from, p, nil
	if n, ok := ehlo.ReadPriority(p); ok && n > 0 && s.conn.Identity() == "" { // no advantage for strangers
		s.params = ehlo.Priority(0).AddTo(slices.Clone(p))
		s.conn.Reply(ehlo.Priority(0).Reply())
	}
	return nil
}

func (s *session) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	for _, r := range s.people.recipients(proto.Recipient{Address: to, Params: p}) {
		if !slices.ContainsFunc(s.to, func(o proto.Recipient) bool { return o.Address.Equal(r.Address) }) {
			s.to = append(s.to, r)
		}
	}
	return nil
}

// Data takes the message of a stranger.
func (s *session) Data(ctx context.Context, r io.Reader) error {
	return s.keep(ctx, tracefield.CheckLoop(r, nil))
}

// keep adds the message to the queue. When it returns nil, the message is on disk.
func (s *session) keep(ctx context.Context, r io.Reader) error {
	field := server.Received(s.conn)
	id := queue.NewID(field.Time)
	field.ID = string(id)
	field.SetPriority(s.params)
	e := &queue.Envelope{ID: id, From: s.from, Params: s.params, To: s.to, Tag: s.tag()}
	e.ReceivedFrom = report.DNS(s.conn.Hello())
	if field.Addr.IsValid() {
		e.ReceivedFrom.Comment = proto.AddrLiteral(field.Addr).String()
	}
	if _, err := s.queue.Add(ctx, e, tracefield.Prepend(r, field.String())); err != nil {
		s.log.Warn("message refused", "id", id, "from", s.from, "err", err)
		return err
	}
	s.conn.Accept("Queued as " + string(id))
	return nil
}

// tag is what mail is counted by: the user, or the network of a stranger.
func (s *session) tag() string {
	if name := s.conn.Identity(); name != "" {
		return name
	}
	return network(s.conn.RemoteAddr())
}

// network is what the mail of strangers is counted by.
func network(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	addr, bits := tcp.AddrPort().Addr().Unmap(), 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p.String()
}

// The extensions: the queue keeps what they promise.
func (s *session) NotifiesSenders() bool          { return true }
func (s *session) MinDeliverBy() time.Duration    { return 0 }
func (s *session) KeepsTLS() bool                 { return true }
func (s *session) PriorityPolicy() string         { return "" }
func (s *session) HighestPriority() ehlo.Priority { return 9 } // Mail lowers those of strangers

var (
	_ ehlo.DSNSession        = (*session)(nil)
	_ ehlo.DeliverBySession  = (*session)(nil)
	_ ehlo.RequireTLSSession = (*session)(nil)
	_ ehlo.MTPrioritySession = (*session)(nil)
)

// A submission is a session of users, who may send to anybody, and only from addresses of their own. The field From is
// theirs to choose: an assistant writes for somebody else.
type submission struct{ session }

// Data takes the message of a user. It adds the fields that programs leave out, and signs.
func (s *submission) Data(ctx context.Context, r io.Reader) error {
	r = server.Complete(tracefield.CheckLoop(r, nil), server.Completion{Hostname: s.conn.Hostname()})
	if s.signer != nil {
		signed, err := s.sign(ctx, r)
		if err != nil {
			return err
		}
		r = signed
	}
	return s.keep(ctx, r)
}

// sign reads the message and puts signatures in front of it. Only what users submit is signed: it does not vouch for a
// stranger's mail that is forwarded.
func (s *submission) sign(ctx context.Context, r io.Reader) (io.Reader, error) {
	m, err := s.signer.Prepare(ctx, &client.Message{Body: r})
	var refused *proto.Error
	switch {
	case err == nil:
		return m.Body, nil
	case errors.As(err, &refused) || client.Temporary(err):
		return nil, err
	}
	return nil, &proto.Error{Code: 554, Status: proto.Status{5, 6, 0}, Text: "The message cannot be signed", Err: err}
}

func (s *submission) PermitsSender(_ context.Context, name string, from proto.Address) (bool, error) {
	u := s.config.user(name)
	if u == nil {
		return false, nil
	}
	if u.senders != nil {
		return slices.Contains(u.senders, "*") || slices.Contains(u.senders, key(from)), nil
	}
	own := proto.Address{Local: u.name, Domain: from.Domain}
	return s.people.isOurs(from.Domain) && key(own) == key(from), nil
}

func (s *submission) HoldsMail() bool { return true }

func (s *submission) SCRAMPolicy() auth.SCRAMPolicy { return auth.SCRAMPolicy{Hashes: hashes} }

func (s *submission) SCRAMSecret(_ context.Context, name string, h crypto.Hash) (auth.SCRAMSecret, error) {
	u := s.config.user(name)
	if u == nil {
		return auth.SCRAMSecret{}, auth.ErrCredentials
	}
	return u.secrets[h], nil
}

// Authenticate is for clients that have only PLAIN or LOGIN.
func (s *submission) Authenticate(_ context.Context, name, password string) error {
	u := s.config.user(name)
	if u == nil {
		u = &s.nobody // takes as long as for a user who exists
	}
	if !u.secrets[crypto.SHA256].Matches(password) || u == &s.nobody {
		return auth.ErrCredentials
	}
	return nil
}

var (
	_ ehlo.SubmissionSession    = (*submission)(nil)
	_ ehlo.FutureReleaseSession = (*submission)(nil)
	_ auth.SCRAMSession         = (*submission)(nil)
	_ auth.PasswordSession      = (*submission)(nil)
)
