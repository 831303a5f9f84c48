package server

import (
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/proto"
)

// What connections are taken to hold. Each figure is more than what is measured; see TestZ192_IdleMemory.
const (
	// connMemory is for a connection: its state, a stack, and a buffer for commands and as much for replies.
	connMemory = 16 << 10
	// tlsMemory is what TLS adds, with the handshake or a record each way.
	tlsMemory = 40 << 10
	// transactionMemory is for a transaction: the buffers through which content goes, also content that is fetched or
	// whose line endings are changed.
	transactionMemory = contentBuffer + fetchBuffer + newlinesBuffer + 8<<10
	// rcptMemory is for a recipient, besides what its arguments take.
	rcptMemory = 256
	// freeReplies is how many octets of replies are part of connMemory.
	freeReplies = 4 << 10
	// minMemory is the least that Limits.Memory may be.
	minMemory = 1 << 20
)

// handshakeWait is how long a client waits for its turn to make a handshake. Clients wait longer for the handshake.
const handshakeWait = 10 * time.Second

// A memory counts the octets that all connections together hold. It is safe for concurrent use.
type memory struct {
	most int64
	used atomic.Int64
}

// take adds n octets, if they are within the limit.
func (m *memory) take(n int64) bool {
	for {
		used := m.used.Load()
		if used+n > m.most {
			return false
		}
		if m.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// A share is the part of memory that one connection holds for one purpose.
type share struct{ n int64 }

func (s *share) take(m *memory, n int64) bool {
	if !m.take(n) {
		return false
	}
	s.n += n
	return true
}

func (s *share) end(m *memory) {
	m.used.Add(-s.n)
	s.n = 0
}

// A holding is the memory that is counted for a connection.
type holding struct {
	conn        share // as long as the connection
	transaction share // as long as the transaction
	replies     share // that wait to be written
}

func (h *holding) end(m *memory) {
	h.conn.end(m)
	h.transaction.end(m)
	h.replies.end(m)
}

// A claims is a connection that takes its part of what all connections share.
type claims struct{ *Conn }

// beginTransaction counts a transaction. It returns the refusal if that would be too much.
func (c claims) beginTransaction() *proto.Error {
	return c.take(&c.held.transaction, transactionMemory, errMemory)
}

// take adds n octets to what the connection holds. It returns e if that would be too much.
func (c claims) take(s *share, n int64, e *proto.Error) *proto.Error {
	if s.take(&c.srv.memory, n) {
		c.srv.strained()
		return nil
	}
	c.srv.stats.memoryRefused.Add(1)
	return c.limited(e)
}

// isFull reports whether replies have to be written before there are more of them.
func (p *replies) isFull() bool {
	n, held := int64(cap(p.out)), &p.c.held.replies
	if n > freeReplies && n > held.n && !held.take(&p.c.srv.memory, n-held.n) {
		return true
	}
	return len(p.out) > maxPending
}

// forget gives up the buffer.
func (p *replies) forget() {
	p.out = nil
	p.c.held.replies.end(&p.c.srv.memory)
}

// enterHandshake waits for the turn of the connection to make a handshake. If that does not come it returns why, and
// otherwise a function to be called when the handshake is over. TLS is counted as memory of the connection from then
// on.
func (c claims) enterHandshake() (leave func(), refusal *proto.Error) {
	if c.held.conn.n < connMemory+tlsMemory {
		if e := c.take(&c.held.conn, tlsMemory, errHandshakes); e != nil {
			return nil, e
		}
	}
	turns := c.srv.handshakes
	if turns == nil {
		return func() {}, nil
	}
	leave = func() { <-turns }
	select {
	case turns <- struct{}{}:
		c.srv.strained()
		return leave, nil
	default:
	}
	t := time.NewTimer(handshakeWait)
	defer t.Stop()
	select {
	case turns <- struct{}{}:
		return leave, nil
	case <-t.C:
	case <-c.ctx.Done():
	case <-c.srv.done:
		return nil, errShutdown
	}
	c.srv.stats.handshakesRefused.Add(1)
	return nil, c.limited(errHandshakes)
}
