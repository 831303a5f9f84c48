package sqlite

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// BenchmarkDestinations takes small messages from 32 goroutines and delivers each to a destination of its own, as mail
// to many domains is: each is leased for one job.
func BenchmarkDestinations(b *testing.B) {
	store, err := Open(context.Background(), filepath.Join(b.TempDir(), "queue.db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	var delivered sync.WaitGroup
	sink := client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
		_, err := io.Copy(io.Discard, m.Body)
		delivered.Done()
		return &client.Result{Recipients: []proto.Outcome{{Recipient: m.To[0], Reply: proto.Reply{Code: 250}}}}, err
	})
	q, err := queue.New(store, sink, &queue.Options{Hostname: "relay.example", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	var senders sync.WaitGroup
	b.ResetTimer()
	for n := range 32 {
		senders.Go(func() {
			for i := n; i < b.N; i += 32 {
				to, err := proto.ParseAddress(fmt.Sprintf("a@d%d.example", i))
				if err != nil {
					b.Error(err)
				}
				delivered.Add(1)
				e := &queue.Envelope{To: []proto.Recipient{{Address: to}}}
				if _, err := q.Add(context.Background(), e, strings.NewReader("x\r\n")); err != nil {
					b.Error(err)
					delivered.Done()
				}
			}
		})
	}
	senders.Wait()
	delivered.Wait()
	b.StopTimer()
	if err := q.Close(context.Background()); err != nil {
		b.Error(err)
	}
}
