package server_test

import (
	"context"
	"net"
	"testing"
	"time"

	"smtpkit.example/smtp/server"
)

// TestZ187_WriteTimeout: the server gives up a client that never reads.
func TestZ187_WriteTimeout(t *testing.T) {
	inBubble(t, 5*time.Minute, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{})
		here, there := net.Pipe()
		done := make(chan error)
		go func() { done <- srv.ServeConn(context.Background(), there) }()
		if err := <-done; err == nil {
			t.Error("ServeConn returned nil")
		}
		here.Close()
	})
}
