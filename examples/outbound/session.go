package main

import (
	"context"
	"errors"
	"io"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A session takes messages by LMTP, delivers each while its client waits, and answers for each recipient. So a message
// is never in the care of this program alone: what is temporary stays in the queue of the client.
type session struct {
	conn *server.Conn
	next client.Sender
	m    client.Message
}

// extensions are those whose parameters the session understands. Without CHUNKING no content is binary.
func extensions() []ext.Extension {
	return []ext.Extension{
		ehlo.Pipelining(), ehlo.EnhancedStatusCodes(), ehlo.EightBitMIME(), ehlo.Size(), ehlo.SMTPUTF8(),
	}
}

func (s *session) Mail(_ context.Context, from proto.Address, p proto.Params) error {
	s.m = client.Message{From: from}
	if p.Has("SMTPUTF8") {
		s.m.Needs = ext.UTF8
	}
	return nil
}

func (s *session) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	s.m.To = append(s.m.To, proto.Recipient{Address: to})
	return nil
}

// Data is not called in LMTP, where each recipient has an outcome.
func (s *session) Data(context.Context, io.Reader) error { return errors.New("this is no LMTP") }

func (s *session) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	received := server.Received(s.conn)
	s.m.Body = tracefield.Prepend(tracefield.CheckLoop(r, nil), received.String())
	outcomes, _ := s.next.Send(ctx, &s.m) // which has the error too, for each recipient
	for i, o := range outcomes.Recipients {
		result(i, proto.Reply{}, reply(o.Err))
	}
	return nil
}

// reply returns the error of a recipient as the reply to this program's client.
func reply(err error) error {
	if err == nil {
		return nil
	}
	code, status := 550, proto.Status{}
	var has interface{ Status() proto.Status }
	var refused *proto.Error
	switch {
	case errors.As(err, &refused):
		status = refused.Status
	case errors.As(err, &has):
		status = has.Status()
	}
	if client.Temporary(err) {
		code = 450
	}
	return &proto.Error{Code: code, Status: status, Text: err.Error()}
}
