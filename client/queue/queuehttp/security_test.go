package queuehttp_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/queuehttp"
)

// still is a queue with nothing in it, which counts the changes.
type still struct {
	queuehttp.Queue
	changes *int
}

func (s still) Usage(context.Context) (queue.Usage, error)   { return queue.Usage{}, nil }
func (s still) Shape(context.Context) ([]queue.Shape, error) { return nil, nil }
func (s still) Sites() []queue.SiteState                     { return nil }
func (s still) List(context.Context, queue.Filter, queue.JobID, int) ([]queue.Listed, queue.JobID, error) {
	return nil, queue.JobID{}, nil
}
func (s still) Drop(context.Context, queue.Filter) (int, error) {
	*s.changes++
	return 1, nil
}

// TestRefused: who may read and change the queue, by the host, the origin and the address of a request.
func TestRefused(t *testing.T) {
	const local = "127.0.0.1:999"
	for _, test := range []struct {
		name, host, remote string
		headers            []string
		read, write        int
	}{
		{"address", "127.0.0.1:8025", local, nil, 200, 200},
		{"any loopback address", "127.8.9.10", local, nil, 200, 200},
		{"IPv6", "[::1]:8025", "[::1]:999", nil, 200, 200},
		{"IPv6 without port", "[::1]", local, nil, 200, 200},
		{"IPv4 in IPv6", "localhost", "[::ffff:127.0.0.1]:999", nil, 200, 200},
		{"localhost", "LocalHost:8025", local, nil, 200, 200},
		{"our host", "Queue.Example.org:8025", local, nil, 200, 200},
		{"our address", "[2001:db8::1]:8025", local, nil, 200, 200},
		{"rebinding", "evil.example", local, nil, 403, 403},
		{"rebinding with port", "evil.example:8025", local, nil, 403, 403},
		{"looks like localhost", "localhost.evil.example", local, nil, 403, 403},
		{"looks like our host", "queue.example.org.evil.example", local, nil, 403, 403},
		{"looks like an address", "127.0.0.1.evil.example", local, nil, 403, 403},
		{"public address", "192.0.2.1:8025", local, nil, 403, 403},
		{"any address", "0.0.0.0:8025", local, nil, 403, 403},
		{"no host", "", local, nil, 403, 403},
		{"brackets", "[]", local, nil, 403, 403},

		{"from another machine", "localhost:8025", "192.0.2.7:999", nil, 403, 403},
		{"from nowhere", "localhost:8025", "", nil, 403, 403},

		{"our page", "localhost:8025", local, []string{"Origin: http://localhost:8025"}, 200, 200},
		{"our page", "localhost:8025", local, []string{"Origin: http://localhost:8025", "Sec-Fetch-Site: same-origin"}, 200,
			200},
		{"another page", "localhost:8025", local, []string{"Origin: http://evil.example"}, 200, 403},
		{"another page", "localhost:8025", local, []string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site"}, 200,
			403},
		{"another page without Origin", "localhost:8025", local, []string{"Sec-Fetch-Site: cross-site"}, 200, 403},
		{"another port", "localhost:8025", local, []string{"Origin: http://localhost:3000"}, 200, 403},
		{"another port", "localhost:8025", local, []string{"Sec-Fetch-Site: same-site"}, 200, 403},
		{"another name", "localhost:8025", local, []string{"Origin: http://127.0.0.1:8025"}, 200, 403},
		{"sandbox or file", "localhost:8025", local, []string{"Origin: null"}, 200, 403},
		{"no URL", "localhost:8025", local, []string{"Origin: localhost:8025"}, 200, 403},
	} {
		changes := 0
		h := queuehttp.New(still{changes: &changes}, &queuehttp.Options{Hosts: []string{"queue.example.org", "2001:db8::1"},
			Logger: slog.New(slog.DiscardHandler)})
		ask := func(method, path, body, kind string) *http.Response {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Host, r.RemoteAddr = test.host, test.remote
			r.Header.Set("Content-Type", kind)
			for _, line := range test.headers {
				name, value, _ := strings.Cut(line, ": ")
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			wantHeaders(t, test.name+", "+method+" "+path, w.Result())
			return w.Result()
		}
		for _, path := range []string{"/", "/style.css", "/api/usage", "/api/jobs"} {
			for _, method := range []string{"GET", "HEAD"} {
				if r := ask(method, path, "", ""); r.StatusCode != test.read {
					t.Errorf("%s: %s %s: %s, want %d", test.name, method, path, r.Status, test.read)
				}
			}
		}
		r := ask("POST", "/api/drop", `{"all": true}`, "application/json")
		form := ask("POST", "/", "op=drop&all=true", "application/x-www-form-urlencoded")
		if form.StatusCode == http.StatusSeeOther {
			form.StatusCode = http.StatusOK
		}
		if r.StatusCode != test.write || form.StatusCode != test.write || (changes == 2) != (test.write == 200) ||
			changes == 1 {
			t.Errorf("%s: POST: %d and %d, want %d; %d changes", test.name, r.StatusCode, form.StatusCode, test.write, changes)
		}
	}
}

// wantHeaders fails the test if an answer may be stored, framed, or read as something else.
func wantHeaders(t *testing.T, what string, r *http.Response) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
		"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
	policy := r.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "style-src 'self'", "form-action 'self'", "base-uri 'none'",
		"frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("%s: the policy %q has no %s", what, policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
		t.Errorf("%s: the policy %q allows scripts", what, policy)
	}
	if r.Header.Get("Referrer-Policy") == "no-referrer" {
		t.Errorf("%s: with this Referrer-Policy the Origin of forms is null", what)
	}
}

