//go:build unix

package queue

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
)

// BenchmarkDir adds messages, of which each is done at once, by several goroutines. "naive" is what it is compared
// with: a file for each message that is written, synced, renamed, and its directory synced, and then removed. B/op and
// allocations are those of one message.
func BenchmarkDir(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 100 << 10} {
		for _, senders := range []int{1, 32, 64} {
			b.Run(fmt.Sprintf("dir/%dKiB/%d", size>>10, senders), func(b *testing.B) {
				d, err := OpenDir(b.TempDir(), nil)
				if err != nil {
					b.Fatal(err)
				}
				benchmarkSenders(b, senders, func(content []byte) error { return addAndFinish(d, content) }, size)
				if err := d.Close(); err != nil {
					b.Fatal(err)
				}
			})
			b.Run(fmt.Sprintf("naive/%dKiB/%d", size>>10, senders), func(b *testing.B) {
				path := b.TempDir()
				benchmarkSenders(b, senders, func(content []byte) error { return addNaively(path, content) }, size)
			})
		}
	}
}

func benchmarkSenders(b *testing.B, senders int, send func([]byte) error, size int) {
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := send(content); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "µs-cpu/msg")
}

// addAndFinish adds a message whose job is handed out already, as the Queue does, and writes that it is done.
func addAndFinish(d *Dir, content []byte) error {
	ctx := context.Background()
	l := benchLease(d)
	e := benchEntry(content, time.Now())
	e.Jobs[0].Epoch = l.Epoch
	if err := d.Add(ctx, e); err != nil {
		return err
	}
	done := *e.Jobs[0]
	done.To = nil
	return d.Update(ctx, l, []Change{{Job: &done}})
}

func benchLease(d *Dir) Lease {
	l, ok, _ := d.ClaimOne(context.Background(), "example.org")
	if !ok {
		d.mu.Lock()
		defer d.mu.Unlock()
		return Lease{Destination: "example.org", Epoch: d.index.destinations["example.org"].epoch}
	}
	return l
}

func benchEntry(content []byte, now time.Time) *Entry {
	id := NewID(now)
	return &Entry{
		Message: &Message{ID: id, Arrived: now, From: proto.Address{Local: "sender"}, Tag: "tenant",
			Params: proto.Params{{Key: "SIZE", Value: "4096", HasValue: true}}},
		Jobs: []*Job{{ID: JobID{id, 0}, Destination: "example.org", Due: now, Alarm: now.Add(4 * time.Hour),
			Expires: now.Add(120 * time.Hour),
			To:      []Recipient{{Recipient: proto.Recipient{Address: proto.Address{Local: "recipient"}}}}}},
		Content: bytes.NewReader(content),
	}
}

func addNaively(path string, content []byte) error {
	e := benchEntry(content, time.Now())
	head, err := appendHead(nil, e.Message, e.Jobs)
	if err != nil {
		return err
	}
	temp, name := filepath.Join(path, tempFile(e.Message.ID)), filepath.Join(path, messageFile(e.Message.ID))
	f, err := os.Create(temp)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(head, content...)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return err
	}
	return os.Remove(name)
}

// BenchmarkOpenDir opens a directory with many messages: ten thousand, or as many as SMTPKIT_QUEUED says. It reports
// the memory for each.
func BenchmarkOpenDir(b *testing.B) {
	n := 10_000
	if s := os.Getenv("SMTPKIT_QUEUED"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	path := b.TempDir()
	fillDir(b, path, n)
	for b.Loop() {
		before := heapInUse()
		d, err := OpenDir(path, &DirOptions{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(heapInUse()-before)/float64(n), "B/msg")
		if u, err := d.Usage(context.Background(), "", true); err != nil || u.Messages != int64(n) {
			b.Fatal(u, err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// fillDir writes messages without syncs, to 1000 destinations.
func fillDir(b *testing.B, path string, n int) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 64)
	start := time.Now()
	for i := range n {
		e := benchEntry(content, start.Add(time.Duration(i)*time.Millisecond))
		e.Jobs[0].Destination = fmt.Sprintf("destination%d.example", i%1000)
		head, err := appendHead(nil, e.Message, e.Jobs)
		if err != nil {
			b.Fatal(err)
		}
		line := firstLine{int64(len(head)), int64(len(content)), crc32.Checksum(head, castagnoli), crc32.Checksum(content, castagnoli)}
		file := append(append(line.append(nil), head...), content...)
		if err := os.WriteFile(filepath.Join(path, messageFile(e.Message.ID)), file, 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuTime returns what the process has used of the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heapInUse() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
