//go:build unix

package deliver

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// A node is a file or a directory of a disk in memory.
type node struct {
	entries map[string]*node // nil for a file
	synced  map[string]*node // those that outlive a loss of power
	data    string
	durable string // what of data outlives a loss of power
}

func newDir() *node { return &node{entries: make(map[string]*node), synced: make(map[string]*node)} }

// A disk is files in memory. It knows what a loss of power would leave.
type disk struct {
	root  *node
	ops   []string              // what was done
	fault func(op string) error // an operation that fails, and does nothing
	after func()                // called behind each operation
}

func newDisk() *disk {
	d := &disk{root: newDir()}
	d.root.entries["mail"] = newDir()
	d.root.synced["mail"] = d.root.entries["mail"]
	return d
}

// find returns what has a name, among all entries or among those that last.
func (d *disk) find(name string, synced bool) *node {
	at := d.root
	for _, part := range strings.Split(strings.Trim(filepath.ToSlash(name), "/"), "/") {
		switch {
		case at == nil || part == "":
		case synced:
			at = at.synced[part]
		default:
			at = at.entries[part]
		}
	}
	return at
}

// do does an operation on the directory that name is in.
func (d *disk) do(op, name string, f func(dir *node, base string) error) error {
	d.ops = append(d.ops, op+" "+name)
	if d.after != nil {
		defer d.after()
	}
	if d.fault != nil {
		if err := d.fault(op); err != nil {
			return err
		}
	}
	dir := d.find(filepath.Dir(name), false)
	if dir == nil {
		return fs.ErrNotExist
	}
	return f(dir, filepath.Base(name))
}

