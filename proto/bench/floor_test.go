package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain lets the test binary be the processes that the command starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-child" {
		if err := beChild(os.Args[2]); err != nil {
			exit(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestPairs has each contestant transfer a few messages, each of which is checked to have arrived.
func TestPairs(t *testing.T) {
	for _, table := range floorTables {
		for _, r := range table.rows {
			for _, by := range r.by {
				who := r.role
				who.By, who.Batch, who.Size, who.Delay = by, min(who.Batch, 3), min(who.Size, 200_000), 0
				x, err := startPair(who)
				if err == errNotInstalled {
					continue
				}
				if err != nil {
					t.Fatalf("%s, %s: %v", r.title, by, err)
				}
				for _, n := range []int{1, 7} {
					if _, err := x.do(n); err != nil {
						t.Errorf("%s, %s: %v", r.title, by, err)
					}
				}
				x.stop()
			}
		}
	}
}

// TestRawServerCounts checks that the floor answers at the end of each part, however the octets are cut.
func TestRawServerCounts(t *testing.T) {
	r := role{Kind: "data", Size: 100, Rcpts: 2}
	m := r.message()
	in := "EHLO x\r\n" + string(m.parts[0]) + string(m.next) + string(m.parts[1])
	want := "220 raw\r\n250-raw\r\n250-PIPELINING\r\n250 CHUNKING\r\n" + strings.Repeat(strings.Join(m.replies, ""), 2)
	for cut := 1; cut < len(in); cut++ {
		here, there := net.Pipe()
		var c counter
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.rawConn(there, &c)
		}()
		got := make(chan string)
		go func() {
			b := make([]byte, len(want))
			n, _ := io.ReadFull(here, b)
			got <- string(b[:n])
		}()
		fmt.Fprint(here, in[:cut])
		fmt.Fprint(here, in[cut:])
		if s := <-got; s != want {
			t.Fatalf("cut at %d: got %q, want %q", cut, s, want)
		}
		here.Close()
		<-done
		if c.messages.Load() != 2 || c.octets.Load() != 2*int64(len(m.text)) {
			t.Fatalf("cut at %d: %d messages of %d octets", cut, c.messages.Load(), c.octets.Load())
		}
	}
}

// TestLongLine checks that what is written arrives in order and later, and that the writer does not wait.
func TestLongLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		l := newLongLine(there, 50*time.Millisecond)
		start := time.Now()
		for i := range 3 {
			fmt.Fprint(l, i)
			time.Sleep(10 * time.Millisecond)
		}
		b := make([]byte, 8)
		for i := range 3 {
			n, err := here.Read(b)
			want := 50*time.Millisecond + time.Duration(i)*10*time.Millisecond
			if err != nil || string(b[:n]) != fmt.Sprint(i) || time.Since(start) != want {
				t.Errorf("%q after %v, want %d after %v; %v", b[:n], time.Since(start), i, want, err)
			}
		}
		l.Close()
		here.Close()
	})
}

// TestShowRatios compares within each round: the machine is slow in the second.
func TestShowRatios(t *testing.T) {
	cells := showRatios(row{}, []score{
		{cpu: []time.Duration{1000, 10_000, 2000}},
		{cpu: []time.Duration{2000, 25_000, 3000}},
		{err: errNotInstalled},
	})
	if got, want := strings.Join(cells, " | "), "2 µs | **2.00** (1.50–2.50), 3 µs | not installed"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestFloorPrints runs the command for one row.
func TestFloorPrints(t *testing.T) {
	var b bytes.Buffer
	p := floorPlan{rounds: 1, time: time.Millisecond, rows: regexp.MustCompile("^one a call, 1 KB$")}
	if err := p.print(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 5 || strings.Count(lines[4], "|") != len(clients)+2 || !strings.Contains(lines[4], "**") {
		t.Errorf("the table is\n%s", &b)
	}
}
