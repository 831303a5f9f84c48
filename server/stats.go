package server

import "sync/atomic"

// Stats are counters of a server, since it was made. To publish them with package expvar:
//
//	expvar.Publish("smtp", expvar.Func(func() any { return srv.Stats() }))
type Stats struct {
	Open              int64 // connections that are open now, without those turned away
	Conns             int64 // connections that were taken
	ConnsRefused      int64 // connections that were over a limit, and turned away
	ConnsOverRate     int64 // those of ConnsRefused that were over Limits.ConnsPerMinute
	MessagesOverRate  int64 // MAIL commands that were over Limits.MessagesPerMinute
	AuthOverRate      int64 // AUTH commands that were refused by Limits.AuthFailuresPerHour, or answered 421 by it
	OverMails         int64 // MAIL commands that were over Limits.Mails, each of which ends its connection
	OverAge           int64 // connections that were ended by Timeouts.Age
	HandshakesFailed  int64 // TLS handshakes that failed
	HandshakesRefused int64 // that were over Limits.Handshakes
	MemoryRefused     int64 // connections, handshakes, and MAIL and RCPT commands that were over Limits.Memory
	Memory            int64 // octets that all connections together hold now, as Limits.Memory counts them
	Stresses          int64 // times that the server came under stress; see Options.Stress
	StressClosed      int64 // connections that were ended by a timeout of Stress
	Messages          int64 // messages accepted, at least for one recipient
	MessagesRefused   int64 // messages that arrived to their end and were refused
	Octets            int64 // of the content that arrived to its end
	Rcpts             int64 // recipients accepted
	RcptsRefused      int64 // RCPT commands refused
	Panics            int64 // of sessions and extensions
}

// stats are the counters behind Stats.
type stats struct {
	conns, connsRefused, handshakesFailed     atomic.Int64
	messages, messagesRefused, octets, panics atomic.Int64
	rcpts, rcptsRefused                       atomic.Int64

	connsOverRate, messagesOverRate, authOverRate atomic.Int64
	handshakesRefused, memoryRefused              atomic.Int64
	overMails, overAge, stresses, stressClosed    atomic.Int64
}

// Stats returns the counters of all services of the server. It may be called at any time. The counters are read one
// after the other, so they may differ by what happens meanwhile.
func (s *Server) Stats() Stats {
	c := &s.common.stats
	return Stats{
		Open:              s.common.active.Load(),
		Conns:             c.conns.Load(),
		ConnsRefused:      c.connsRefused.Load(),
		ConnsOverRate:     c.connsOverRate.Load(),
		MessagesOverRate:  c.messagesOverRate.Load(),
		AuthOverRate:      c.authOverRate.Load(),
		OverMails:         c.overMails.Load(),
		OverAge:           c.overAge.Load(),
		HandshakesFailed:  c.handshakesFailed.Load(),
		HandshakesRefused: c.handshakesRefused.Load(),
		MemoryRefused:     c.memoryRefused.Load(),
		Memory:            s.common.memory.used.Load(),
		Stresses:          c.stresses.Load(),
		StressClosed:      c.stressClosed.Load(),
		Messages:          c.messages.Load(),
		MessagesRefused:   c.messagesRefused.Load(),
		Octets:            c.octets.Load(),
		Rcpts:             c.rcpts.Load(),
		RcptsRefused:      c.rcptsRefused.Load(),
		Panics:            c.panics.Load(),
	}
}

// content counts a message that has arrived to its end.
func (s *stats) content(octets int64, accepted bool) {
	s.octets.Add(octets)
	if accepted {
		s.messages.Add(1)
	} else {
		s.messagesRefused.Add(1)
	}
}