// TestAuthorize: with Authorize, other machines may ask, and nobody without it.
func TestAuthorize(t *testing.T) {
	var log strings.Builder
	opt := &queuehttp.Options{Hosts: []string{"queue.example.org"}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Authorize: func(r *http.Request) error {
			if user, password, _ := r.BasicAuth(); user != "alice" || password != "secret" {
				return errors.New("not Alice")
			}
			return nil
		}}
	changes := 0
	h := queuehttp.New(still{changes: &changes}, opt)
	opt.Authorize, opt.Hosts[0] = nil, "evil.example" // it belongs to the caller
	for _, test := range []struct {
		host, remote, password, origin string
		status                         int
	}{
		{"queue.example.org", "192.0.2.7:999", "secret", "", 200},
		{"queue.example.org", "192.0.2.7:999", "wrong", "", 401},
		{"localhost", "127.0.0.1:999", "", "", 401},
		{"localhost", "127.0.0.1:999", "secret", "", 200},
		{"evil.example", "192.0.2.7:999", "secret", "", 403},
		{"queue.example.org", "192.0.2.7:999", "secret", "https://evil.example", 403},
		{"queue.example.org", "192.0.2.7:999", "secret", "https://queue.example.org", 200},
	} {
		changes = 0
		r := httptest.NewRequest("POST", "/api/drop", strings.NewReader(`{"all": true}`))
		r.Host, r.RemoteAddr = test.host, test.remote
		r.Header.Set("Content-Type", "application/json")
		if test.password != "" {
			r.SetBasicAuth("alice", test.password)
		}
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != test.status || (changes == 1) != (test.status == 200) {
			t.Errorf("%+v: %d %s, %d changes", test, w.Code, w.Body, changes)
		}
		if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (w.Code == 401) {
			t.Errorf("%+v: WWW-Authenticate is %q", test, challenge)
		}
		if strings.Contains(w.Body.String(), "Alice") {
			t.Errorf("%+v: the answer says why: %s", test, w.Body)
		}
	}
	if !strings.Contains(log.String(), "not Alice") || !strings.Contains(log.String(), "user=alice") {
		t.Errorf("the log is %s", log.String())
	}
}

// TestServers asks by a port of the loopback interface and by a Unix socket.
func TestServers(t *testing.T) {
	changes := 0
	h := queuehttp.New(still{changes: &changes}, nil)
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: h}
		done := make(chan error)
		go func() { done <- srv.Serve(l) }()
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, l.Addr().String())
		}}
		r, err := (&http.Client{Transport: tr}).Get("http://localhost/api/usage")
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(r.Body); r.StatusCode != 200 || err != nil || !strings.Contains(string(body), "messages") {
			t.Errorf("%s: %s %s, %v", network, r.Status, body, err)
		}
		r.Body.Close()
		tr.CloseIdleConnections()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
	}
}
