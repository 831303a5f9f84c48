package sqlstore

import (
	"context"

	"smtpkit.example/smtp/client/queue"
)

// A usage is what is queued: of each tag that has something, and in all.
type usage struct {
	of    map[string]queue.Usage
	total queue.Usage
}

// add changes the usage of a tag.
func (u *usage) add(tag string, change queue.Usage) {
	of := sum(u.of[tag], change)
	u.of[tag] = of
	if of.Messages == 0 {
		delete(u.of, tag)
	}
	u.total = sum(u.total, change)
}

func sum(a, b queue.Usage) queue.Usage {
	return queue.Usage{Messages: a.Messages + b.Messages, Octets: a.Octets + b.Octets}
}

// Usage returns what is queued. See [queue.Store].
func (s *Store) Usage(ctx context.Context, tag string, all bool) (queue.Usage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return queue.Usage{}, errClosed
	}
	if all {
		return s.usage.total, nil
	}
	return s.usage.of[tag], nil
}
