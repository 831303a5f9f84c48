package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestContextEndsWhileReading has the context end while the body keeps the client waiting: nothing has been sent, and
// that is known.
func TestContextEndsWhileReading(t *testing.T) {
	for _, keywords := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING"}, nil} {
		c := dial(t, nil, hello(keywords...)+"HANGUP")
		ctx, cancel := context.WithCancel(context.Background())
		m := message("", "c@d.example")
		m.Body = readerFunc(func(p []byte) (int, error) {
			cancel()
			return copy(p, "hello\r\n"), io.EOF
		})
		_, err := c.Send(ctx, m)
		if e, ok := asType[*SendError](err); !ok || e.Unknown || !SafeToRetry(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("%v: %v", keywords, err)
		}
	}
}

// TestPanics checks that a connection on which something was left unfinished by a panic is not used again, and that the
// client is not busy for ever.
func TestPanics(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(c *Client)
	}{
		{"a body", func(c *Client) {
			m := message("", "c@d.example")
			m.Body = io.MultiReader(strings.NewReader(strings.Repeat("x", blockSize+1)),
				readerFunc(func([]byte) (int, error) { panic("body") }))
			c.Send(context.Background(), m)
		}},
		{"each", func(c *Client) {
			if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil {
				t.Error(err)
			}
			c.SendAll(context.Background(), numbered(3), func(*Message, *Result, error) bool { panic("each") })
		}},
	} {
		c, _ := pipe(t, "PIPELINING")
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic is gone", tt.name)
				}
			}()
			tt.run(c)
		}()
		if err := c.Noop(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: Noop: %v, want ErrClosed", tt.name, err)
		}
	}
}

type spyRetractor struct{ called bool }

func (s *spyRetractor) retract() { s.called = true }

// TestEarlyIsForgotten: what the server accepted early stands once the write has come to its end.
func TestEarlyIsForgotten(t *testing.T) {
	c := dial(t, nil, hello()+"C: NOOP\nS: 250 ok\n"+bye)
	spy := &spyRetractor{}
	c.conn.early = spy
	if err := c.Noop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if c.conn.early != nil || spy.called {
		t.Error("a write came to its end, and what was accepted early can still be taken back")
	}
}

// TestEarlyStands: what the server accepted early stands unless the write failed.
func TestEarlyStands(t *testing.T) {
	c := dial(t, nil, hello())
	spy := &spyRetractor{}
	c.conn.early = spy
	c.conn.shut(context.Background(), ErrClosed)
	if spy.called {
		t.Error("no write failed, and what was accepted early was taken back")
	}
}
