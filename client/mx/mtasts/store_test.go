package mtasts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func entry(domain, id string, patterns ...string) *Entry {
	return &Entry{
		Domain: domain, ID: id, Policy: &Policy{Mode: Enforce, MX: append(patterns, "*.example.net"), MaxAge: 7 * day},
		Fetched: time.Date(2026, 11, 28, 10, 0, 0, 5, time.UTC), Used: time.Date(2026, 11, 28, 11, 0, 0, 0, time.UTC),
	}
}

func save(t *testing.T, s Store, e *Entry) {
	t.Helper()
	if err := s.Save(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, s Store, domain string) *Entry {
	t.Helper()
	e, err := s.Load(t.Context(), domain)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func dirStoreIn(t *testing.T, dir string, entries int) Store {
	t.Helper()
	s, err := DirStore(dir, entries)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStores(t *testing.T) {
	stores := map[string]Store{"memory": MemoryStore(0), "files": dirStoreIn(t, filepath.Join(t.TempDir(), "a", "b"), 0)}
	for name, s := range stores {
		t.Run(name, func(t *testing.T) {
			if e := load(t, s, "example.org"); e != nil {
				t.Errorf("%+v in an empty store", e)
			}
			for _, id := range []string{"1", "2"} {
				want := entry("example.org", id, "mx.example.org")
				save(t, s, want)
				if got := load(t, s, "example.org"); !reflect.DeepEqual(got, want) {
					t.Errorf("%+v, want %+v", got, want)
				}
			}
			none := &Entry{Domain: "_a.example", ID: "x", Policy: &Policy{Mode: None}, Fetched: time.Unix(0, 0).UTC()}
			save(t, s, none)
			if got := load(t, s, "_a.example"); !reflect.DeepEqual(got, none) {
				t.Errorf("%+v, want %+v", got, none)
			}
			if domains, err := s.Domains(t.Context()); err != nil || strings.Join(domains, " ") != "_a.example example.org" {
				t.Errorf("%q, %v", domains, err)
			}
		})
	}
}

// TestEntryValid: whatever a Store says, no policy lives longer than a year.
func TestEntryValid(t *testing.T) {
	e := entry("example.org", "1")
	e.Policy.MaxAge = 10 * 365 * day
	for age, want := range map[time.Duration]bool{-day: true, 0: true, 31557600 * time.Second: true, 31557601 * time.Second: false} {
		if got := e.valid(e.Fetched.Add(age)); got != want {
			t.Errorf("at the age of %v: %v", age, got)
		}
	}
}

func TestMemoryStoreBound(t *testing.T) {
	s := MemoryStore(10)
	for i := range 100 {
		save(t, s, entry(fmt.Sprintf("d%d.example", i), "1"))
		load(t, s, "d0.example") // so it is in use
	}
	domains, _ := s.Domains(t.Context())
	if want := "d0.example d91.example d92.example d93.example d94.example d95.example d96.example d97.example d98.example d99.example"; strings.Join(domains, " ") != want {
		t.Errorf("%q, want %q", domains, want)
	}
	// A policy of 8 KiB has the room of several.
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("mx-with-a-long-name-%d.example", i))
	}
	save(t, s, entry("large.example", "1", many...))
	if domains, _ = s.Domains(t.Context()); len(domains) > 3 || load(t, s, "large.example") == nil {
		t.Errorf("%q beside a large one", domains)
	}
	// One that is too large is not kept, and takes all others with it at most.
	for range 4 {
		many = append(many, many...)
	}
	save(t, s, entry("larger.example", "1", many...))
	save(t, s, entry("example.org", "1"))
	if domains, _ = s.Domains(t.Context()); strings.Join(domains, " ") != "example.org" {
		t.Errorf("%q", domains)
	}
}

// TestDirStoreNames: a domain is whatever a stranger has written, and must not become a path.
func TestDirStoreNames(t *testing.T) {
	dir := t.TempDir()
	s := dirStoreIn(t, filepath.Join(dir, "store"), 0)
	for _, domain := range []string{"", ".", "..", "../x", "a/b", `a\b`, "a\x00b", "/etc/passwd", "a..b", ".a", "a.", "EXAMPLE.org",
		"é.example", "a b", "a:b", strings.Repeat("a.", 126) + "a", strings.Repeat("a", 64) + ".example"} {
		if err := s.Save(t.Context(), entry(domain, "1")); err == nil || !strings.Contains(err.Error(), "cannot have an MTA-STS policy") {
			t.Errorf("%q saved: %v", domain, err)
		}
		if e, err := s.Load(t.Context(), domain); e != nil || err == nil {
			t.Errorf("%q loaded: %v, %v", domain, e, err)
		}
	}
	longest := strings.Repeat("a.", 121) + "aa" // 244 octets
	save(t, s, entry(longest, "1"))
	if load(t, s, longest) == nil {
		t.Error("the longest domain has no file")
	}
	list, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(list) != 1 {
		t.Errorf("%q, %v", list, err)
	}
	if above, _ := os.ReadDir(dir); len(above) != 1 {
		t.Errorf("%v beside the store", above)
	}
}

func TestDirStoreBroken(t *testing.T) {
	dir := t.TempDir()
	s := dirStoreIn(t, dir, 0)
	save(t, s, entry("example.org", "1", "mx.example.org"))
	path := filepath.Join(dir, "mta-sts.example.org")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change := func(from, to string) string {
		if !strings.Contains(string(good), from) {
			t.Fatalf("%s has no %q", good, from)
		}
		return strings.Replace(string(good), from, to, 1)
	}
	tests := map[string]string{
		"empty": "", "cut": string(good[:len(good)/2]), "not JSON": "hello", "null": "null", "another type": "[]",
		"another domain": change(`"example.org"`, `"example.com"`), "no mode": change("mode: enforce", "x: y"),
		"a mode that is none": change("mode: enforce", "mode: report"), "no id": change(`"id": "1"`, `"id": ""`),
		"no time": change(`"fetched"`, `"fetch"`), "zeros": strings.Repeat("\x00", len(good)),
		"too large": strings.TrimSuffix(string(good), "}\n") + strings.Repeat(" ", maxFile) + "}\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if e := load(t, s, "example.org"); e != nil {
				t.Errorf("%+v", e)
			}
			save(t, s, entry("example.org", "2"))
			if e := load(t, s, "example.org"); e == nil || e.ID != "2" {
				t.Errorf("%+v after it was replaced", e)
			}
		})
	}
}

