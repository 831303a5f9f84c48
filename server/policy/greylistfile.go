package policy

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A GreylistFile is a [GreylistStore] in memory that writes what it is told into a file, so that it knows it when the
// program starts again. It is for one process. Its methods may be called by several goroutines at once.
//
// # What a crash costs
//
// Each Put appends a record to the file. Records reach the disk once in SyncEvery, and with Close; the system writes
// them sooner as a rule. If the program dies, nothing is lost. If the machine does, attempts of the last SyncEvery are,
// and their clients are put off once more. A record has a checksum: when the file is opened, what follows the first
// record that is not whole is dropped.
//
// # Size
//
// When the file has twice as many records as there are entries, and 1000 at least, it is written anew under another
// name, and renamed when it is on the disk. It takes at most some 100 octets for each of twice the entries.
type GreylistFile struct {
	mu      sync.Mutex
	table   *greylistTable
	path    string
	lock    *os.File
	file    *os.File
	size    int64 // of the file, with whole records
	records int   // in the file
	synced  time.Time
	retry   time.Time // when to write the file anew, after a failure of that
	every   time.Duration
	closed  bool
}

// GreylistFileOptions are the options of a [GreylistFile]. The zero value of each is its default.
type GreylistFileOptions struct {
	// Max is how many entries there are at most. When it is full they give way as in [NewGreylistMemory]. Default:
	// 100,000, which takes some 30 MB of memory, and 20 MB of disk. At most 5,000,000.
	Max int
	// SyncEvery is how long records may take to reach the disk. Negative: each is there when Put returns, which is slow.
	// Default: 10 seconds. There is no timer: the next Put writes what is late, and so does Close.
	SyncEvery time.Duration
}

const (
	greylistMagic   = "smtp greylist 1\n"
	greylistHeader  = 4 + 1     // checksum, length of the key
	greylistFixed   = 8 + 4 + 8 // first, passes, expires
	minCompaction   = 1000      // records
	maxGreylistFile = 1 << 30   // octets, with twice as many records as there are entries
	maxPasses       = 1<<31 - 1 // that a record has room for
	defaultSync     = 10 * time.Second

	maxGreylistEntries = 5_000_000
)

var greylistTableCRC = crc32.MakeTable(crc32.Castagnoli)

// OpenGreylistFile opens the file at path, or makes it, with mode 0600. The options may be nil. Close it when the
// server has been shut down.
//
// It returns an error if another process has it open, if the file is none of a GreylistFile, or if it cannot be read or
// written. The lock is a file at path with ".lock" behind it; on systems without flock there is none.
func OpenGreylistFile(path string, opt *GreylistFileOptions) (*GreylistFile, error) {
	o := GreylistFileOptions{}
	if opt != nil {
		o = *opt
	}
	if o.Max < 0 || o.Max > maxGreylistEntries {
		return nil, optionError("GreylistFileOptions", "Max", "%d is not between 1 and %d; leave it 0 for 100,000", o.Max,
			maxGreylistEntries)
	}
	if o.SyncEvery == 0 {
		o.SyncEvery = defaultSync
	}
	g := &GreylistFile{table: newGreylistTable(o.Max), path: path, every: o.SyncEvery, synced: time.Now()}
	lock, err := openLock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("smtp: the greylist %s: %w", path, err)
	}
	g.lock = lock
	if err := g.open(); err != nil {
		err = fmt.Errorf("smtp: the greylist %s: %w", path, err)
		if g.file != nil {
			err = errors.Join(err, g.file.Close())
		}
		return nil, errors.Join(err, lock.Close())
	}
	return g, nil
}

// open reads the file, and drops what is not whole at its end.
func (g *GreylistFile) open() error {
	if err := checkRegular(g.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(g.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	g.file = f
	r := bufio.NewReader(io.LimitReader(f, maxGreylistFile))
	magic := make([]byte, len(greylistMagic))
	n, err := io.ReadFull(r, magic)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if string(magic[:n]) != greylistMagic[:n] {
		return errors.New("it is another kind of file; choose another name")
	}
	if n < len(greylistMagic) { // new, or made by a program that died at once
		return g.compact()
	}
	now := time.Now()
	g.size = int64(n)
	for {
		key, entry, octets, err := readGreylistRecord(r)
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) {
			break
		}
		if err != nil {
			return err
		}
		g.size += int64(octets)
		g.records++
		if now.Before(entry.Expires) {
			_ = g.table.put(key, entry, now) // what has no room is forgotten
		} else {
			g.table.remove(g.table.entries[key])
		}
	}
	if err := f.Truncate(g.size); err != nil {
		return err
	}
	_, err = f.Seek(g.size, io.SeekStart)
	return err
}

// Get is that of [GreylistStore].
func (g *GreylistFile) Get(_ context.Context, key string) (GreylistEntry, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return GreylistEntry{}, errGreylistClosed
	}
	return g.table.get(key), nil
}

