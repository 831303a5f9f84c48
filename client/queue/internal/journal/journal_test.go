package journal_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"smtpkit.example/smtp/client/queue/internal/journal"
	"smtpkit.example/smtp/client/queue/internal/vfs"
	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

var small = journal.Options{SegmentSize: 2048, Segments: 3, Grow: 512}

// A user has a journal whose records have a number and some octets more.
type user struct {
	*journal.Journal
	replayed []uint64
	marks    map[uint64]journal.Mark
	synced   int // calls of Options.Sync
}

func open(t testing.TB, disk vfs.FS, opt journal.Options) *user {
	t.Helper()
	u := &user{marks: map[uint64]journal.Mark{}}
	opt.Sync = func() error {
		u.synced++
		return nil
	}
	var err error
	u.Journal, err = journal.Open(disk, opt, func(record []byte, m journal.Mark) error {
		n := binary.BigEndian.Uint64(record[journal.HeaderSize:])
		u.replayed = append(u.replayed, n)
		u.marks[n] = m
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func record(n uint64, size int) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, journal.HeaderSize), n)
	for i := range size {
		b = append(b, byte(n)+byte(i))
	}
	return b
}

func (u *user) append(n uint64, size int, urgent bool) error {
	m, err := u.Append(record(n, size), urgent)
	if err == nil {
		u.marks[n] = m
	}
	return err
}

func (u *user) settle(n uint64) {
	u.Settle(u.marks[n])
	delete(u.marks, n)
}

