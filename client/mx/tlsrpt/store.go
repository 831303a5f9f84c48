package tlsrpt

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// A Store keeps what a [Collector] has counted. One collector uses it at a time. [FileStore] makes one.
type Store interface {
	// Load returns what was saved last, or nil and no error if nothing was.
	Load() (io.ReadCloser, error)
	// Save replaces what is kept by what write writes. If write fails, or something else, it keeps what it had.
	Save(write func(io.Writer) error) error
}

// FileStore returns a [Store] that keeps a file at path. The directory has to be there. A file is replaced in one step:
// after a crash, either the old one is there or the new one.
func FileStore(path string) Store { return fileStore(path) }

type fileStore string

func (path fileStore) Load() (io.ReadCloser, error) {
	f, err := os.Open(string(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (path fileStore) Save(write func(io.Writer) error) error {
	dir := filepath.Dir(string(path))
	f, err := os.CreateTemp(dir, filepath.Base(string(path))+".*.tmp")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), string(path))
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// A StateError says why what is counted could not be saved to a [Store], or read from it.
type StateError struct {
	Op  string // "saving" or "reading"
	Err error
}

func (e *StateError) Error() string {
	s := "smtp: " + e.Op + " what is counted for reports on TLS: " + e.Err.Error()
	if e.Op == "reading" {
		s += "; to begin anew, remove what the Store has"
	}
	return s
}

// Unwrap returns the reason.
func (e *StateError) Unwrap() error { return e.Err }

// header is the first line of what is saved. Each other line is a saved.
const header = "smtpkit tlsrpt 1\n"

// A saved is what was counted on a day for a domain.
type saved struct {
	Day      string         `json:"day"`
	Domain   string         `json:"domain"`
	ID       string         `json:"id"`
	Due      time.Time      `json:"due,omitzero"` // zero if the day gets events
	First    time.Time      `json:"first,omitzero"`
	Wait     time.Duration  `json:"wait,omitzero"`
	Policies []PolicyReport `json:"policies"`
}

// Save saves what is counted to the Store. Run does so by itself; it is for programs that do not call Run. Without a
// Store it does nothing. The error is a [*StateError].
func (c *Collector) Save() error {
	if c.Store == nil {
		return nil
	}
	c.saving.Lock()
	defer c.saving.Unlock()
	err := c.Store.Save(func(w io.Writer) error {
		b := bufio.NewWriter(w)
		b.WriteString(header)
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		if err := c.export(enc.Encode); err != nil {
			return err
		}
		return b.Flush()
	})
	if err != nil {
		return &StateError{Op: "saving", Err: err}
	}
	return nil
}

// export calls put with all that is counted. It holds the lock for one domain at a time.
func (c *Collector) export(put func(any) error) error {
	for k, t := range c.counted() {
		if err := put(line(k, t)); err != nil {
			return err
		}
	}
	var waiting []pending
	c.out.each(func(p *pending) { waiting = append(waiting, *p) })
	for i := range waiting {
		p := &waiting[i]
		l := line(p.key, p.tally)
		l.Due, l.First, l.Wait = p.due, p.first, p.wait
		if err := put(l); err != nil {
			return err
		}
	}
	return nil
}

// counted yields what is counted on days that get events, as it is at the time.
func (c *Collector) counted() func(yield func(key, *tally) bool) {
	return func(yield func(key, *tally) bool) {
		c.mu.Lock()
		names := make(map[int64][]string)
		for n, d := range c.days {
			names[n] = slices.Collect(maps.Keys(d.domains))
		}
		c.mu.Unlock()
		for n, list := range names {
			for _, domain := range list {
				var t *tally
				c.mu.Lock()
				if d := c.days[n]; d != nil {
					t = d.domains[domain]
				}
				if t != nil {
					t = t.copy()
				}
				c.mu.Unlock()
				if t != nil && !yield(key{n, domain}, t) {
					return
				}
			}
		}
	}
}

func line(k key, t *tally) *saved {
	return &saved{
		Day: startOf(k.day).Format(time.DateOnly), Domain: k.domain, ID: strconv.FormatUint(t.id, 16),
		Policies: t.report(k.domain).Policies,
	}
}

var errHeader = errors.New("it does not begin with " + strconv.Quote(header))

// load reads what the Store has.
func (c *Collector) load(now time.Time) error {
	r, err := c.Store.Load()
	if err != nil {
		return &StateError{Op: "reading", Err: err}
	}
	if r == nil {
		return nil
	}
	defer r.Close()
	in := bufio.NewReader(r)
	first := make([]byte, len(header))
	if _, err := io.ReadFull(in, first); err != nil || string(first) != header {
		return &StateError{Op: "reading", Err: cmp.Or(err, errHeader)}
	}
	past := make(map[int64]*day)
	for dec := json.NewDecoder(in); ; {
		s := &saved{}
		err := dec.Decode(s)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = c.restore(s, past, now)
		}
		if err != nil {
			return &StateError{Op: "reading", Err: err}
		}
	}
}

// restore takes up what a line has. Past has the days whose reports are on their way.
func (c *Collector) restore(s *saved, past map[int64]*day, now time.Time) error {
	date, err := time.Parse(time.DateOnly, s.Day)
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(s.ID, 16, 64)
	if err != nil {
		return err
	}
	n, today := dayOf(date), dayOf(now)
	if !isDomain(s.Domain) || n > today || n <= today-keptDays {
		return nil
	}
	d := past[n]
	if s.Due.IsZero() {
		d = c.open(n, today)
	} else if d == nil {
		d = &day{domains: make(map[string]*tally)}
		past[n] = d
	}
	t := d.restore(s, &c.limits)
	if t == nil {
		return nil
	}
	t.id = id
	if !s.Due.IsZero() {
		c.closed = max(c.closed, n)
		c.out.put(&pending{key: key{n, s.Domain}, tally: t, due: s.Due, first: s.First, wait: s.Wait})
	}
	return nil
}

// restore counts what s has counted.
func (d *day) restore(s *saved, lim *limits) *tally {
	for i := range s.Policies {
		p := &s.Policies[i]
		e := Event{Policy: Policy{
			Type: p.Policy.Type, Domain: p.Policy.Domain, Strings: p.Policy.Strings, MXHosts: p.Policy.MXHosts,
		}}
		if !d.add(s.Domain, &e, p.Summary.Successful, lim) {
			return nil
		}
		for _, f := range p.Failures {
			e.Result, e.MXHost, e.MXHello, e.Info, e.Code = f.Result, f.MXHost, f.MXHello, f.Info, f.Code
			e.SendingIP, _ = netip.ParseAddr(f.SendingIP)
			e.ReceivingIP, _ = netip.ParseAddr(f.ReceivingIP)
			d.add(s.Domain, &e, f.Sessions, lim)
		}
	}
	return d.domains[s.Domain]
}
