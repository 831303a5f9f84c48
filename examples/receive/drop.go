package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// drop is a directory of messages, numbered from 000001.
type drop struct {
	dir  string
	last atomic.Int64
}

// openDrop makes the directory if there is none, and goes on with the numbers where an earlier run stopped.
func openDrop(dir string) (*drop, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	d := &drop{dir: dir}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		if n, err := strconv.ParseInt(name, 10, 64); err == nil {
			d.last.Store(max(d.last.Load(), n))
		}
	}
	return d, nil
}

// put stores a message and then its envelope, and returns its number. When it returns without an error both are on
// disk; whoever sees the envelope can read the message.
func (d *drop) put(r io.Reader, e *envelope) (string, error) {
	text, err := d.write(func(w io.Writer) (err error) {
		e.Size, err = io.Copy(w, r)
		return err
	})
	if err != nil {
		return "", err
	}
	defer os.Remove(text)
	facts, err := d.write(func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	})
	if err != nil {
		return "", err
	}
	name, err := d.claim(text)
	if err != nil {
		return "", errors.Join(err, os.Remove(facts))
	}
	message := filepath.Join(d.dir, name)
	err = os.Rename(facts, message+".json")
	if err == nil {
		err = syncDir(d.dir)
	}
	if err != nil {
		os.Remove(facts)
		os.Remove(message + ".json")
		os.Remove(message + ".eml")
	}
	return name, err
}

// claim gives the message in the file called temporary the next number that is free. A link fails if there is such a
// name, where a rename would replace the message of another process that has the same directory.
func (d *drop) claim(temporary string) (string, error) {
	for {
		name := fmt.Sprintf("%06d", d.last.Add(1))
		err := os.Link(temporary, filepath.Join(d.dir, name+".eml"))
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
}

// write writes a file under a temporary name, which it returns once the content is on disk.
func (d *drop) write(fill func(io.Writer) error) (string, error) {
	f, err := os.CreateTemp(d.dir, ".new-*")
	if err != nil {
		return "", err
	}
	if err := errors.Join(fill(f), f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// syncDir puts the names in a directory on disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
