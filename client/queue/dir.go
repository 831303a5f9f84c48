package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// Dir is a Store of files in a directory. A message is a file that people can read. OpenDir opens one.
//
// # Files
//
// The file ID.msg has the message: a line with the version, lengths and checksums, a line of JSON with the envelope, a
// line of JSON for each job, an empty line, and the content as it came. To see the content alone:
//
//	sed '1,/^$/d' 04g6f3qv9i0000000000.msg
//
// It does not change. What happened since is in ID.state, once something has: a checksum and a line of JSON for each
// outcome of an attempt, or edit, of a job. The last line of a job says how it stands; one without recipients says that
// it is done. When all jobs are done both files are removed. A large message that is not accepted yet is in ID.tmp.
//
// What was accepted or has changed within the last second may be in the files journal.N alone, and longer if much comes
// in at once. So mail that is delivered at once is never in a file of its own. There may be six such files of 32 MiB.
// Close gets all of it into its place, and after a crash the next Dir does.
//
// While a Dir is open, only it may change the files. When it is closed, a message is moved to another queue with its
// two files, the state first, and removed by removing them, the message first.
//
// # Durability
//
// Add writes a message to the journal and syncs that. Adds of many goroutines share the syncs, which follow each other
// without a pause while anything waits. What Update writes is synced with them, or within 20 ms. A process that is
// killed loses nothing that was written; a loss of power loses nothing that was synced. A message of more than 128 KiB
// is written to its own file, and synced, and then its name. The files of the others are synced before the journal is
// used again: on Linux 5.8 or later by syncfs(2), on file systems of which it is known that this is enough, such as
// ext4, XFS, Btrfs and ZFS; elsewhere one by one, which is slower.
//
// A disk that is full, and too many open files, are errors that are temporary. A sync that fails is final, as the
// system may have forgotten what it could not write: from then on all methods that write, and Take, fail. Close the Dir
// then and open it again, or another one, when the disk has been seen to.
//
// # Limits
//
// A Dir is for one process. It keeps about 190 octets in memory for each message with one job, 64 more for each further
// job, and 240 for each destination, and reads the rest when it is wanted. What waits to get into files takes up to 16
// MiB more, and 500 octets for each message. OpenDir reads the head of each message. Leases end with Release and with
// Close only.
type Dir struct {
	fs      vfs.FS
	logger  *slog.Logger
	lock    io.Closer
	backlog *backlog
	reader  reader

	mu     sync.Mutex // for what follows
	index  *index
	adding map[ID]*adding // messages that are being added
	unread map[ID]error   // messages that could not be read when d was opened, and stay where they are
	calls  sync.WaitGroup // counts the calls that go on without mu
	closed bool

	suspensions suspensions
	free        freeRoom
}

var _ Store = (*Dir)(nil)

// DirOptions are the settings of a Dir. Nil stands for the defaults.
type DirOptions struct {
	// Logger gets what an operator has to know: files that are damaged, and a sync that has failed. The default is
	// slog.Default.
	Logger *slog.Logger

	// For tests: in place of the operating system's, and of the usual ones.
	fs     vfs.FS
	limits *dirLimits
}

// OpenDir opens the queue in a directory, and makes the directory if it is not there. It recovers what a crash has
// left: files that were not accepted are removed, and damaged ones are moved to the directory "damaged" in it, and
// logged. It never removes a message that it cannot read. The error is ErrInUse if a process has opened the queue
// already.
func OpenDir(path string, opt *DirOptions) (*Dir, error) {
	var o DirOptions
	if opt != nil {
		o = *opt
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.fs == nil {
		fs, err := vfs.OS(path)
		if err != nil {
			return nil, fmt.Errorf("smtp: the queue cannot be opened: %w", err)
		}
		o.fs = fs
	}
	if o.limits == nil {
		o.limits = &usualLimits
	}
	d := &Dir{fs: o.fs, logger: o.Logger.With("queue", path), index: newIndex(), adding: map[ID]*adding{},
		unread: map[ID]error{}}
	d.backlog = newBacklog(d.fs, d.logger, *o.limits)
	d.reader.fs, d.reader.backlog = d.fs, d.backlog
	d.suspensions = suspensions{fs: d.fs, logger: d.logger, failed: d.backlog.fail}
	d.backlog.files.flags, d.backlog.files.setFlags = d.flags, d.setFlags
	if err := d.open(); err != nil {
		if j := d.backlog.journal; j != nil {
			_ = j.Close(true) // nothing was written
		}
		_ = d.letGo()
		return nil, err
	}
	return d, nil
}

// open locks the directory and reads it.
func (d *Dir) open() error {
	lock, err := d.fs.Lock("lock")
	if errors.Is(err, vfs.ErrLocked) {
		return ErrInUse
	}
	if err != nil {
		return fmt.Errorf("smtp: the queue cannot be locked: %w", err)
	}
	d.lock = lock
	// So no lease of an earlier process is valid.
	d.index.epoch = time.Now().UnixNano()
	r := recovery{Dir: d, states: map[ID]bool{}}
	if err := r.run(); err != nil {
		return fmt.Errorf("smtp: the queue cannot be read: %w", err)
	}
	d.backlog.begin()
	return nil
}

// letGo closes the files.
func (d *Dir) letGo() error {
	var err error
	if d.lock != nil {
		err = d.lock.Close()
	}
	return errors.Join(err, d.fs.Close())
}

// Close implements Store. It waits for the calls under way, of which Add may wait for its content. Content that is open
// can be read.
func (d *Dir) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.index.endLeases()
	d.mu.Unlock()
	d.calls.Wait()
	err := d.backlog.close()
	return errors.Join(err, d.letGo())
}

