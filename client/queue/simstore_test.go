package queue_test

import (
	"context"
	"math/rand/v2"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// A slowStore is a Store that takes a while for each call, before and after it acts, so that other things happen
// meanwhile.
type slowStore struct{ queue.Store }

// pause is up to a second in some calls, and nothing in others.
func pause() {
	if n := rand.IntN(3000); n < 1000 {
		time.Sleep(time.Duration(n) * time.Millisecond)
	}
}

func (s slowStore) Add(ctx context.Context, e *queue.Entry) error {
	pause()
	defer pause()
	return s.Store.Add(ctx, e)
}

func (s slowStore) Message(ctx context.Context, id queue.ID) (*queue.Message, error) {
	pause()
	return s.Store.Message(ctx, id)
}

func (s slowStore) Claim(ctx context.Context, now time.Time, max int) ([]queue.Lease, time.Time, error) {
	pause()
	defer pause()
	return s.Store.Claim(ctx, now, max)
}

func (s slowStore) ClaimOne(ctx context.Context, destination string) (queue.Lease, bool, error) {
	pause()
	defer pause()
	return s.Store.ClaimOne(ctx, destination)
}

func (s slowStore) Take(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
	pause()
	defer pause()
	return s.Store.Take(ctx, l, q)
}

func (s slowStore) Update(ctx context.Context, l queue.Lease, changes []queue.Change) error {
	pause()
	defer pause()
	return s.Store.Update(ctx, l, changes)
}

func (s slowStore) Release(ctx context.Context, l queue.Lease, notBefore time.Time) error {
	pause()
	defer pause()
	return s.Store.Release(ctx, l, notBefore)
}
