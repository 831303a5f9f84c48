package deliver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// A Maildir delivers messages into Maildirs: directories with a file for each message, which Dovecot, Courier, mutt and
// others read. It is a [client.Sender]. Several goroutines may call Send at once, and other programs may deliver into
// the same Maildirs. Do not change it once it is in use.
//
// A message is written to a file in tmp, which is synced, then renamed into new, which is synced too. So a reader sees
// a message whole or not at all, and a message for which Send has returned no error is there after a loss of power.
// After an error the file is removed.
//
// The file begins with the fields Return-Path and Delivered-To. A Return-Path that the message had is left out (RFC
// 5321 section 4.4). Its lines end with LF, as mutt expects, and Dovecot takes both. The name of the file has its size
// in it, as S=, which spares Dovecot and Courier a look at each file.
type Maildir struct {
	// Path returns the path of the recipient's Maildir; see [Under] for a simple one. It must not be nil. "" says that
	// there is no such mailbox, as a status of 5.1.1. An error that is or wraps a *proto.Error is the outcome for the
	// recipient. Any other is temporary.
	//
	// A local part is text from a stranger: it may have a "/" in it, or be "..".
	Path func(to proto.Address) (string, error)
	// Folder returns the name of a folder of the recipient's Maildir, in which the message goes: "Lists.Go", say, for the
	// directory .Lists.Go. "" is the inbox. Nil is the inbox for all. A name must not have a "/" in it.
	Folder func(to proto.Address) string
	// CRLF has the lines of the files end with CRLF.
	CRLF bool
	// MustExist refuses a recipient whose Maildir does not exist, with 5.1.1. If the directory that it would be in does
	// not exist either, the error is temporary: a disk may not be mounted. By default missing directories are made, for
	// the owner alone (0700).
	MustExist bool
	// Quota returns how much the recipient's Maildir may hold. Nil is no bound, and then no file maildirsize is kept.
	Quota func(to proto.Address) Quota

	files files // nil: those of the operating system
}

// Under returns a function for [Maildir].Path and [Mbox].Path: the file or directory of alice@example.org is
// root/example.org/alice. Domains are in lower case and with A-labels. Local parts are as they are, except that they
// are in lower case: few sites have mailboxes that differ in case alone. An address that would be no plain name, such
// as one with a "/" or a dot at its beginning, has no mailbox. Nor has
// the domainless postmaster: give it a domain of yours before Send.
func Under(root string) func(to proto.Address) (string, error) {
	return func(to proto.Address) (string, error) {
		domain, local := to.Domain.Key(), strings.ToLower(to.Local)
		if !isPlain(domain) || !isPlain(local) {
			return "", nil
		}
		return filepath.Join(root, domain, local), nil
	}
}

// isPlain reports whether name can be the name of a file, on any system.
func isPlain(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsAny(name, `/\:*?"<>|`) && len(name) <= 255 &&
		strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

// Files are the operations on files that a Maildir needs, so that tests can have each of them fail.
type files interface {
	// Create makes a file that must not exist yet.
	Create(name string) (file, error)
	Mkdir(name string) error
	Stat(name string) (fs.FileInfo, error)
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(name string) error
}

type file interface {
	Write(p []byte) (int, error)
	Sync() error
	Close() error
}

// system is the operating system's files.
type system struct{}

func (system) Create(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}
func (system) Mkdir(name string) error               { return os.Mkdir(name, 0o700) }
func (system) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }
func (system) Rename(from, to string) error          { return os.Rename(from, to) }
func (system) Remove(name string) error              { return os.Remove(name) }
func (system) SyncDir(name string) error             { return syncDir(name) }

// Send delivers m to its recipients, one after the other, each into a file of its own. When ctx ends, the delivery
// under way is undone, and the rest is not begun. The errors of outcomes are [*Error], [*client.MessageError], or what
// Path has returned. A disk that is full is 4.3.1, a quota that is used up 4.2.2. Message.AllOrNone cannot be kept for
// several recipients: it is a MessageError.
func (d Maildir) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	if err := d.settings(); err != nil {
		return misused(m, err)
	}
	if d.files == nil {
		d.files = system{}
	}
	return each(ctx, m, func(m *client.Message) (int64, error) { return d.deliver(ctx, m) })
}

// deliver delivers m to its one recipient.
func (d Maildir) deliver(ctx context.Context, m *client.Message) (int64, error) {
	to := m.To[0].Address
	inbox, err := d.Path(to)
	switch {
	case err != nil:
		return 0, refused("finding the Maildir", err)
	case inbox == "":
		return 0, errNoMailbox
	}
	dir := inbox
	if d.Folder != nil {
		if name := d.Folder(to); name != "" {
			if !isPlain(name) {
				return 0, failure(fmt.Sprintf("the folder %q", name), errors.New("it is not the name of a folder"))
			}
			dir = filepath.Join(inbox, "."+name)
		}
	}
	name, err := uniqueName()
	if err != nil {
		return 0, failure("making up a name", err)
	}
	tmp := filepath.Join(dir, "tmp", name)
	f, err := d.files.Create(tmp)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeDirs(inbox, dir); err != nil {
			return 0, err
		}
		f, err = d.files.Create(tmp)
	}
	if err != nil {
		return 0, failure("making a file in a Maildir", err)
	}
	delivered := false
	defer func() { // also if the Body panics
		if !delivered {
			d.files.Remove(tmp)
		}
	}()
	n, err := d.fill(ctx, f, m)
	if err != nil {
		return 0, err
	}
	var q *usage
	if d.Quota != nil {
		if q, err = d.admit(inbox, d.Quota(to), n); err != nil {
			return 0, err
		}
	}
	if err := d.publish(tmp, filepath.Join(dir, "new", fmt.Sprintf("%s,S=%d", name, n))); err != nil {
		return 0, err
	}
	delivered = true
	if q != nil {
		q.add(n)
	}
	return n, nil
}

