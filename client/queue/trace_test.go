package queue_test

import (
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// A logText is a log in memory.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestLogTrace reads the log of a message that is delivered at the second attempt to one recipient, and refused for the
// other. It tells when the second attempt will be.
func TestLogTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logText
		w := newWorld(t, &queue.Options{Trace: queue.LogTrace(slog.New(slog.NewTextHandler(&log, nil)))})
		w.set(func(to proto.Address) error {
			if to.Local == "nobody" {
				return proto.Refuse(550, proto.Status{5, 1, 1}, "No such user")
			}
			time.Sleep(1500 * time.Millisecond)
			return later
		})
		w.add("", "", "b@y.example", "")
		w.add("", "", "nobody@y.example", "")
		time.Sleep(2 * time.Second)
		w.set(nil)
		text := log.String()
		next := regexp.MustCompile(`not delivered by this attempt" id=\S+ to=<b@y.example> host=mx.example ` +
			`attempt=1 next=(\S+) took=1.5s err=".*4\d\d`).FindStringSubmatch(text)
		if next == nil {
			t.Fatalf("the log does not tell of the next attempt:\n%s", text)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		at := w.begin.Add(w.at("b@y.example")[1])
		if want := at.Format("2006-01-02T15:04:05.000Z07:00"); next[1] != want {
			t.Errorf("the next attempt was to be at %s, and was at %s", next[1], want)
		}
		for _, want := range []string{
			`level=INFO msg="smtp: queued" id=\S+ from=<\S*> recipients=1 size=\d+ tag=`,
			`level=INFO msg="smtp: delivered" id=\S+ to=<b@y.example> after=`,
			`level=WARN msg="smtp: given up" id=\S+ to=<nobody@y.example> status=5.1.1 host=mx.example err=".*550`,
		} {
			if n := len(regexp.MustCompile(want).FindAllString(log.String(), -1)); n == 0 {
				t.Errorf("no line %s in\n%s", want, log.String())
			}
		}
	})
}