// Put is that of [GreylistStore]. After an error of the disk the entry holds in memory, and further records follow
// those that are whole.
func (g *GreylistFile) Put(_ context.Context, key string, e GreylistEntry) error {
	if len(key) == 0 || len(key) > MaxGreylistKey {
		return fmt.Errorf("smtp: a key of a greylist has 1 to %d octets, and not %d", MaxGreylistKey, len(key))
	}
	e.Passes = min(max(e.Passes, 0), maxPasses)
	e.First, e.Expires = time.UnixMilli(e.First.UnixMilli()), time.UnixMilli(e.Expires.UnixMilli())
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errGreylistClosed
	}
	now := time.Now()
	if err := g.table.put(key, e, now); err != nil {
		return err
	}
	err := g.append(appendGreylistRecord(nil, key, e), now)
	if err != nil {
		return fmt.Errorf("smtp: the greylist %s: %w", g.path, err)
	}
	return nil
}

var errGreylistClosed = errors.New("smtp: the greylist is closed")

// append writes a record.
func (g *GreylistFile) append(record []byte, now time.Time) error {
	var failed error
	if g.records >= minCompaction && g.records >= 2*len(g.table.entries) && !now.Before(g.retry) {
		if failed = g.compact(); failed == nil {
			return nil
		}
		g.retry = now.Add(time.Minute)
	}
	if g.size+int64(len(record)) > maxGreylistFile {
		return errors.Join(failed, errors.New("it is full, and could not be written anew"))
	}
	if _, err := g.file.WriteAt(record, g.size); err != nil {
		return errors.Join(failed, err) // the next record goes to the same place
	}
	g.size += int64(len(record))
	g.records++
	if g.every > 0 && now.Sub(g.synced) < g.every {
		return failed
	}
	g.synced = now
	return errors.Join(failed, g.file.Sync())
}

// compact writes a file with the entries there are, and puts it in the place of the one there is.
func (g *GreylistFile) compact() (err error) {
	name := g.path + ".new"
	// What is there was left by a program that died, or is somebody's link to a file of ours: it is not written into.
	if info, err := os.Lstat(name); err == nil && !info.IsDir() {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	renamed := false
	defer func() {
		if err != nil && !renamed {
			err = errors.Join(err, f.Close(), os.Remove(name))
		}
	}()
	w := bufio.NewWriter(f)
	size, records := int64(len(greylistMagic)), 0
	w.WriteString(greylistMagic) // Flush returns the error
	for _, l := range g.table.lists() {
		for e := l.Front(); e != nil; e = e.Next() {
			item := e.Value.(*greylistItem)
			n, _ := w.Write(appendGreylistRecord(nil, item.key, item.entry))
			size += int64(n)
			records++
		}
	}
	if err = w.Flush(); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(name, g.path); err != nil {
		return err
	}
	renamed = true
	old := g.file
	g.file, g.size, g.records, g.synced = f, size, records, time.Now()
	old.Close() // nothing in it is wanted any more
	return syncDirectory(filepath.Dir(g.path))
}

// Close writes everything to the disk, and closes the file. Get and Put return an error after that.
func (g *GreylistFile) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return errors.Join(g.file.Sync(), g.file.Close(), g.lock.Close())
}

var errTorn = errors.New("smtp: a record of a greylist is not whole")

// appendGreylistRecord appends a record: the checksum of the rest, the length of the key, the key, and the entry with
// times in milliseconds. All numbers are big-endian.
func appendGreylistRecord(b []byte, key string, e GreylistEntry) []byte {
	begin := len(b)
	b = append(b, 0, 0, 0, 0, byte(len(key)))
	b = append(b, key...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.First.UnixMilli()))
	b = binary.BigEndian.AppendUint32(b, uint32(e.Passes))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Expires.UnixMilli()))
	binary.BigEndian.PutUint32(b[begin:], crc32.Checksum(b[begin+4:], greylistTableCRC))
	return b
}

// readGreylistRecord reads a record, and returns how many octets it has. The error is io.EOF at the end, and errTorn
// for what is no record.
func readGreylistRecord(r io.Reader) (string, GreylistEntry, int, error) {
	torn := func(err error) (string, GreylistEntry, int, error) {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return "", GreylistEntry{}, 0, err
	}
	b := make([]byte, greylistHeader+MaxGreylistKey+greylistFixed)
	if _, err := io.ReadFull(r, b[:greylistHeader]); err != nil {
		return torn(err)
	}
	n := int(b[4])
	if n == 0 || n > MaxGreylistKey {
		return torn(errTorn)
	}
	b = b[:greylistHeader+n+greylistFixed]
	if _, err := io.ReadFull(r, b[greylistHeader:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = errTorn
		}
		return torn(err)
	}
	if binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], greylistTableCRC) {
		return torn(errTorn)
	}
	key, rest := string(b[greylistHeader:greylistHeader+n]), b[greylistHeader+n:]
	passes := binary.BigEndian.Uint32(rest[8:])
	if passes > maxPasses {
		return torn(errTorn)
	}
	return key, GreylistEntry{
		First:   time.UnixMilli(int64(binary.BigEndian.Uint64(rest))),
		Passes:  int(passes),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(rest[12:]))),
	}, len(b), nil
}

// openLock opens a file and locks it. The lock ends with the process, whatever ends that.
func openLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := lockFile(f)
	if err == nil && !ok {
		err = errors.New("another process has it open")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
