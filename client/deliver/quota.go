package deliver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Quota is how much a Maildir may hold, its folders together. A bound that is zero is none.
//
// What a Maildir holds is kept in its file maildirsize, by the convention of Maildir++ that Courier and Dovecot share.
// The file is made anew from the names and sizes of the messages when it is missing, has grown, or says that there is
// no room. Messages in the folder Trash, and those with the flag T, do not count. Deliveries at the same time may go
// beyond the quota a little.
type Quota struct {
	Octets   int64
	Messages int64
}

const (
	// maxSizeFile is from how many octets on maildirsize is made anew.
	maxSizeFile = 5120
	// sizeFileAge is for how long maildirsize is believed when it says that there is no room.
	sizeFileAge = 15 * time.Minute
)

// String returns the quota as the first line of maildirsize has it.
func (q Quota) String() string {
	var parts []string
	if q.Octets > 0 {
		parts = append(parts, strconv.FormatInt(q.Octets, 10)+"S")
	}
	if q.Messages > 0 {
		parts = append(parts, strconv.FormatInt(q.Messages, 10)+"C")
	}
	return strings.Join(parts, ",")
}

// has reports whether there is room for a message of size octets where u is in use.
func (q Quota) has(u *usage, size int64) bool {
	return (q.Octets <= 0 || size <= q.Octets-u.octets) && (q.Messages <= 0 || u.messages < q.Messages)
}

// A usage is what a Maildir holds.
type usage struct {
	file             string // maildirsize
	octets, messages int64
	fresh            bool // it has just been counted
}

// add enters another message of size octets. If that fails, the file is wrong until it is made anew.
func (u *usage) add(size int64) {
	f, err := os.OpenFile(u.file, os.O_WRONLY|os.O_APPEND|noFollow, 0)
	if err != nil {
		return
	}
	fmt.Fprintf(f, "%d 1\n", size)
	f.Close()
}

// admit returns what the Maildir holds, or an error if it has no room for a message of size octets.
func (d Maildir) admit(inbox string, q Quota, size int64) (*usage, error) {
	if q.String() == "" {
		return nil, nil
	}
	if q.Octets > 0 && size > q.Octets {
		return nil, &Error{
			Doing:  "the quota",
			Err:    fmt.Errorf("a mailbox of %d octets never has room for a message of %d", q.Octets, size),
			status: statusTooLarge,
		}
	}
	u, err := readUsage(filepath.Join(inbox, "maildirsize"), q)
	if err != nil || !q.has(u, size) && !u.fresh {
		u, err = countUsage(inbox, q)
	}
	if err != nil {
		return nil, failure("finding out what a Maildir holds", err)
	}
	if !q.has(u, size) {
		return nil, &Error{
			Doing:  "the quota",
			Err:    fmt.Errorf("the mailbox is full: it has %d messages with %d octets", u.messages, u.octets),
			status: statusFull,
		}
	}
	return u, nil
}

var errSizeFile = errors.New("maildirsize has to be made anew")

// readUsage reads the file maildirsize. The error says that it has to be made anew.
func readUsage(name string, q Quota) (*usage, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|noFollow, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSizeFile+1))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(text), "\n")
	info, err := f.Stat()
	if err != nil || len(text) > maxSizeFile || lines[0] != q.String() || lines[len(lines)-1] != "" {
		return nil, errSizeFile
	}
	lines = lines[1 : len(lines)-1]
	u := &usage{file: name, fresh: len(lines) == 1 && time.Since(info.ModTime()) < sizeFileAge}
	for _, line := range lines {
		octets, messages, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		a, err1 := strconv.ParseInt(octets, 10, 64)
		b, err2 := strconv.ParseInt(strings.Trim(messages, " "), 10, 64)
		if err1 != nil || err2 != nil {
			return nil, errSizeFile
		}
		u.octets += a
		u.messages += b
	}
	if u.octets < 0 || u.messages < 0 {
		return nil, errSizeFile
	}
	return u, nil
}

// countUsage counts what the Maildir holds, and writes that to maildirsize.
func countUsage(inbox string, q Quota) (*usage, error) {
	u := &usage{file: filepath.Join(inbox, "maildirsize"), fresh: true}
	dirs := []string{inbox}
	err := eachEntry(inbox, func(e fs.DirEntry) error {
		if name := e.Name(); e.IsDir() && name[0] == '.' && name != ".Trash" {
			dirs = append(dirs, filepath.Join(inbox, name))
		}
		return nil
	})
	for _, dir := range dirs {
		for _, sub := range []string{"cur", "new"} {
			if err == nil {
				err = eachEntry(filepath.Join(dir, sub), u.count)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	name, err := uniqueName()
	if err != nil {
		return nil, err
	}
	tmp := filepath.Join(inbox, "tmp", name)
	text := fmt.Appendf(nil, "%s\n%d %d\n", q, u.octets, u.messages)
	if err = os.WriteFile(tmp, text, 0o600); err == nil {
		err = os.Rename(tmp, u.file)
	}
	if err != nil {
		os.Remove(tmp)
		return nil, err
	}
	return u, nil
}

// count adds the message in a file.
func (u *usage) count(e fs.DirEntry) error {
	name, flags, _ := strings.Cut(e.Name(), ":2,")
	if name[0] == '.' || strings.Contains(flags, "T") {
		return nil
	}
	size, ok := int64(0), false
	if i := strings.Index(name, ",S="); i >= 0 {
		digits, _, _ := strings.Cut(name[i+len(",S="):], ",")
		n, err := strconv.ParseUint(digits, 10, 62)
		size, ok = int64(n), err == nil
	}
	if !ok {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has been moved or deleted
		}
		if err != nil {
			return err
		}
		size = info.Size()
	}
	u.octets += size
	u.messages++
	return nil
}

// eachEntry calls f with each entry of a directory, without holding all of them. A directory that is not there has
// none.
func eachEntry(dir string, f func(fs.DirEntry) error) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if err := f(e); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
