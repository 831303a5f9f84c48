package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func openGreylist(t *testing.T, path string, opt *GreylistFileOptions) *GreylistFile {
	t.Helper()
	g, err := OpenGreylistFile(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func greylistEntry(passes int) GreylistEntry {
	now := time.UnixMilli(time.Now().UnixMilli())
	return GreylistEntry{First: now, Passes: passes, Expires: now.Add(time.Hour)}
}

func mustPut(t *testing.T, g *GreylistFile, key string, e GreylistEntry) {
	t.Helper()
	if err := g.Put(t.Context(), key, e); err != nil {
		t.Fatal(err)
	}
}

func wantEntry(t *testing.T, g *GreylistFile, key string, want GreylistEntry) {
	t.Helper()
	if got, err := g.Get(t.Context(), key); err != nil || got != want {
		t.Errorf("%s has %v, %v, want %v", key, got, err, want)
	}
}

// TestGreylistFile checks that entries are there when the file is opened again, whatever follows them.
func TestGreylistFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greylist")
	g := openGreylist(t, path, nil)
	a, a2, b, gone := greylistEntry(0), greylistEntry(1), greylistEntry(7), greylistEntry(1)
	gone.Expires = time.UnixMilli(1)
	long := strings.Repeat("k", MaxGreylistKey)
	mustPut(t, g, "a", a)
	mustPut(t, g, long, b)
	mustPut(t, g, "gone", b)
	mustPut(t, g, "gone", gone)
	mustPut(t, g, "a", a2)
	if _, err := OpenGreylistFile(path, nil); err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("the second one gets %v", err)
	}
	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Get(t.Context(), "a"); err == nil {
		t.Error("Get works after Close")
	}
	if err := g.Put(t.Context(), "a", a); err == nil {
		t.Error("Put works after Close")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tail := range []string{"", "\x00", "\x00\x00\x00\x00\x05", strings.Repeat("\x00", 200), string(whole[20:40])} {
		if err := os.WriteFile(path, append(bytes.Clone(whole), tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		g := openGreylist(t, path, nil)
		wantEntry(t, g, "a", a2)
		wantEntry(t, g, long, b)
		wantEntry(t, g, "gone", GreylistEntry{})
		mustPut(t, g, "after", b)
		g.Close()
		g = openGreylist(t, path, nil)
		wantEntry(t, g, "a", a2)
		wantEntry(t, g, "after", b)
		g.Close()
	}
	t.Run("every length", func(t *testing.T) {
		last := len(whole) - (greylistHeader + 1 + greylistFixed)
		for n := range len(whole) {
			if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			g := openGreylist(t, path, nil)
			want := GreylistEntry{}
			if n >= len(greylistMagic)+greylistHeader+1+greylistFixed {
				want = a
			}
			wantEntry(t, g, "a", want)
			if n == last {
				wantEntry(t, g, long, b)
			}
			mustPut(t, g, "b", b)
			wantEntry(t, g, "b", b)
			g.Close()
			g = openGreylist(t, path, nil)
			wantEntry(t, g, "b", b)
			g.Close()
		}
	})
	t.Run("every octet changed", func(t *testing.T) {
		for i := len(greylistMagic); i < len(whole); i++ {
			changed := bytes.Clone(whole)
			changed[i] ^= 0x10
			if err := os.WriteFile(path, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			g := openGreylist(t, path, nil)
			if got, err := g.Get(t.Context(), "a"); err != nil || got != a && !got.IsZero() {
				t.Errorf("octet %d: %v, %v", i, got, err)
			}
			g.Close()
		}
	})
	t.Run("another kind of file", func(t *testing.T) {
		for _, text := range []string{"# recipients\njoe@example.org\n", "x"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenGreylistFile(path, nil); err == nil || !strings.Contains(err.Error(), "another kind of file") {
				t.Errorf("the error is %v", err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != text {
				t.Errorf("it has %q now, %v", got, err)
			}
		}
	})
}

// TestGreylistFileSize checks that the file stays small, and has what it has to have after each compaction.
func TestGreylistFileSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greylist")
	g := openGreylist(t, path, &GreylistFileOptions{Max: 50})
	last := map[string]GreylistEntry{}
	first := g.file
	for i := range 5000 {
		key := fmt.Sprint("key", i%40)
		e := greylistEntry(i)
		mustPut(t, g, key, e)
		last[key] = e
		if i%997 == 0 {
			if info, err := os.Stat(path); err != nil || info.Size() > minCompaction*40 || info.Size() != g.size {
				t.Fatalf("%d octets, and not %d: %v", info.Size(), g.size, err)
			}
		}
	}
	if g.file == first {
		t.Error("it was never written anew")
	}
	g.Close()
	g = openGreylist(t, path, &GreylistFileOptions{Max: 50})
	for key, e := range last {
		wantEntry(t, g, key, e)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
	for i := range 50 {
		mustPut(t, g, fmt.Sprint("further", i), greylistEntry(1))
	}
	g.Close()
	g = openGreylist(t, path, &GreylistFileOptions{Max: 10})
	if n := len(g.table.entries); n != 10 {
		t.Errorf("%d entries", n)
	}
}

// TestGreylistFileErrors checks what a file that cannot be written, and a malformed entry, lead to.
func TestGreylistFileErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greylist")
	if _, err := OpenGreylistFile(path, &GreylistFileOptions{Max: -1}); err == nil {
		t.Error("Max is negative, and there is no error")
	}
	if _, err := OpenGreylistFile(filepath.Join(path, "x"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	g := openGreylist(t, path, &GreylistFileOptions{SyncEvery: -1})
	for _, key := range []string{"", strings.Repeat("k", MaxGreylistKey+1)} {
		if err := g.Put(t.Context(), key, greylistEntry(0)); err == nil {
			t.Errorf("the key %q is taken", key)
		}
	}
	whole := g.file
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	g.file = readOnly
	e := greylistEntry(1)
	if err := g.Put(t.Context(), "a", e); err == nil || !strings.HasPrefix(err.Error(), "smtp: the greylist "+path) {
		t.Errorf("the error is %v", err)
	}
	readOnly.Close()
	g.file = whole
	mustPut(t, g, "b", e)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if err := g.Put(t.Context(), fmt.Sprint("c", i), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	g.Close()
	g = openGreylist(t, path, nil)
	wantEntry(t, g, "b", e)
	wantEntry(t, g, "c9", e)
}

// TestGreylistFileCompactionFails checks that records go to the end of the file then, and that it is tried again.
func TestGreylistFileCompactionFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greylist")
	g := openGreylist(t, path, nil)
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	e, failed := greylistEntry(1), 0
	for i := range minCompaction + 100 {
		if err := g.Put(t.Context(), fmt.Sprint(i%10), e); err != nil {
			failed++
		}
	}
	if failed != 1 || g.records != minCompaction+100 {
		t.Errorf("%d errors, %d records", failed, g.records)
	}
	g.retry = time.Time{}
	if err := os.Remove(path + ".new"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, g, "last", e)
	if g.records != 11 {
		t.Errorf("%d records", g.records)
	}
	g.Close()
	g = openGreylist(t, path, nil)
	wantEntry(t, g, "last", e)
	wantEntry(t, g, "9", e)
}

// FuzzGreylistRecord checks that what is read is what was written, and that nothing else is read.
func FuzzGreylistRecord(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(appendGreylistRecord(nil, "192.0.2.0/24", GreylistEntry{time.UnixMilli(1), 3, time.UnixMilli(2)}))
	f.Add([]byte("\x00\x00\x00\x00\x01k0123456789012345678901"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			key, e, n, err := readGreylistRecord(r)
			if err != nil {
				if err != errTorn && err != io.EOF || err == io.EOF && len(b) > 0 {
					t.Errorf("%v with %d octets left", err, len(b))
				}
				return
			}
			if again := appendGreylistRecord(nil, key, e); !bytes.Equal(again, b[:n]) {
				t.Errorf("%q is read from %q, and written as %q", key, b[:n], again)
			}
			b = b[n:]
		}
	})
}
