package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

var sender, recipient = address("sender@example.org"), address("user@example.com")

func address(text string) proto.Address {
	a, err := proto.ParseAddress(text)
	if err != nil {
		panic(err)
	}
	return a
}

// newEntry makes a message of one recipient.
func newEntry(destination string, content []byte, epoch int64) *queue.Entry {
	now := time.Now()
	id := queue.NewID(now)
	return &queue.Entry{
		Message: &queue.Message{ID: id, Arrived: now, From: sender, Tag: "user"},
		Content: bytes.NewReader(content),
		Jobs: []*queue.Job{{
			ID: queue.JobID{Message: id}, Destination: destination, Epoch: epoch,
			To:  []queue.Recipient{{Recipient: proto.Recipient{Address: recipient}}},
			Due: now, Alarm: now.Add(4 * time.Hour), Expires: now.Add(5 * 24 * time.Hour),
		}},
	}
}

// BenchmarkStore adds messages, each durable before the next one of its session, and marks them as done.
func BenchmarkStore(b *testing.B) {
	for driver, open := range drivers {
		for _, size := range []int{1 << 10, 4 << 10, 100 << 10} {
			for _, sessions := range []int{1, 32, 64} {
				b.Run(fmt.Sprintf("%s/%dKiB/sessions=%d", driver, size>>10, sessions), func(b *testing.B) {
					s, err := open(b, filepath.Join(b.TempDir(), "queue.db"), nil)
					if err != nil {
						b.Fatal(err)
					}
					defer s.Close()
					benchmark(b, s, sessions, bytes.Repeat([]byte("0123456789abcde\n"), size/16))
				})
			}
		}
	}
}

func benchmark(b *testing.B, s queue.Store, sessions int, content []byte) {
	ctx := b.Context()
	l, ok, err := s.ClaimOne(ctx, "example.com")
	if err != nil || !ok {
		b.Fatal(ok, err)
	}
	var n atomic.Int64
	var wg sync.WaitGroup
	start := processorTime()
	b.ResetTimer()
	for range sessions {
		wg.Go(func() {
			for n.Add(1) <= int64(b.N) {
				e := newEntry("example.com", content, l.Epoch)
				if err := s.Add(ctx, e); err != nil {
					b.Error(err)
					return
				}
				done := *e.Jobs[0]
				done.To = nil
				if err := s.Update(ctx, l, []queue.Change{{Job: &done}}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64((processorTime()-start).Microseconds())/float64(b.N), "cpu-µs/msg")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(0, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTake delivers messages of 1 KiB that wait: it takes them, reads them, and marks them as done.
func BenchmarkTake(b *testing.B) {
	for driver, open := range drivers {
		b.Run(driver, func(b *testing.B) {
			s, err := open(b, filepath.Join(b.TempDir(), "queue.db"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			fill(b, s, b.N, func(int) string { return "example.com" })
			l, ok, err := s.ClaimOne(b.Context(), "example.com")
			if err != nil || !ok {
				b.Fatal(ok, err)
			}
			start := processorTime()
			b.ResetTimer()
			for n := 0; n < b.N; {
				jobs, err := s.Take(b.Context(), l, queue.Query{All: true, Max: 100})
				if err != nil || len(jobs) == 0 {
					b.Fatalf("%d jobs: %v", len(jobs), err)
				}
				n += len(jobs)
				var wg sync.WaitGroup
				for g := range 32 {
					wg.Go(func() {
						for i := g; i < len(jobs); i += 32 {
							if err := deliver(b.Context(), s, l, jobs[i]); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64((processorTime()-start).Microseconds())/float64(b.N), "cpu-µs/msg")
		})
	}
}

// deliver reads a message, and marks its job as done.
func deliver(ctx context.Context, s queue.Store, l queue.Lease, j *queue.Job) error {
	if _, err := s.Message(ctx, j.ID.Message); err != nil {
		return err
	}
	c, err := s.Open(ctx, j.ID.Message)
	if err != nil {
		return err
	}
	done := *j
	done.To = nil
	return errors.Join(c.Close(), s.Update(ctx, l, []queue.Change{{Job: &done}}))
}

// fill adds messages of 1 KiB for destinations.
func fill(b *testing.B, s queue.Store, n int, destination func(i int) string) {
	content := make([]byte, 1024)
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := g; i < n; i += 64 {
				if err := s.Add(b.Context(), newEntry(destination(i), content, 0)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