// fill writes m to f, syncs it, and closes it.
func (d Maildir) fill(ctx context.Context, f file, m *client.Message) (n int64, err error) {
	const doing = "writing a file in a Maildir"
	closed := false
	defer func() { // also if the Body panics
		if !closed {
			f.Close()
		}
	}()
	form := format{newline: "\n", top: true}
	if d.CRLF {
		form.newline = "\r\n"
	}
	if n, err = form.write(ctx, f, m); err != nil {
		return 0, asMessageError(doing, err)
	}
	if err := f.Sync(); err != nil {
		return 0, failure(doing, err)
	}
	closed = true
	if err := f.Close(); err != nil {
		return 0, failure(doing, err)
	}
	return n, nil
}

// asMessageError returns an error of format.write as that of an outcome.
func asMessageError(doing string, err error) error {
	var fault *client.MessageError
	if errors.As(err, &fault) {
		return fault
	}
	return failure(doing, err)
}

// publish makes the file tmp a message. If it cannot tell that this lasts, it takes it back.
func (d Maildir) publish(tmp, name string) error {
	const doing = "moving a file into new of a Maildir"
	if err := d.files.Rename(tmp, name); err != nil {
		return failure(doing, err)
	}
	err := d.files.SyncDir(filepath.Dir(name))
	if err == nil {
		return nil
	}
	failed := failure(doing, err)
	failed.inDoubt = d.files.Remove(name) != nil // a reader has taken it, for one
	return failed
}

// making is held while directories are made: one that somebody else has made may not last yet.
var making sync.Mutex

// makeDirs makes the Maildir inbox, and its folder dir, if that is another.
func (d Maildir) makeDirs(inbox, dir string) error {
	making.Lock()
	defer making.Unlock()
	if d.MustExist {
		if _, err := d.files.Stat(inbox); errors.Is(err, fs.ErrNotExist) {
			if _, err := d.files.Stat(filepath.Dir(inbox)); err != nil {
				return failure("looking for the directory of the Maildir (is the disk mounted?)", err)
			}
			return errNoMailbox
		}
	}
	const doing = "making a Maildir"
	if err := d.makeMaildir(inbox); err != nil {
		return failure(doing, err)
	}
	if dir == inbox {
		return nil
	}
	if err := d.makeMaildir(dir, "maildirfolder"); err != nil {
		return failure(doing, err)
	}
	return nil
}

// makeMaildir makes dir, with empty files. The directory tmp comes last, and only when all else outlives a loss of
// power: so it is enough to look for tmp.
func (d Maildir) makeMaildir(dir string, marks ...string) error {
	for _, name := range []string{dir, filepath.Join(dir, "cur"), filepath.Join(dir, "new")} {
		if err := d.mkdir(name); err != nil {
			return err
		}
	}
	for _, name := range marks {
		if err := d.mark(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{dir, filepath.Dir(dir)} {
		if err := d.files.SyncDir(name); err != nil {
			return err
		}
	}
	if err := d.files.Mkdir(filepath.Join(dir, "tmp")); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// mkdir makes a directory with those above it, and has their names last.
func (d Maildir) mkdir(name string) error {
	err := d.files.Mkdir(name)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(name) != name {
		if err := d.mkdir(filepath.Dir(name)); err != nil {
			return err
		}
		err = d.files.Mkdir(name)
	}
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	if err := d.files.SyncDir(filepath.Dir(name)); err != nil {
		d.files.Remove(name) // so that the next attempt makes it, and syncs it
		return err
	}
	return nil
}

// mark makes the empty file that tells readers of a folder.
func (d Maildir) mark(name string) error {
	f, err := d.files.Create(name)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// deliveries counts the names that this process has made up.
var deliveries atomic.Uint64

// uniqueName returns a name for a file that no other delivery makes up, on this host or another: time, process, count,
// a random number, and the name of the host, as the convention of Maildir has it.
func uniqueName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	var random [8]byte
	rand.Read(random[:]) // it never fails
	now := time.Now()
	host = strings.NewReplacer("/", `\057`, ":", `\072`, ",", `\054`).Replace(host)
	return fmt.Sprintf("%d.M%06dP%dQ%d_%s.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), deliveries.Add(1),
		hex.EncodeToString(random[:]), host), nil
}
