package policy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"smtpkit.example/smtp/proto"
)

const (
	// maxRecipientFile is the maximum length of a file of recipients, in octets.
	maxRecipientFile = 64 << 20
	// maxRecipients is how many recipients it may have. A million take some 100 MB of memory.
	maxRecipients = 1_000_000
)

// RecipientFileOptions are options of ReadRecipients. The zero value is usable.
type RecipientFileOptions struct {
	// Interval is how often the file is looked at, at most: when there is a look-up, and not otherwise. Default: 10
	// seconds. A negative Interval never looks; then only Reload does.
	Interval time.Duration
	// Logger gets a record when the file was read again, and when that failed. Default: slog.Default.
	Logger *slog.Logger
}

// A RecipientFile has the recipients that stand in a file, which is read again when it has changed. Make one with
// ReadRecipients. Its methods may be called concurrently.
//
// A line has an address, such as joe@example.org, or a domain of which every address exists, such as @example.org.
// Lines that are empty or begin with "#" are ignored. Local parts are compared without regard to case, in any script;
// a letter beyond ASCII is never the same as one of ASCII. The file has at most 1,000,000 addresses and 64 MiB, and a
// line at most 64 KiB. It has to be a regular file, and may begin with a byte order mark.
type RecipientFile struct {
	path  string
	opt   RecipientFileOptions
	from  time.Time
	next  atomic.Int64 // when to look at the file again, since from
	known atomic.Pointer[map[string]struct{}]

	mu      sync.Mutex  // guards what follows
	read    os.FileInfo // the file as it was read
	seen    os.FileInfo // the file as it was seen last
	failure string      // why it could not be read again; "" if it could
}

// ReadRecipients reads a file of recipients. The error says which line is wrong. A file without any recipient is an
// error too. Options may be nil.
func ReadRecipients(path string, opt *RecipientFileOptions) (*RecipientFile, error) {
	f := &RecipientFile{path: path, from: time.Now()}
	if opt != nil {
		f.opt = *opt
	}
	if f.opt.Interval == 0 {
		f.opt.Interval = 10 * time.Second
	}
	if f.opt.Logger == nil {
		f.opt.Logger = slog.Default()
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	f.next.Store(int64(f.opt.Interval))
	return f, nil
}

// Lookup reports whether the file has the address. It is for [Recipients], and never returns an error.
//
// If it is time to, it first looks whether the file has changed. A file that is being written is left alone until it
// has stayed as it is for a whole interval. One that cannot be read, or is malformed, is logged once, and the
// recipients from before stay.
func (f *RecipientFile) Lookup(_ context.Context, addr proto.Address) (bool, error) {
	now := time.Since(f.from)
	if next := f.next.Load(); f.opt.Interval > 0 && int64(now) >= next &&
		f.next.CompareAndSwap(next, int64(now+f.opt.Interval)) && f.mu.TryLock() {
		f.look()
		f.mu.Unlock()
	}
	known := *f.known.Load()
	if _, ok := known[foldCase(addr.Key())]; ok {
		return true, nil
	}
	_, ok := known["@"+addr.Domain.Key()]
	return ok, nil
}

// Reload reads the file at once, such as after SIGHUP. If it cannot, the recipients from before stay, and the error
// says why.
func (f *RecipientFile) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.load()
}

// look reads the file if it has changed, and is not changing any more.
func (f *RecipientFile) look() {
	info, err := os.Stat(f.path)
	if err == nil {
		settled := isSame(info, f.seen)
		f.seen = info
		if isSame(info, f.read) && f.failure == "" || !settled {
			return
		}
		err = f.load()
	}
	switch {
	case err == nil:
		f.failure = ""
		f.opt.Logger.Info("smtp: the recipients were read again", "file", f.path, "recipients", len(*f.known.Load()))
	case f.failure != err.Error():
		f.failure = err.Error()
		f.opt.Logger.Error("smtp: the recipients cannot be read again, and those from before stay", "err", err)
	}
}

// isSame reports whether a file is what it was.
func isSame(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// load reads the file.
func (f *RecipientFile) load() error {
	if err := checkRegular(f.path); err != nil { // to open a pipe may take for ever
		return fmt.Errorf("smtp: the recipients cannot be read: %w", err)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("smtp: the recipients cannot be read: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("smtp: the recipients cannot be read: %w", err)
	}
	if info.Size() > maxRecipientFile {
		return fmt.Errorf("smtp: the recipients cannot be read: %s has more than %d octets", f.path, maxRecipientFile)
	}
	known, err := parseRecipients(io.LimitReader(file, maxRecipientFile), maxRecipients)
	if err != nil {
		return fmt.Errorf("smtp: the recipients cannot be read: %s: %w", f.path, err)
	}
	f.known.Store(&known)
	f.read, f.seen = info, info
	return nil
}

// checkRegular returns an error if there is something at path that is no regular file.
func checkRegular(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	return err
}

// parseRecipients returns the keys of the recipients in r, in lower case, and "@" in front of the keys of domains.
// There are at most so many.
func parseRecipients(r io.Reader, most int) (map[string]struct{}, error) {
	known := make(map[string]struct{})
	lines, n := bufio.NewScanner(r), 1
	for ; lines.Scan(); n++ {
		line := lines.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		text := string(bytes.TrimSpace(line))
		if text == "" || text[0] == '#' {
			continue
		}
		key, err := recipientKey(text)
		if domain, all := strings.CutPrefix(text, "*@"); all {
			return nil, fmt.Errorf("line %d: %q stands for one mailbox; write %q for all of the domain", n, text, "@"+domain)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is neither an address nor @ and a domain: %w", n, text, err)
		}
		if known[key] = struct{}{}; len(known) > most {
			return nil, fmt.Errorf("line %d: there are more than %d recipients", n, most)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n, err)
	}
	if len(known) == 0 {
		return nil, errors.New("there is no recipient in it")
	}
	return known, nil
}

// recipientKey returns the key of an address or of "@" and a domain.
func recipientKey(text string) (string, error) {
	if name, ok := strings.CutPrefix(text, "@"); ok {
		d, err := proto.ParseDomain(name)
		return "@" + d.Key(), err
	}
	a, err := proto.ParseAddress(text)
	return foldCase(a.Key()), err
}

// foldCase returns text in lower case. The Kelvin sign, whose lower case is "k", and the like stay what they are:
// otherwise a stranger could name somebody whom the session inside does not know.
func foldCase(text string) string {
	return strings.Map(func(r rune) rune {
		if low := unicode.ToLower(r); r < utf8.RuneSelf || low >= utf8.RuneSelf {
			return low
		}
		return r
	}, text)
}