func (d *disk) Create(name string) (file, error) {
	n := &node{}
	err := d.do("create", name, func(dir *node, base string) error {
		if dir.entries[base] != nil {
			return fs.ErrExist
		}
		dir.entries[base] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &diskFile{d, n}, nil
}

func (d *disk) Mkdir(name string) error {
	return d.do("mkdir", name, func(dir *node, base string) error {
		if dir.entries[base] != nil {
			return fs.ErrExist
		}
		dir.entries[base] = newDir()
		return nil
	})
}

func (d *disk) Stat(name string) (fs.FileInfo, error) {
	return nil, d.do("stat", name, func(dir *node, base string) error {
		if dir.entries[base] == nil {
			return fs.ErrNotExist
		}
		return nil
	})
}

func (d *disk) Rename(from, to string) error {
	return d.do("rename", from, func(dir *node, base string) error {
		target := d.find(filepath.Dir(to), false)
		if dir.entries[base] == nil || target == nil {
			return fs.ErrNotExist
		}
		target.entries[filepath.Base(to)] = dir.entries[base]
		delete(dir.entries, base)
		return nil
	})
}

func (d *disk) Remove(name string) error {
	return d.do("remove", name, func(dir *node, base string) error {
		n := dir.entries[base]
		switch {
		case n == nil:
			return fs.ErrNotExist
		case len(n.entries) > 0:
			return errors.New("it is not empty")
		}
		delete(dir.entries, base)
		return nil
	})
}

func (d *disk) SyncDir(name string) error {
	return d.do("syncdir", name+"/.", func(dir *node, _ string) error {
		dir.synced = maps.Clone(dir.entries)
		return nil
	})
}

type diskFile struct {
	d *disk
	n *node
}

func (f *diskFile) Write(p []byte) (n int, err error) {
	err = f.d.do("write", "/", func(*node, string) error {
		f.n.data += string(p)
		n = len(p)
		return nil
	})
	return n, err
}

func (f *diskFile) Sync() error {
	return f.d.do("sync", "/", func(*node, string) error { f.n.durable = f.n.data; return nil })
}

func (f *diskFile) Close() error {
	return f.d.do("close", "/", func(*node, string) error { return nil })
}

// messages returns the content of the files in new, if power were lost now: those whose names were synced, or with
// lucky those whose names were not; but of content only what was synced.
func (d *disk) messages(dir string, lucky bool) []string {
	n := d.find(dir+"/new", !lucky)
	if n == nil {
		return nil
	}
	entries := n.synced
	if lucky {
		entries = n.entries
	}
	var all []string
	for _, f := range entries {
		all = append(all, f.durable)
	}
	return all
}

const inbox = "/mail/d.example/c"

// crashing returns a Maildir on d, a message, and the content that it has to have there.
func crashing(t *testing.T, d *disk, folder, text string) (Maildir, *client.Message, string) {
	md := Maildir{Path: Under("/mail"), Folder: func(proto.Address) string { return folder }, files: d}
	return md, message(t, text, "c@d.example"), written(t, format{newline: "\n", top: true}, strings.NewReader(text), 0)
}

// TestMaildirCrash loses power behind each operation: new has whole messages only, and those for which Send has
// returned nil.
func TestMaildirCrash(t *testing.T) {
	for _, folder := range []string{"", "Junk"} {
		dir := inbox
		if folder != "" {
			dir += "/.Junk"
		}
		d := newDisk()
		md, m, want := crashing(t, d, folder, strings.Repeat(text, 2*blockSize/len(text)))
		d.after = func() {
			for _, lucky := range []bool{false, true} {
				for _, got := range d.messages(dir, lucky) {
					if got != want {
						t.Errorf("behind %q, lucky: %v: new has %d octets, want %d", d.ops[len(d.ops)-1], lucky, len(got), len(want))
					}
				}
			}
		}
		for i := range 3 {
			if got := sendTo(t, md, m); got != "ok" {
				t.Fatal(got)
			}
			if got := d.messages(dir, false); len(got) != i+1 {
				t.Errorf("%d messages outlive a loss of power, want %d: %q", len(got), i+1, d.ops)
			}
		}
		if n := d.find(dir+"/tmp", false); len(n.entries) > 0 {
			t.Errorf("left in tmp: %d", len(n.entries))
		}
	}
}

// TestMaildirMadeByOthers: directories that somebody else has just made may not last yet.
func TestMaildirMadeByOthers(t *testing.T) {
	d := newDisk()
	md, m, _ := crashing(t, d, "", text)
	d.Mkdir("/mail/d.example")
	d.SyncDir("/mail")
	for _, name := range []string{inbox, inbox + "/cur", inbox + "/new"} {
		if err := d.Mkdir(name); err != nil {
			t.Fatal(err)
		}
	}
	if got := sendTo(t, md, m); got != "ok" || len(d.messages(inbox, false)) != 1 {
		t.Errorf("%s, and %d messages outlive a loss of power", got, len(d.messages(inbox, false)))
	}
}

// TestMaildirOrder: what the convention of Maildir demands, in its order.
func TestMaildirOrder(t *testing.T) {
	d := newDisk()
	md, m, _ := crashing(t, d, "", text)
	for range 2 {
		d.ops = nil
		sendTo(t, md, m)
	}
	var ops []string
	for _, op := range d.ops {
		ops = append(ops, strings.Fields(op)[0])
	}
	if want := []string{"create", "write", "sync", "close", "rename", "syncdir"}; !slices.Equal(ops, want) {
		t.Errorf("%q, want %q", ops, want)
	}
}

// TestMaildirFaults has each operation fail once. Either the message is there for good, or it is not, and another
// attempt delivers it for good.
func TestMaildirFaults(t *testing.T) {
	for _, folder := range []string{"", "Junk"} {
		dir := inbox
		if folder != "" {
			dir += "/.Junk"
		}
		for at := 0; ; at++ {
			d := newDisk()
			md, m, _ := crashing(t, d, folder, text)
			failed := ""
			n := 0
			d.fault = func(op string) error {
				if n++; n-1 == at {
					failed = op
					return fmt.Errorf("broken: %w", syscall.ENOSPC)
				}
				return nil
			}
			got := sendTo(t, md, m)
			if failed == "" {
				if got != "ok" || at < 10 {
					t.Errorf("%s at %d", got, at)
				}
				break
			}
			name := fmt.Sprintf("%s, operation %d (%s)", folder, at, failed)
			if got != "4.3.1" {
				t.Errorf("%s: %s, want 4.3.1", name, got)
			}
			if left := d.messages(dir, true); len(left) > 0 {
				t.Errorf("%s: %d messages in new", name, len(left))
			}
			if n := d.find(dir+"/tmp", false); n != nil && len(n.entries) > 0 {
				t.Errorf("%s: %d files left in tmp", name, len(n.entries))
			}
			d.fault = nil
			got = sendTo(t, md, m)
			if left := d.messages(dir, false); got != "ok" || len(left) != 1 {
				t.Errorf("%s: the next attempt: %s, and %d messages outlive a loss of power", name, got, len(left))
			}
		}
	}
}

// TestMaildirDoubt: a message that cannot be taken back is in doubt.
func TestMaildirDoubt(t *testing.T) {
	d := newDisk()
	md, m, _ := crashing(t, d, "", text)
	sendTo(t, md, m)
	d.fault = func(op string) error {
		if op == "syncdir" || op == "remove" {
			return syscall.EDQUOT
		}
		return nil
	}
	res, err := md.Send(t.Context(), m)
	failed, ok := err.(*client.SendError)
	if codes(res) != "4.2.2?" || !ok || !failed.Unknown || failed.Retry(m) != nil {
		t.Errorf("%s, %v", codes(res), err)
	}
}