// Free returns how many octets the disk has room for, and false if the operating system does not say. It asks at most
// every 100 ms, since it is called for each message.
func (d *Dir) Free() (octets int64, ok bool) { return d.free.get(d.fs, time.Now()) }

// A freeRoom is what the disk had room for a moment ago.
type freeRoom struct {
	mu     sync.Mutex
	at     time.Time
	octets int64
	ok     bool
}

func (r *freeRoom) get(fs vfs.FS, now time.Time) (octets int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() || now.Sub(r.at) >= 100*time.Millisecond {
		r.octets, r.ok = fs.Free()
		r.at = now
	}
	return r.octets, r.ok
}

// enter locks d.mu for a method, unless ctx has ended or d is closed. The caller unlocks it in any case.
func (d *Dir) enter(ctx context.Context) error {
	d.mu.Lock()
	if d.closed {
		return errStoreClosed
	}
	return ctx.Err()
}

// begin notes that a method is called that goes on without d.mu. Close waits until it calls d.calls.Done, unless there
// is an error.
func (d *Dir) begin(ctx context.Context) error {
	err := d.enter(ctx)
	defer d.mu.Unlock()
	if err == nil {
		d.calls.Add(1)
	}
	return err
}

// enterToWrite is enter for methods that fail after a sync has failed.
func (d *Dir) enterToWrite(ctx context.Context) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	return d.backlog.failure()
}

// Claim implements Store.
func (d *Dir) Claim(ctx context.Context, now time.Time, max int) ([]Lease, time.Time, error) {
	err := d.enter(ctx)
	defer d.mu.Unlock()
	if err != nil {
		return nil, time.Time{}, err
	}
	leases, next := d.index.claim(now, max)
	return leases, next, nil
}

// ClaimOne implements Store.
func (d *Dir) ClaimOne(ctx context.Context, destination string) (Lease, bool, error) {
	err := d.enter(ctx)
	defer d.mu.Unlock()
	if err != nil {
		return Lease{}, false, err
	}
	l, ok := d.index.claimOne(destination)
	return l, ok, nil
}

// Release implements Store.
func (d *Dir) Release(ctx context.Context, l Lease, notBefore time.Time) error {
	err := d.enter(ctx)
	defer d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.index.release(l, notBefore)
}

// Renew implements Store. Leases have no time at which they end.
func (d *Dir) Renew(ctx context.Context, leases []Lease) (lost []Lease, err error) {
	err = d.enter(ctx)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return d.index.renew(leases), nil
}

// Shape implements Store.
func (d *Dir) Shape(ctx context.Context, now time.Time) ([]Shape, error) {
	err := d.enter(ctx)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return d.index.shape(now), nil
}

// Usage implements Store.
func (d *Dir) Usage(ctx context.Context, tag string, all bool) (Usage, error) {
	err := d.enter(ctx)
	defer d.mu.Unlock()
	if err != nil {
		return Usage{}, err
	}
	return d.index.usage(tag, all), nil
}

// A dirError is an error of the disk.
type dirError struct {
	what      string
	err       error
	temporary bool
}

// diskError says what could not be done. It is temporary if the disk is full, or too many files are open.
func diskError(what string, err error) error {
	return &dirError{what, err, vfs.IsTemporary(err)}
}

func (e *dirError) Error() string { return "smtp: the queue cannot " + e.what + ": " + e.err.Error() }

func (e *dirError) Unwrap() error { return e.err }

// Temporary reports whether it may work the next time.
func (e *dirError) Temporary() bool { return e.temporary }
