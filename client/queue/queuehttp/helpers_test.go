package queuehttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/queuehttp"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// A desk is a queue whose mail is refused for the time being, with a handler for it. It is in a synctest bubble, so
// that all attempts have been made, and no more follow, when the handler is asked.
type desk struct {
	*testing.T
	q   *queue.Queue
	h   http.Handler
	log bytes.Buffer
	// refusal is what servers say.
	refusal *proto.Error
}

func withDesk(t *testing.T, opt *queuehttp.Options, f func(d *desk)) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{T: t, refusal: &proto.Error{Code: 451, Status: proto.Status{4, 3, 0}, Text: "not now"}}
		lines := &lockedWriter{w: &d.log}
		logger := slog.New(slog.NewTextHandler(lines, nil))
		var err error
		d.q, err = queue.New(queue.NewMemory(), client.SenderFunc(d.send), &queue.Options{
			Hostname: "relay.example", Logger: slog.New(slog.DiscardHandler), Routes: map[string]client.Sender{"backup": nil},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := d.q.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		o := queuehttp.Options{}
		if opt != nil {
			o = *opt
		}
		o.Logger = logger
		d.h = queuehttp.New(d.q, &o)
		f(d)
	})
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (d *desk) send(_ context.Context, m *client.Message) (*client.Result, error) {
	res := &client.Result{}
	for _, r := range m.To {
		res.Recipients = append(res.Recipients, proto.Outcome{Recipient: r, Host: "mx.example", Err: d.refusal})
	}
	return res, &client.SendError{Result: res, Err: d.refusal}
}

func (d *desk) address(text string) proto.Address {
	d.Helper()
	if text == "" {
		return proto.Address{}
	}
	a, err := proto.ParseAddress(text)
	if err != nil {
		d.Fatal(err)
	}
	return a
}

// testID returns an ID that is sorted by i.
func testID(i int) queue.ID { return queue.ID(fmt.Sprintf("04g6f3qv9i%010d", i)) }

// add adds a message and lets it be refused.
func (d *desk) add(i int, tag, from, body string, to ...string) queue.ID {
	d.Helper()
	e := &queue.Envelope{ID: testID(i), From: d.address(from), Tag: tag,
		ReceivedFrom: report.MTA{Name: "client.example", Comment: "[192.0.2.1]"}}
	for _, a := range to {
		e.To = append(e.To, proto.Recipient{Address: d.address(a)})
	}
	id, err := d.q.Add(d.Context(), e, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	synctest.Wait()
	return id
}

// ask sends a request to the handler as a program on this machine would. The headers are "Name: value".
func (d *desk) ask(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	d.Helper()
	if strings.HasPrefix(target, "/") {
		target = "http://127.0.0.1:8025" + target
	}
	r := httptest.NewRequestWithContext(d.Context(), method, target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:54321"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	synctest.Wait()
	return w
}

// get returns the JSON of a path, which has to be there.
func (d *desk) get(path string) map[string]any {
	d.Helper()
	return d.decode(path, d.ask("GET", path, ""))
}

// post makes a change, which has to succeed.
func (d *desk) post(op, body string) map[string]any {
	d.Helper()
	return d.decode(op+" "+body, d.ask("POST", "/api/"+op, body, "Content-Type: application/json"))
}

func (d *desk) decode(what string, w *httptest.ResponseRecorder) (v map[string]any) {
	d.Helper()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		d.Fatalf("%s: %d %s %s", what, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		d.Fatalf("%s: %v: %s", what, err, w.Body)
	}
	return v
}

// wantError fails the test unless an answer is an error of a status, whose text has a part.
func (d *desk) wantError(what string, w *httptest.ResponseRecorder, status int, part string) {
	d.Helper()
	var v struct{ Error string }
	err := json.Unmarshal(w.Body.Bytes(), &v)
	if w.Code != status || err != nil || !strings.Contains(v.Error, part) || v.Error == "" {
		d.Errorf("%s: %d %s, want %d with %q", what, w.Code, w.Body, status, part)
	}
}

// jobs returns the jobs of the queue, by ID and what can be changed of them.
func (d *desk) jobs() string {
	d.Helper()
	listed, _, err := d.q.List(d.Context(), queue.Filter{}, queue.JobID{}, 1000)
	if err != nil {
		d.Fatal(err)
	}
	var out []string
	for _, l := range listed {
		j := l.Job
		out = append(out, fmt.Sprintf("%s %s %s %q %d", strings.TrimLeft(string(j.ID.Message[10:]), "0"), j.Destination,
			j.State, j.Why, j.Attempts))
	}
	return strings.Join(out, "; ")
}

// broken is a queue all of whose methods fail.
type broken struct {
	queuehttp.Queue
	err error
}

func (b broken) List(context.Context, queue.Filter, queue.JobID, int) ([]queue.Listed, queue.JobID, error) {
	return nil, queue.JobID{}, b.err
}
func (b broken) Shape(context.Context) ([]queue.Shape, error)             { return nil, b.err }
func (b broken) Usage(context.Context) (queue.Usage, error)               { return queue.Usage{}, b.err }
func (b broken) Sites() []queue.SiteState                                 { return nil }
func (b broken) Open(context.Context, queue.ID) (queue.Content, error)    { return nil, b.err }
func (b broken) Drop(context.Context, queue.Filter) (int, error)          { return 0, b.err }
func (b broken) Suspend(context.Context, string, time.Time, string) error { return b.err }
func (b broken) Reroute(context.Context, queue.Filter, string, proto.Domain) (int, error) {
	return 0, b.err
}

var errTemporary = fmt.Errorf("wrapped: %w", &temporaryError{})

type temporaryError struct{}

func (*temporaryError) Error() string   { return "the disk is busy" }
func (*temporaryError) Temporary() bool { return true }

var errDisk = errors.New("the disk is gone")
