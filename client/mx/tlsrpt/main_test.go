package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

// collector returns a collector of Company-X.
func collector(t *testing.T, change func(*Options)) *Collector {
	t.Helper()
	opt := &Options{Organization: "Company-X", Contact: "sts-reporting@company-x.example"}
	if change != nil {
		change(opt)
	}
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// noon is noon of a day.
func noon(date string) time.Time {
	t, err := time.Parse(time.DateOnly, date)
	if err != nil {
		panic(err)
	}
	return t.Add(12 * time.Hour)
}

// A receiver gets reports by mail and by HTTPS.
type receiver struct {
	mu       sync.Mutex
	mails    []string    // as sent
	posts    []string    // the URIs
	bodies   [][]byte    // of the posts
	at       []time.Time // when something came
	contexts []context.Context
	answer   func(destination string) error // nil: accept; for posts its text is a status
}

func (v *receiver) note(destination string) error {
	v.at = append(v.at, time.Now())
	if v.answer != nil {
		return v.answer(destination)
	}
	return nil
}

// Send is that of a client.Sender.
func (v *receiver) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	content, err := io.ReadAll(m.Body)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.contexts = append(v.contexts, ctx)
	if err == nil {
		err = v.note(m.To[0].Address.String())
	}
	if err != nil {
		return nil, err
	}
	v.mails = append(v.mails, string(content))
	return &client.Result{}, nil
}

// RoundTrip is that of a http.RoundTripper.
func (v *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	content, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	status := 201
	if err := v.note(req.URL.String()); err != nil {
		code, ok := err.(statusCode)
		if !ok {
			return nil, err
		}
		status = int(code)
	} else {
		v.posts = append(v.posts, req.URL.String())
		v.bodies = append(v.bodies, content)
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("thanks"))}, nil
}

type statusCode int

func (statusCode) Error() string { return "an answer" }

// a reply that a mail server refuses a report with.
func refusal(code int) error { return proto.Refuse(code, proto.Status{}, "no") }

// sends sets the options so that reports go to v, asked for by what zone has.
func sends(v *receiver, zone string) func(*Options) {
	return func(o *Options) {
		o.Resolver, o.Sender, o.RoundTripper = dnstest.New(zone), v, v
	}
}

// decompress returns what is in a gzip file, read by the standard library.
func decompress(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// anyJSON reads JSON without the types of this package.
func anyJSON(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }
