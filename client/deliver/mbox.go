package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// An Mbox appends messages to mailbox files, of the kind mboxrd (RFC 4155 has its grandparent). It is a
// [client.Sender]. Several goroutines may call Send at once. Do not change it once it is in use.
//
// Each message begins with a line "From sender date", in UTC, and ends with an empty line. A line of the message that
// is "From ", or any number of ">" before that, gets one more ">", so that a reader can undo it. Lines end with LF.
// Return-Path and Delivered-To come first, as in a [Maildir]. The file is synced. If anything fails, it is cut back to
// what it was.
//
// While it writes, Mbox holds two locks: a file of the mailbox's name and ".lock", and that of fcntl on Unix. Most
// programs use one or both; see [Mbox].NoDotLock. Within a program the name of a mailbox is a lock too: do not use
// several names for one file.
//
// A mailbox must be a plain file and no symbolic link. It is made if it is missing, for the owner alone (0600), but its
// directory is not.
type Mbox struct {
	// Path returns the path of the recipient's mailbox; see [Maildir].Path, and [Under] for a simple one.
	Path func(to proto.Address) (string, error)
	// LockTimeout is how long a recipient waits for locks that others hold. Default 1 minute. If it is negative, there is
	// no wait. The outcome is a temporary error with the status 4.2.0 then.
	LockTimeout time.Duration
	// StaleLock is from what age on a lock file is taken for one that a program has left behind, and removed. Default 15
	// minutes; negative is never.
	StaleLock time.Duration
	// NoDotLock leaves the lock file out, where nobody may make one, as in many a /var/mail. All programs that use the
	// mailbox have to use fcntl then.
	NoDotLock bool

	open func(name string) (mailbox, error) // nil: openMailbox
}

const (
	defaultLockTimeout = time.Minute
	defaultStaleLock   = 15 * time.Minute
)

// A mailbox is an open mailbox file.
type mailbox interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
	// lock takes the lock, if nobody else has it. Close gives it back.
	lock() (bool, error)
}

type osMailbox struct{ *os.File }

func (f osMailbox) lock() (bool, error) { return lockFile(f.File) }

// openMailbox opens a mailbox, or makes it.
func openMailbox(name string) (mailbox, error) {
	f, err := os.OpenFile(name, os.O_RDWR|noFollow, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return osMailbox{f}, nil
}

// Send appends m to the mailboxes of its recipients, one after the other. When ctx ends, the delivery under way is
// undone, and the rest is not begun. For the errors of outcomes, and AllOrNone, see [Maildir.Send].
func (b Mbox) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	if err := b.settings(); err != nil {
		return misused(m, err)
	}
	if b.open == nil {
		b.open = openMailbox
	}
	return each(ctx, m, func(m *client.Message) (int64, error) { return b.deliver(ctx, m) })
}

// deliver delivers m to its one recipient.
func (b Mbox) deliver(ctx context.Context, m *client.Message) (int64, error) {
	name, err := b.Path(m.To[0].Address)
	switch {
	case err != nil:
		return 0, refused("finding the mailbox", err)
	case name == "":
		return 0, errNoMailbox
	}
	if name, err = filepath.Abs(name); err != nil {
		return 0, failure("finding the mailbox", err)
	}
	w := newWaiter(ctx, b.LockTimeout)
	defer w.stop()
	leave, err := enter(w.ctx, name)
	if err != nil {
		return 0, locked(ctx, name, err)
	}
	defer leave()
	if !b.NoDotLock {
		unlock, err := b.dotLock(w, name+".lock")
		if err != nil {
			return 0, locked(ctx, name, err)
		}
		defer unlock()
	}
	f, err := b.open(name)
	if err != nil {
		return 0, failure("opening a mailbox", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, &Error{Doing: "opening a mailbox", Err: cmp.Or(err, errNotPlain), status: statusConfig}
	}
	if err := w.until(f.lock); err != nil {
		return 0, locked(ctx, name, err)
	}
	if info, err = f.Stat(); err == nil {
		err = stillThere(name, info)
	}
	if err != nil {
		return 0, &Error{Doing: "locking a mailbox", Err: err, status: statusMailbox}
	}
	return b.add(ctx, f, name, info.Size(), m)
}

var (
	errNotPlain = errors.New("it is not a plain file")
	errReplaced = errors.New("somebody has put another file in its place")
)

// stillThere returns an error if name is not, or no longer, the file that info describes.
func stillThere(name string, info fs.FileInfo) error {
	now, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if !os.SameFile(now, info) {
		return errReplaced
	}
	return nil
}

// add appends m to a mailbox of a size, or leaves that as it was.
func (b Mbox) add(ctx context.Context, f mailbox, name string, size int64, m *client.Message) (n int64, err error) {
	const doing = "writing a mailbox"
	done := false
	defer func() { // also if the Body panics
		if done {
			return
		}
		undo := f.Truncate(size)
		if undo == nil {
			undo = f.Sync()
		}
		if err != nil && undo != nil {
			err = &Error{
				Doing: doing, Err: fmt.Errorf("%w; undoing it: %w", err, undo), status: statusSystem, inDoubt: true,
			}
		}
	}()
	gap, err := gapAfter(f, size)
	if err != nil {
		return 0, failure(doing, err)
	}
	out := io.NewOffsetWriter(f, size)
	date := time.Now().UTC().Format(time.ANSIC)
	if _, err := io.WriteString(out, gap+"From "+sender(m.From)+" "+date+"\n"); err != nil {
		return 0, failure(doing, err)
	}
	if n, err = (format{newline: "\n", quote: true, top: true}).write(ctx, out, m); err != nil {
		return 0, asMessageError(doing, err)
	}
	if _, err := io.WriteString(out, "\n"); err != nil {
		return 0, failure(doing, err)
	}
	if err := f.Sync(); err != nil {
		return 0, failure(doing, err)
	}
	if size == 0 { // the file may be new
		if err := syncDir(filepath.Dir(name)); err != nil {
			return 0, failure(doing, err)
		}
	}
	done = true
	return n, nil
}

// gapAfter returns what is lacking at the end of a mailbox of a size: an empty line, unless it has no messages yet.
func gapAfter(f io.ReaderAt, size int64) (string, error) {
	if size == 0 {
		return "", nil
	}
	end := make([]byte, min(size, 2))
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil && err != io.EOF {
		return "", err
	}
	switch {
	case string(end) == "\n\n":
		return "", nil
	case end[len(end)-1] == '\n':
		return "\n", nil
	}
	return "\n\n", nil
}