func TestDirStoreBound(t *testing.T) {
	dir := t.TempDir()
	s := dirStoreIn(t, dir, 20)
	old := time.Now().Add(-48 * time.Hour)
	age := func(name string) {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		save(t, s, entry(fmt.Sprintf("d%d.example", i), "1"))
		age(fmt.Sprintf("mta-sts.d%d.example", i))
	}
	for _, name := range []string{".tmp-1", ".tmp-2", "README"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	age(".tmp-1")
	age("README")
	load(t, s, "d0.example") // so it is in use
	save(t, s, entry("new.example", "1"))
	domains, err := s.Domains(t.Context())
	if err != nil || len(domains) != 18 || load(t, s, "d0.example") == nil || load(t, s, "new.example") == nil {
		t.Errorf("%q, %v", domains, err)
	}
	for name, want := range map[string]bool{".tmp-1": false, ".tmp-2": true, "README": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range 60 {
		save(t, s, entry(fmt.Sprintf("e%d.example", i), "1"))
		if domains, _ = s.Domains(t.Context()); len(domains) > 20 {
			t.Fatalf("%d files", len(domains))
		}
	}
	// Another process adds files too.
	other := dirStoreIn(t, dir, 1000)
	for i := range 30 {
		save(t, other, entry(fmt.Sprintf("f%d.example", i), "1"))
	}
	for range 256 {
		save(t, s, entry("e0.example", "1"))
	}
	if domains, _ = s.Domains(t.Context()); len(domains) > 20 {
		t.Errorf("%d files of two processes", len(domains))
	}
	// A process that starts with a smaller bound keeps to it at once.
	if domains, _ = dirStoreIn(t, dir, 5).Domains(t.Context()); len(domains) != 5 {
		t.Errorf("%d files", len(domains))
	}
}

// TestDirStoreShared: several stores in a directory read whole files at any time.
func TestDirStoreShared(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 4 {
		s := dirStoreIn(t, dir, 0)
		all.Go(func() {
			for i := range 30 {
				if err := s.Save(context.Background(), entry("example.org", fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
				if e, err := s.Load(context.Background(), "example.org"); e == nil || err != nil {
					t.Errorf("%v, %v", e, err)
				}
			}
		})
	}
	all.Wait()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestDirStoreErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DirStore(file, 0); err == nil || !strings.HasPrefix(err.Error(), "smtp: ") {
		t.Errorf("a file as the directory: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "gone")
	s := dirStoreIn(t, dir, 0)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), entry("example.org", "1")); err == nil || !strings.HasPrefix(err.Error(), "smtp: saving") {
		t.Errorf("a directory that is gone: %v", err)
	}
	if _, err := s.Domains(t.Context()); err == nil {
		t.Error("a directory that is gone has domains")
	}
}
