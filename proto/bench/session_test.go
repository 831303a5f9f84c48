package main

import (
	"fmt"
	"strings"
	"testing"
)

// benchmark reports the time and the allocations of one message.
func benchmark(b *testing.B, load workload, j job, err error) {
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	b.SetBytes(int64(len(load.text())))
	b.ReportAllocs()
	b.ResetTimer()
	if err := j.Run(b.N); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
}

// BenchmarkServe measures servers. A message comes in two parts: MAIL, RCPT and DATA in a group, and then the content.
func BenchmarkServe(b *testing.B) {
	for _, load := range serveLoads {
		for _, by := range serverLibraries {
			b.Run(fmt.Sprintf("size=%s/conns=%d/by=%s", load.sizeName(), load.conns, by.name), func(b *testing.B) {
				j, err := openServe(by, load)
				benchmark(b, load, j, err)
			})
		}
	}
}

// BenchmarkSend measures clients. A client sends to a sink over one connection, one message or several in each call.
func BenchmarkSend(b *testing.B) {
	for _, load := range sendLoads {
		for _, by := range clientLibraries {
			name := strings.ReplaceAll(by.name, "/", "-")
			b.Run(fmt.Sprintf("size=%s/batch=%d/by=%s", load.sizeName(), load.batch, name), func(b *testing.B) {
				j, err := openSend(by, load, sinkOptions{})
				benchmark(b, load, j, err)
			})
		}
	}
}