func segments(t *testing.T, disk *crashfs.FS) (names []string) {
	t.Helper()
	for name := range disk.Files() {
		if !journal.IsName(name) {
			t.Errorf("there is a file %q", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Records outlive a process until they are settled, and a journal of which all are leaves no files.
func TestReplay(t *testing.T) {
	disk := crashfs.New()
	next, from := uint64(0), uint64(0)
	for life := range 4 {
		u := open(t, disk, journal.Options{SegmentSize: 2048, Segments: 100, Grow: 512})
		// Of what is settled, some may come again.
		if first := next - uint64(len(u.replayed)); first > from {
			t.Fatalf("life %d: %d were replayed, want all from %d to %d", life, u.replayed, from, next)
		}
		for i, n := range u.replayed {
			if n != next-uint64(len(u.replayed)-i) {
				t.Fatalf("life %d: %d were replayed, want the last ones of %d", life, u.replayed, next)
			}
		}
		for range 30 {
			must(t, u.append(next, int(next)%400, false))
			next++
		}
		for range 5 {
			u.settle(from)
			from++
		}
		disk = disk.Kill()
	}
	u := open(t, disk, small)
	for n, m := range u.marks {
		b, err := u.Read(m)
		if err != nil || binary.BigEndian.Uint64(b[journal.HeaderSize:]) != n || len(b) != len(record(n, int(n)%400)) {
			t.Errorf("record %d is read as %q, %v", n, b, err)
		}
		u.settle(n)
	}
	must(t, u.Close(false))
	if names := segments(t, disk); len(names) > 0 || u.synced == 0 {
		t.Errorf("after Close there are %q; %d syncs", names, u.synced)
	}
	if err := u.append(next, 10, true); err == nil || len(segments(t, disk)) > 0 {
		t.Errorf("Append after Close: %v, and there are %q", err, segments(t, disk))
	}
	if u := open(t, disk, small); len(u.replayed) > 0 {
		t.Errorf("%d were replayed of a journal that is gone", u.replayed)
	}
}

// A journal that is full takes only what is urgent, and its segments are used again when they are settled.
func TestFull(t *testing.T) {
	disk := crashfs.New()
	u := open(t, disk, small)
	n := uint64(0)
	for ; ; n++ {
		if err := u.append(n, 300, false); err == journal.ErrFull {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n != 12 { // of 324 octets, 4 in each segment beside its block
		t.Errorf("%d records fit", n)
	}
	for range 8 {
		must(t, u.append(n, 300, true))
		n++
	}
	if names := segments(t, disk); len(names) != 5 {
		t.Errorf("the segments are %q, want two beyond those that should be", names)
	}
	must(t, u.Reclaim()) // nothing is settled
	if err := u.append(n, 300, false); err != journal.ErrFull || u.Pressed() {
		t.Errorf("Append: %v, Pressed: %t", err, u.Pressed())
	}
	if !u.Presses(u.marks[0]) || u.Presses(u.marks[n-1]) {
		t.Error("only what is in full segments presses")
	}
	for i := range n - 4 {
		u.settle(i)
	}
	if !u.Pressed() {
		t.Error("there is a reason for Reclaim")
	}
	must(t, u.Reclaim())
	if names := segments(t, disk); len(names) != 3 || u.synced != 1 {
		t.Errorf("the segments are %q, want 3; %d syncs of the files, want 1", names, u.synced)
	}
	for range 8 {
		must(t, u.append(n, 300, false))
		n++
	}
	b, err := u.Read(u.marks[n-1])
	if err != nil || string(b[journal.HeaderSize:]) != string(record(n-1, 300)[journal.HeaderSize:]) {
		t.Errorf("Read: %q, %v", b, err)
	}
	if names := segments(t, disk); len(names) != 3 {
		t.Errorf("the segments are %q, want 3", names)
	}
	if again := open(t, disk.Kill(), small); len(again.replayed) != 12 || again.replayed[0] != n-12 {
		t.Errorf("%d were replayed, want the last 12 of %d", again.replayed, n)
	}
}

// A record larger than a segment has one for itself.
func TestLargeRecord(t *testing.T) {
	disk := crashfs.New()
	u := open(t, disk, small)
	for n, size := range []int{10, 10_000, 10, 3000} {
		must(t, u.append(uint64(n), size, false))
		u.settle(uint64(n))
		must(t, u.Reclaim())
	}
	must(t, u.append(4, 10_000, false))
	must(t, u.SyncAll())
	again := open(t, disk.Kill(), small)
	if len(again.replayed) == 0 || again.replayed[len(again.replayed)-1] != 4 {
		t.Errorf("%d were replayed, want up to 4", again.replayed)
	}
}

// A crashUser appends, settles, and has segments used again and removed, and knows what was promised.
type crashUser struct {
	disk  *crashfs.FS
	alive *crashfs.FS
	// begun and synced say from which moment on a record may be there, and has to be; settled, from which on it need not.
	begun, synced, settled []int
	rng                    *rand.Rand
}

func (c *crashUser) life(t *testing.T, steps int) {
	u := open(t, c.alive, small)
	unsynced := []uint64{}
	for _, n := range u.replayed {
		if c.settled[n] == 0 {
			unsynced = append(unsynced, n) // Open has synced it
		}
	}
	durable := func() {
		for _, n := range unsynced {
			if c.synced[n] == 0 {
				c.synced[n] = c.disk.Moment()
			}
		}
		unsynced = nil
	}
	durable()
	for range steps {
		switch c.rng.IntN(6) {
		case 0, 1, 2:
			n := uint64(len(c.begun))
			c.begun, c.synced, c.settled = append(c.begun, c.disk.Moment()), append(c.synced, 0), append(c.settled, 0)
			err := u.append(n, c.rng.IntN(700), c.rng.IntN(4) == 0)
			if err == nil {
				unsynced = append(unsynced, n)
			} else if err != journal.ErrFull {
				t.Fatal(err)
			}
		case 3:
			must(t, u.SyncAll())
			durable()
		case 4:
			for n := range u.marks {
				if c.rng.IntN(3) > 0 {
					u.settle(n)
					c.settled[n] = c.disk.Moment()
				}
			}
		case 5:
			must(t, u.Reclaim())
		}
	}
	if c.rng.IntN(2) == 0 {
		for n := range u.marks {
			u.settle(n)
			c.settled[n] = c.disk.Moment()
		}
		must(t, u.Close(false))
	}
}

// check opens the journal as a loss of power has left it. What was synced and is not settled is there, in order, and
// behind each record that is there are all that were synced later.
func (c *crashUser) check(t *testing.T, img crashfs.Image) error {
	u := open(t, img.FS, small)
	if !slices.IsSorted(u.replayed) {
		return fmt.Errorf("replayed in the order %d", u.replayed)
	}
	there := map[uint64]bool{}
	for _, n := range u.replayed {
		if c.begun[n] > img.Moment || there[n] {
			return fmt.Errorf("%d comes from nowhere: %d", n, u.replayed)
		}
		there[n] = true
	}
	for n := range c.synced {
		synced := c.synced[n] > 0 && c.synced[n] <= img.Moment
		settled := c.settled[n] > 0 && c.settled[n] <= img.Moment
		if synced && !there[uint64(n)] && (!settled || len(u.replayed) > 0 && u.replayed[0] < uint64(n)) {
			return fmt.Errorf("record %d is missing of %d; settled: %t", n, u.replayed, settled)
		}
	}
	return nil
}

func TestCrash(t *testing.T) {
	images := 0
	for seed := range uint64(12) {
		c := &crashUser{disk: crashfs.New(), rng: rand.New(rand.NewPCG(seed, 1))}
		c.alive = c.disk
		for range 3 {
			c.life(t, 25)
			c.alive = c.alive.Kill()
		}
		for img := range c.disk.Images(0, 3, c.rng) {
			images++
			if err := c.check(t, img); err != nil {
				t.Fatalf("seed %d, power lost at moment %d, %s left of what was not synced: %v", seed, img.Moment, img.How, err)
			}
		}
	}
	t.Logf("%d images", images)
}

// Syncs are shared: each covers all that was noted before it, and none is made that is not needed.
func TestGroup(t *testing.T) {
	var syncs, running atomic.Int64
	var noted sync.Map
	g := journal.Group{Sync: func() error {
		if running.Add(1) != 1 {
			t.Error("two syncs at once")
		}
		syncs.Add(1)
		running.Add(-1)
		return nil
	}}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 200 {
				n := g.Note()
				noted.Store([2]int{i, k}, n)
				if err := g.Wait(n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	made := syncs.Load()
	if made == 0 || made > 1600 || !g.Clean() {
		t.Errorf("%d syncs, clean: %t", made, g.Clean())
	}
	must(t, g.WaitAll())
	must(t, g.Wait(1))
	if syncs.Load() != made {
		t.Error("a sync that was not needed")
	}
}

// What is noted while a sync is under way is not covered by it.
func TestGroupMeanwhile(t *testing.T) {
	var g journal.Group
	syncs, meanwhile := 0, uint64(0)
	g.Sync = func() error {
		if syncs++; syncs == 1 {
			meanwhile = g.Note()
		}
		return nil
	}
	must(t, g.Wait(g.Note()))
	if syncs != 1 || g.Clean() {
		t.Errorf("%d syncs, clean: %t", syncs, g.Clean())
	}
	must(t, g.Wait(meanwhile))
	if syncs != 2 || !g.Clean() {
		t.Errorf("%d syncs, clean: %t", syncs, g.Clean())
	}
}

// FuzzOpen opens a journal whose segments have any content behind their blocks. It never fails, and what it replays is
// what was appended.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add(record(3, 10), 512)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 516)
	f.Fuzz(func(t *testing.T, damage []byte, at int) {
		disk := crashfs.New()
		u := open(t, disk, small)
		for n := range uint64(9) {
			must(t, u.append(n, 200, false))
		}
		damaged := crashfs.New()
		for name, b := range disk.Files() {
			if name == "journal.2" {
				copy(b[min(512+uint(at)%1500, uint(len(b))):], damage)
			}
			damaged.Put(name, b)
		}
		u = open(t, damaged, small)
		for i, n := range u.replayed {
			if n != uint64(i) {
				t.Errorf("replayed %d", u.replayed)
			}
		}
		if len(u.replayed) < 6 {
			t.Errorf("replayed %d, want all of the first segment", u.replayed)
		}
		must(t, u.append(100, 10, true))
	})
}
