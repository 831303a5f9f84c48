package client

import (
	"bytes"
	"context"
	"net"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
)

// A lateConn is a connection whose last Write returns only once the reply to it and the end of the connection have been read,
// which is what a slow scheduler makes of any connection.
type lateConn struct {
	net.Conn
	last func(p []byte) bool
	end  chan struct{}
}

func (l *lateConn) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if err != nil {
		select {
		case <-l.end:
		default:
			close(l.end)
		}
	}
	return n, err
}

func (l *lateConn) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	if l.last(p) {
		<-l.end
	}
	return n, err
}

// TestAcceptedAtTheEnd has servers that accept a message and hang up. It was accepted, even if the client learns of
// both before it learns that its own write has come to its end; to report a failure would have it sent twice.
func TestAcceptedAtTheEnd(t *testing.T) {
	for name, s := range map[string]string{
		"content": hello("PIPELINING") + groupUpToData + "C: hello\nC: .\nS: 250 queued\nCLOSE",
		"chunk":   hello("PIPELINING", "CHUNKING") + "C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\nS: 250 ok\nS: 250 ok\nS: 250 queued\nCLOSE",
	} {
		t.Run(name, func(t *testing.T) {
			opt := inClear(clienttest.New(t, s))
			dial := opt.DialContext
			opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				last := func(p []byte) bool {
					return bytes.HasSuffix(p, []byte("\r\n.\r\n")) || bytes.HasSuffix(p, []byte("hello\r\n"))
				}
				return &lateConn{conn, last, make(chan struct{})}, err
			}
			c, err := Dial(context.Background(), host, opt)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
			if err != nil || res.Sent() != 1 {
				t.Errorf("%+v, %v: want the message sent", res, err)
			}
			_ = c.Close()
		})
	}
}
