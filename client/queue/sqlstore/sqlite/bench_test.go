package sqlite

import (
	"bytes"
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
			ID: queue.JobID{Message: id}, Destination: destination, To: []queue.Recipient{{Recipient: proto.Recipient{Address: recipient}}}, Epoch: epoch,
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
