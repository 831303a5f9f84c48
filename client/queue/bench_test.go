package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// BenchmarkQueue takes messages of 1 KiB from 32 goroutines and delivers them to a Sender that takes them at once. The
// store is memory, so what is measured is the queue.
func BenchmarkQueue(b *testing.B) { benchmarkQueue(b, 1) }

// BenchmarkSites does the same with messages for a thousand sites.
func BenchmarkSites(b *testing.B) { benchmarkQueue(b, 1000) }

func benchmarkQueue(b *testing.B, sites int) {
	body := "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", 64)
	var done sync.WaitGroup
	sink := client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
		done.Done()
		return &client.Result{Recipients: []proto.Outcome{{Recipient: m.To[0], Reply: proto.Reply{Code: 250}}}}, nil
	})
	q, err := queue.New(queue.NewMemory(), sink, &queue.Options{
		Hostname: "relay.example", Policy: queue.Policy{Window: 20, MaxWindow: 100},
	})
	if err != nil {
		b.Fatal(err)
	}
	from, err := proto.ParseAddress("a@x.example")
	if err != nil {
		b.Fatal(err)
	}
	var to []proto.Address
	for i := range sites {
		a, err := proto.ParseAddress(fmt.Sprintf("b@y%d.example", i))
		if err != nil {
			b.Fatal(err)
		}
		to = append(to, a)
	}
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.N(sites); pb.Next(); i = (i + 1) % sites {
			done.Add(1)
			e := &queue.Envelope{From: from, To: []proto.Recipient{{Address: to[i]}}}
			if _, err := q.Add(context.Background(), e, strings.NewReader(body)); err != nil {
				b.Error(err)
			}
		}
	})
	done.Wait()
	if err := q.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
