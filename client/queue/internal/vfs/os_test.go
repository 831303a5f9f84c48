package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	f, err := OS(path)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file, err := f.Create("x.tmp")
	must(err)
	if _, err := f.Create("x.tmp"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create of a file that is there: %v", err)
	}
	_, err = file.Write([]byte("?????world"))
	must(err)
	_, err = file.WriteAt([]byte("hello"), 0)
	must(err)
	must(file.Sync())
	must(f.Rename("x.tmp", "x"))
	must(file.Close())
	for range 2 {
		must(f.Mkdir("d"))
		file, err = f.Append("d/y")
		must(err)
		_, err = file.Write([]byte("line\n"))
		must(err)
		must(file.Sync())
		must(file.Close())
	}
	must(f.SyncDir("."))
	must(f.SyncDir("d"))
	if err := f.SyncAll(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	for name, want := range map[string]string{"x": "helloworld", "d/y": "line\nline\n"} {
		if b, err := os.ReadFile(filepath.Join(path, filepath.FromSlash(name))); string(b) != want || err != nil {
			t.Errorf("%s is %q, %v, want %q", name, b, err, want)
		}
	}
	names, err := f.List(".")
	slices.Sort(names)
	if !slices.Equal(names, []string{"d", "x"}) || err != nil {
		t.Errorf("List: %q, %v", names, err)
	}
	// What is removed can be read to its end.
	file, err = f.Open("x")
	must(err)
	must(f.Remove("x"))
	b := make([]byte, 5)
	if n, err := file.ReadAt(b, 5); n != 5 || string(b) != "world" {
		t.Errorf("ReadAt: %q, %v", b[:n], err)
	}
	if size, err := file.Size(); size != 10 || err != nil {
		t.Errorf("Size: %d, %v", size, err)
	}
	must(file.Close())
	for name, err := range map[string]error{"Remove": f.Remove("x"), "Rename": f.Rename("x", "y")} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of what is not there: %v", name, err)
		}
	}
	if _, err := f.Open("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of what is not there: %v", err)
	}
	if octets, ok := f.Free(); ok && octets <= 0 {
		t.Errorf("Free: %d", octets)
	}
	must(f.Close())
}

func TestLock(t *testing.T) {
	path := t.TempDir()
	f, err := OS(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := OS(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		lock, err := f.Lock("lock")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Lock("lock"); !errors.Is(err, ErrLocked) {
			t.Errorf("the second lock: %v, want ErrLocked", err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
}
