package server_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server"
)

// An idleCost is what a connection costs whose client is silent, in octets.
type idleCost struct{ heap, stack int64 }

// costOf returns what a connection costs on which each turn has got an answer, and then nothing has come for a minute.
// It is the average of n connections.
func costOf(t *testing.T, n int, serve func(net.Conn), turns ...string) (cost idleCost) {
	synctest.Test(t, func(t *testing.T) {
		answer := make([]byte, 4<<10)
		near := make([]net.Conn, n)
		before := inUse()
		for i := range near {
			var far net.Conn
			near[i], far = net.Pipe()
			go serve(far)
			_, err := near[i].Read(answer)
			for _, turn := range turns {
				if err == nil {
					_, err = io.WriteString(near[i], turn)
				}
				if err == nil {
					_, err = near[i].Read(answer)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		after := inUse()
		for _, nc := range near {
			nc.Close()
		}
		cost = idleCost{(after.heap - before.heap) / int64(n), (after.stack - before.stack) / int64(n)}
	})
	return cost
}

// inUse returns what is in use when there is no garbage.
func inUse() idleCost {
	for range 4 { // a sync.Pool is empty after two, and a stack may be halved by each
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return idleCost{int64(m.HeapAlloc), int64(m.StackInuse)}
}

// serveBarely is the least that a server can be: a goroutine and a small buffer.
func serveBarely(nc net.Conn) {
	defer nc.Close()
	buf := make([]byte, 512)
	for {
		_ = nc.SetDeadline(time.Now().Add(time.Hour))
		if _, err := io.WriteString(nc, "220 ready\r\n"); err != nil {
			return
		}
		if _, err := nc.Read(buf); err != nil {
			return
		}
	}
}

// TestIdleMemory: a connection whose client is silent costs little more than the least that a server can be, and no
// more if it is one of many.
func TestIdleMemory(t *testing.T) {
	s := newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return discard{}, nil
	}), server.Options{Limits: server.Limits{Conns: -1}})
	serve := func(nc net.Conn) { _ = s.ServeConn(context.Background(), nc) }
	message := []string{"EHLO client.example\r\n", "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
		strings.Repeat("0123456789012\r\n", 20) + ".\r\n"}
	for name, turns := range map[string][]string{"after EHLO": message[:1], "after a message": message} {
		_ = costOf(t, 2000, serveBarely, turns...) // what the runtime keeps for goroutines is not counted again
		least := costOf(t, 2000, serveBarely, turns...)
		few := costOf(t, 200, serve, turns...)
		many := costOf(t, 2000, serve, turns...)
		if few.heap > least.heap+2000 || many.heap > least.heap+2000 {
			t.Errorf("%s: a connection costs %d octets of heap, one of many %d, and the least server %d",
				name, few.heap, many.heap, least.heap)
		}
	}
}
