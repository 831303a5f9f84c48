package sqlite

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// BenchmarkOpen opens a queue of 10,000 messages of 1 KiB, or as many as SMTPKIT_QUEUED says, for 1,000 destinations.
func BenchmarkOpen(b *testing.B) {
	queued := 10_000
	if v := os.Getenv("SMTPKIT_QUEUED"); v != "" {
		queued, _ = strconv.Atoi(v)
	}
	file := filepath.Join(b.TempDir(), "queue.db")
	s, err := Open(b.Context(), file, nil)
	if err != nil {
		b.Fatal(err)
	}
	fill(b, s, queued, func(i int) string { return "d" + strconv.Itoa(i%1000) + ".example" })
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	want := queue.Usage{Messages: int64(queued), Octets: int64(queued) * 1024}
	for b.Loop() {
		s, err := Open(b.Context(), file, nil)
		if err != nil {
			b.Fatal(err)
		}
		if leases, _, err := s.Claim(b.Context(), time.Now(), 1); err != nil || len(leases) != 1 {
			b.Error(leases, err)
		}
		if u, err := s.Usage(b.Context(), "", true); err != nil || u != want {
			b.Error(u, err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(info.Size())/float64(queued), "octets/msg")
}
