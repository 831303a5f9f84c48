package mtasts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The names of files in a directory of DirStore. A policy has the name of the host that serves it, so that no domain
// makes a name that an operating system reserves.
const (
	filePrefix = "mta-sts."
	tempPrefix = ".tmp-"
)

// DirStore returns a Store that keeps each policy in a file in dir, which it makes if there is none. Several processes
// may share the directory. Entries is how many files there are at most, for each process; 0 means 10000, and so does a
// negative number. The files that were not asked for or saved for the longest time go first.
//
// A file is replaced as a whole, and is on the disk when Save returns. One that is broken counts for nothing, and the
// next policy of its domain replaces it.
func DirStore(dir string, entries int) (Store, error) {
	if entries <= 0 {
		entries = defaultEntries
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("smtp: making the directory for MTA-STS policies: %w", err)
	}
	d := &dirStore{dir: dir, entries: entries}
	if err := d.prune(); err != nil {
		return nil, fmt.Errorf("smtp: reading the directory of MTA-STS policies: %w", err)
	}
	return d, nil
}

type dirStore struct {
	dir     string
	entries int
	mu      sync.Mutex
	count   int // files there were at the last count, and those saved since
	saves   int // since the last count
}

// A file is what a file has, in JSON.
type file struct {
	Domain  string    `json:"domain"`
	ID      string    `json:"id"`
	Fetched time.Time `json:"fetched"`
	Used    time.Time `json:"used"`
	Policy  []string  `json:"policy"` // its lines
}

// maxFile is how many octets of a file are read. JSON makes up to six octets of one.
const maxFile = 8 * MaxPolicySize

// path returns the name of the file of a domain. Domains have letters, digits, hyphens, underscores and dots only, and
// no empty labels.
func (d *dirStore) path(domain string) (string, error) {
	if name, ok := policyDomain(domain); !ok || name != domain {
		return "", fmt.Errorf("smtp: %q cannot have an MTA-STS policy", domain)
	}
	return filepath.Join(d.dir, filePrefix+domain), nil
}

func (d *dirStore) Load(_ context.Context, domain string) (*Entry, error) {
	path, err := d.path(domain)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("smtp: reading an MTA-STS policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("smtp: reading an MTA-STS policy: %w", err)
	}
	e := parseFile(text)
	if e == nil || e.Domain != domain {
		return nil, nil
	}
	// The time of the file tells prune which are in use. A day is exact enough.
	if info, err := f.Stat(); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
		now := time.Now()
		os.Chtimes(path, now, now)
	}
	return e, nil
}

// parseFile returns what a file has, or nil if it is broken.
func parseFile(text []byte) *Entry {
	var f file
	if json.Unmarshal(text, &f) != nil || !isID(f.ID) || f.Fetched.IsZero() {
		return nil
	}
	policy, err := Parse([]byte(strings.Join(f.Policy, "\n")))
	if err != nil {
		return nil
	}
	return &Entry{Domain: f.Domain, ID: f.ID, Policy: policy, Fetched: f.Fetched, Used: f.Used}
}

func (d *dirStore) Save(_ context.Context, e *Entry) error {
	path, err := d.path(e.Domain)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(file{e.Domain, e.ID, e.Fetched.UTC(), e.Used.UTC(), e.Policy.Lines()}, "", "\t")
	if err != nil {
		return fmt.Errorf("smtp: saving an MTA-STS policy: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := os.Lstat(path); err != nil {
		d.count++
	}
	if err := d.replace(path, append(text, '\n')); err != nil {
		return fmt.Errorf("smtp: saving an MTA-STS policy: %w", err)
	}
	// Other processes add files too, hence the count now and then.
	if d.saves++; d.count > d.entries || d.saves >= 256 {
		if err := d.prune(); err != nil {
			return fmt.Errorf("smtp: giving up old MTA-STS policies: %w", err)
		}
	}
	return nil
}

// replace puts a file with text in the place of path.
func (d *dirStore) replace(path string, text []byte) error {
	f, err := os.CreateTemp(d.dir, tempPrefix)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	err = cmp.Or(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(d.dir)
}

// syncDir writes the names in a directory to the disk, where the system has that.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}

// prune removes the oldest files if there are too many, and temporary files that a process left when it died.
func (d *dirStore) prune() error {
	list, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	for _, entry := range list {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone by now, or not ours
		}
		switch {
		case strings.HasPrefix(info.Name(), filePrefix):
			files = append(files, info)
		case strings.HasPrefix(info.Name(), tempPrefix) && time.Since(info.ModTime()) > time.Hour:
			os.Remove(filepath.Join(d.dir, info.Name()))
		}
	}
	d.saves, d.count = 0, len(files)
	if d.count <= d.entries {
		return nil
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range files[:len(files)-d.entries+d.entries/10] {
		if err := os.Remove(filepath.Join(d.dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		d.count--
	}
	return nil
}

func (d *dirStore) Domains(context.Context) ([]string, error) {
	list, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("smtp: reading the directory of MTA-STS policies: %w", err)
	}
	var domains []string
	for _, entry := range list {
		domain, ok := strings.CutPrefix(entry.Name(), filePrefix)
		if name, valid := policyDomain(domain); ok && valid && name == domain {
			domains = append(domains, domain)
		}
	}
	return domains, nil
}
