package queue

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

// testID returns the i-th ID of a test, in order.
func testID(i int) ID {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], uint64(i)<<14)
	return ID(idText.EncodeToString(b[:]))
}

// TestIndexMemory holds the memory of a queued message to what the comment of index says.
func TestIndexMemory(t *testing.T) {
	const jobs = 100_000
	if each := indexMemory(jobs, 1000); each > 200 {
		t.Errorf("%d octets for a message with one job, want at most 200", each)
	}
}

func indexMemory(jobs, destinations int) int64 {
	heapNow := func() int64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	names := make([]string, destinations)
	for i := range names {
		names[i] = fmt.Sprintf("destination%d.example", i)
	}
	before := heapNow()
	x := newIndex()
	fillIndex(x, jobs, names)
	each := (heapNow() - before) / int64(jobs)
	runtime.KeepAlive(x)
	return each
}

func fillIndex(x *index, jobs int, destinations []string) {
	start := time.UnixMilli(1_800_000_000_000)
	for i := range jobs {
		at := start.Add(time.Duration(i) * time.Millisecond)
		m := x.addMessage(testID(i), at, 4096, "tag")
		x.addJob(m, jobFacts{Destination: destinations[i%len(destinations)], Lane: Lane(i % Lanes),
			Due: at.Add(time.Duration(i*7919%jobs) * time.Second), Alarm: at.Add(4 * time.Hour), Recipients: 1})
	}
}

// BenchmarkIndexMemory measures the memory of a million messages with a job each.
func BenchmarkIndexMemory(b *testing.B) {
	for range b.N {
		for _, d := range []int{1, 1000, 1_000_000} {
			b.ReportMetric(float64(indexMemory(1_000_000, d)), fmt.Sprintf("B/job-%d-destinations", d))
		}
	}
}

// BenchmarkIndexAdd measures what a million messages cost when a store opens.
func BenchmarkIndexAdd(b *testing.B) {
	for range b.N {
		fillIndex(newIndex(), 1_000_000, []string{"a.example", "b.example"})
	}
}

// TestMessageTable adds and removes messages in several orders, and compares with a sorted slice.
func TestMessageTable(t *testing.T) {
	const n = 5000
	for _, step := range []int{1, n - 1, 1733} { // upward, downward, across
		var table messageTable
		var want []messageKey
		check := func() {
			t.Helper()
			i := 0
			for m := range table.from(messageKey{}) {
				if i >= len(want) || m.id != want[i] {
					t.Fatalf("step %d: message %d is %s", step, i, m.id)
				}
				i++
			}
			if i != len(want) {
				t.Fatalf("step %d: %d messages, want %d", step, i, len(want))
			}
			for _, c := range table.chunks {
				if len(c) == 0 || len(c) > tableChunk {
					t.Fatalf("step %d: a chunk of %d", step, len(c))
				}
			}
		}
		for i := range n {
			k := keyOf(testID(i * step % n))
			table.insert(&indexMessage{id: k})
			want = append(want, k)
		}
		slices.SortFunc(want, func(a, b messageKey) int { return slices.Compare(a[:], b[:]) })
		check()
		for i := range n - 10 {
			k := keyOf(testID(i * 1237 % n))
			m := table.find(k)
			if m == nil || m.id != k {
				t.Fatalf("step %d: message %s is not found", step, k)
			}
			table.remove(m)
			if table.find(k) != nil {
				t.Fatalf("step %d: message %s is found", step, k)
			}
			at, _ := slices.BinarySearchFunc(want, k, func(a, b messageKey) int { return slices.Compare(a[:], b[:]) })
			want = slices.Delete(want, at, at+1)
			if i%500 == 0 {
				check()
			}
		}
		check()
		if len(table.chunks) > 2 {
			t.Errorf("step %d: %d chunks for %d messages", step, len(table.chunks), len(want))
		}
	}
}
