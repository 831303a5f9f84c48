package tlsrpt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// asJSON returns reports as text, to compare them.
func asJSON(t *testing.T, reports []*Report) string {
	t.Helper()
	for _, r := range reports {
		slices.SortFunc(r.Policies, func(x, y PolicyReport) int {
			return strings.Compare(fmt.Sprint(x.Policy), fmt.Sprint(y.Policy))
		})
	}
	b, err := json.MarshalIndent(reports, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRestart stops a collector at the worst times, and checks that nothing is lost, and nothing sent twice.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		v := &receiver{}
		refusing := true
		v.answer = func(string) error {
			if refusing {
				return refusal(451)
			}
			return nil
		}
		var c *Collector
		start := func() func() error {
			c = collector(t, func(o *Options) {
				sends(v, asked+`_smtp._tls.company-y.example. TXT "v=TLSRPTv1;rua=mailto:a@b.example"`)(o)
				o.Store = FileStore(file)
			})
			return running(t, c)
		}
		stop := start()
		recordAppendixB(c, time.Now())
		c.Record(Event{Domain: "example.org", Result: "x", Policy: Policy{Type: TypeTLSA, Strings: []string{`<&>"\`}},
			MXHost: "mx.example.org", Code: "y"})
		before := asJSON(t, c.Reports(time.Now()))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		stop = start()
		if after := asJSON(t, c.Reports(time.Now())); after != before {
			t.Fatalf("after a restart:\n%s, before:\n%s", after, before)
		}
		c.Record(Event{Domain: "example.org"})

		synctestUntil(midnight.Add(5 * time.Hour)) // both reports were refused several times
		before = asJSON(t, c.Reports(midnight.Add(-time.Hour)))
		c.out.each(func(p *pending) { before += fmt.Sprint(p.key, p.due.Round(0).UTC(), p.first.Round(0).UTC(), p.wait) })
		attempts := len(v.at)
		stop()
		stop = start()
		after := asJSON(t, c.Reports(midnight.Add(-time.Hour)))
		c.out.each(func(p *pending) { after += fmt.Sprint(p.key, p.due.Round(0).UTC(), p.first.Round(0).UTC(), p.wait) })
		if c.Stats().Waiting != 2 || attempts < 4 || len(after) != len(before) {
			t.Fatalf("%+v after %d attempts:\n%s, before:\n%s", c.Stats(), attempts, after, before)
		}
		v.mu.Lock()
		refusing = false
		v.mu.Unlock()
		synctestUntil(midnight.Add(20 * time.Hour))
		stop()
		stop = start()
		synctestUntil(midnight.Add(72 * time.Hour))
		if len(v.mails) != 2 || c.Stats().Domains != 0 {
			t.Errorf("%d mails, %+v", len(v.mails), c.Stats())
		}
		stop()
	})
}

// TestSaveInterval checks that a process that is killed has lost little.
func TestSaveInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		saved := 0
		c := collector(t, func(o *Options) {
			sends(&receiver{}, "")(o)
			o.Store = FileStore(file)
			o.Trace = &Trace{Saved: func(err error) {
				if saved++; err != nil {
					t.Error(err)
				}
			}}
		})
		running(t, c)
		synctestUntil(time.Now().Add(time.Hour))
		if saved != 0 {
			t.Errorf("saved %d times, and nothing has changed", saved)
		}
		c.Record(Event{Domain: "example.org"})
		synctestUntil(time.Now().Add(6 * time.Minute))
		killed := collector(t, func(o *Options) { o.Store = FileStore(file) })
		if r := killed.Reports(time.Now()); saved != 1 || len(r) != 1 {
			t.Errorf("saved %d times, %d reports", saved, len(r))
		}
	})
}

// TestOldState checks that what is too old is not reported on.
func TestOldState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		opt := func(o *Options) { o.Store = FileStore(file) }
		c := collector(t, opt)
		c.Record(Event{Domain: "example.org"})
		if err := c.Save(); err != nil {
			t.Fatal(err)
		}
		first := time.Now()
		for days, want := range []int{1, 1, 1, 0, 0} {
			synctestUntil(first.Add(time.Duration(days)*24*time.Hour + time.Hour))
			if got := collector(t, opt).Stats().Domains; got != want {
				t.Errorf("after %d days there are %d domains", days, got)
			}
		}
	})
}

// A brokenStore fails in every way.
type brokenStore struct {
	text  string
	err   error
	limit int // how many octets it takes
}

func (s *brokenStore) Load() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(s.text)), s.err
}

func (s *brokenStore) Save(write func(io.Writer) error) error {
	return write(limited{&s.limit})
}

type limited struct{ left *int }

func (l limited) Write(p []byte) (int, error) {
	if *l.left -= len(p); *l.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestBrokenStore(t *testing.T) {
	line := `{"day":"2026-11-28","domain":"a.example","id":"1","policies":[]}`
	for name, s := range map[string]*brokenStore{
		"error":     {err: io.ErrClosedPipe},
		"empty":     {text: ""},
		"other":     {text: "something else altogether"},
		"version":   {text: strings.Replace(header, "1", "2", 1) + line},
		"cut":       {text: header + line[:20]},
		"bad day":   {text: header + strings.Replace(line, "2026", "x", 1)},
		"bad ID":    {text: header + strings.Replace(line, `"1"`, `"x"`, 1)},
		"bad count": {text: header + strings.Replace(line, `[]`, `[{"summary":{"total-failure-session-count":"x"}}]`, 1)},
	} {
		_, err := New(&Options{Organization: "x", Contact: "a@b.example", Store: s})
		var e *StateError
		if !errors.As(err, &e) || e.Op != "reading" {
			t.Errorf("%s: %v, want a StateError", name, err)
		}
	}
	c := collector(t, func(o *Options) { o.Store = &brokenStore{text: header, limit: 100} })
	c.Record(Event{Domain: "example.org"})
	var e *StateError
	if err := c.Save(); !errors.As(err, &e) || e.Op != "saving" {
		t.Errorf("%v, want a StateError", err)
	}
}

// TestFileStore checks that a file is replaced as a whole, or not at all, and that nothing is left beside it.
func TestFileStore(t *testing.T) {
	dir := t.TempDir()
	s := FileStore(filepath.Join(dir, "state"))
	if r, err := s.Load(); r != nil || err != nil {
		t.Errorf("%v, %v", r, err)
	}
	put := func(text string, err error) error {
		return s.Save(func(w io.Writer) error {
			io.WriteString(w, text)
			return err
		})
	}
	if err := put("one", nil); err != nil {
		t.Error(err)
	}
	if err := put("two", io.ErrClosedPipe); err != io.ErrClosedPipe {
		t.Error(err)
	}
	r, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(r)
	r.Close()
	files, _ := os.ReadDir(dir)
	if string(b) != "one" || len(files) != 1 {
		t.Errorf("%q, %v", b, files)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others can read it", info, err)
	}
	if err := FileStore(filepath.Join(dir, "none", "state")).Save(func(io.Writer) error { return nil }); err == nil {
		t.Error("a file in a directory that is not there")
	}
}

// TestSavedAgain checks that Run tries to save again what it could not save, and returns the error at its end.
func TestSavedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &brokenStore{text: header}
		saved := 0
		c := collector(t, func(o *Options) {
			sends(&receiver{}, "")(o)
			o.Store = s
			o.Trace = &Trace{Saved: func(error) { saved++ }}
		})
		ctx, cancel := context.WithTimeout(context.Background(), 16*time.Minute)
		defer cancel()
		c.Record(Event{Domain: "example.org"})
		if err := c.Run(ctx); err == nil || saved != 4 {
			t.Errorf("%v, saved %d times", err, saved)
		}
	})
}
