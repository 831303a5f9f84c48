package ended

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"
)

func TestReason(t *testing.T) {
	with, cancel := context.WithCancelCause(context.Background())
	cancel(io.EOF)
	without, stop := context.WithCancel(context.Background())
	stop()
	late, stop := context.WithDeadlineCause(context.Background(), time.Unix(0, 0), io.EOF)
	defer stop()
	for _, tt := range []struct {
		ctx   context.Context
		want  string
		is    error
		cause bool
	}{
		{with, "context canceled: EOF", context.Canceled, true},
		{without, "context canceled", context.Canceled, false},
		{late, "context deadline exceeded: EOF", context.DeadlineExceeded, true},
	} {
		err := Reason(tt.ctx)
		if err.Error() != tt.want || !errors.Is(err, tt.is) || errors.Is(err, io.EOF) != tt.cause {
			t.Errorf("the reason is %q, want %q", err, tt.want)
		}
	}
	if err := Reason(context.Background()); err != nil {
		t.Errorf("the reason is %v, and nothing has ended", err)
	}
}
