package server_test

import (
	"bytes"
	"strings"
	"testing"
)

// TestAllocations: a transaction whose sender and recipients were seen before allocates nothing.
func TestAllocations(t *testing.T) {
	m := newMemory()
	defer serveMemory(t, discardServer(t), m)()
	turns := [][]byte{
		[]byte("MAIL FROM:<sender@client.example> SIZE=1000\r\n"),
		[]byte("RCPT TO:<one@d.example>\r\nRCPT TO:<two@d.example>\r\n"),
		[]byte("DATA\r\n"),
		[]byte(strings.Repeat("123456789 123456789 123456789\r\n", 1000) + ".\r\n"),
	}
	allocs := testing.AllocsPerRun(100, func() {
		for _, turn := range turns {
			m.turn(turn)
		}
	})
	if allocs != 0 {
		t.Errorf("a transaction costs %v allocations, want 0", allocs)
	}
	if !bytes.HasPrefix(m.last, []byte("250 2.0.0 Message accepted")) {
		t.Errorf("the server says %q at the end", m.last)
	}
}

func BenchmarkTransaction(b *testing.B) {
	m := newMemory()
	defer serveMemory(b, discardServer(b), m)()
	content := []byte(strings.Repeat(strings.Repeat("x", 74)+"\r\n", 1000) + ".\r\n")
	group := []byte("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		m.turn(group)
		m.turn(content)
	}
}
