package crashfs

import (
	"hash/maphash"
	"iter"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
)

// An Image is what a machine may find after a loss of power.
type Image struct {
	// Moment is when the power was lost: after so many changes and syncs of the log.
	Moment int
	// How says what is left of what was not synced.
	How string
	// FS is the file system, for one process.
	FS *FS
}

// Images makes the file systems that may be found after a loss of power at each moment from the first on. Of the
// changes that were not synced then, there are: none; all; all but one; one alone; all up to one; and, as often as
// random says, any. The last write may have written only some of its sectors, of 512 octets, or only have made the file
// longer. There are no two equal images of a moment.
func (f *FS) Images(first, random int, rng *rand.Rand) iter.Seq[Image] {
	return func(yield func(Image) bool) {
		d := f.disk
		d.mu.Lock()
		log := slices.Clone(d.log)
		p := newPlatter(d.start)
		d.mu.Unlock()
		for moment := 0; ; moment++ {
			if moment >= first && !p.images(moment, random, rng, yield) {
				return
			}
			if moment == len(log) {
				return
			}
			p.add(log[moment])
		}
	}
}

// A platter is what is durable at a moment, and what is not yet.
type platter struct {
	names   map[string]*node
	data    map[*node][]byte
	pending []change
	seed    maphash.Seed
}

func newPlatter(start map[string]*node) *platter {
	p := &platter{names: maps.Clone(start), data: map[*node][]byte{}, seed: maphash.MakeSeed()}
	for _, n := range start {
		p.data[n] = n.base
	}
	return p
}

// add adds a change, or makes changes durable.
func (p *platter) add(c change) {
	var covers func(*change) bool
	switch c.kind {
	case syncFile:
		covers = func(o *change) bool { return o.kind == write && o.node == c.node }
	case syncDir:
		covers = func(o *change) bool { return o.kind != write && path.Dir(o.name) == c.name }
	case syncAll:
		covers = func(*change) bool { return true }
	default:
		p.pending = append(p.pending, c)
		return
	}
	p.pending = slices.DeleteFunc(p.pending, func(o change) bool {
		if covers(&o) {
			o.to(p.names, p.data)
			return true
		}
		return false
	})
}

// to makes the change.
func (c *change) to(names map[string]*node, data map[*node][]byte) {
	switch c.kind {
	case link:
		names[c.name] = c.node
	case unlink:
		delete(names, c.name)
	case write:
		data[c.node] = c.apply(data[c.node])
	}
}

// images yields the images of a moment.
func (p *platter) images(moment, random int, rng *rand.Rand, yield func(Image) bool) bool {
	seen := map[uint64]bool{}
	try := func(how string, keep func(i int) bool, torn *change) bool {
		fs := p.image(keep, torn)
		if sum := fs.sum(p.seed); !seen[sum] {
			seen[sum] = true
			return yield(Image{moment, how, fs})
		}
		return true
	}
	n := len(p.pending)
	all := func(int) bool { return true }
	if !try("nothing", func(int) bool { return false }, nil) || !try("everything", all, nil) {
		return false
	}
	for k := range n {
		if !try("all but one", func(i int) bool { return i != k }, nil) ||
			!try("one", func(i int) bool { return i == k }, nil) ||
			!try("the first", func(i int) bool { return i <= k }, nil) {
			return false
		}
	}
	if n > 0 && p.pending[n-1].kind == write {
		for _, torn := range tear(p.pending[n-1], rng) {
			if !try("a torn write", func(i int) bool { return i < n-1 }, &torn) {
				return false
			}
		}
	}
	for range random {
		bits := rng.Uint64()
		var torn *change
		if n > 0 && rng.IntN(4) == 0 {
			if c := p.pending[rng.IntN(n)]; c.kind == write {
				torn = &tear(c, rng)[0]
			}
		}
		if !try("some", func(i int) bool { return bits>>(i%64)&1 != 0 }, torn) {
			return false
		}
	}
	return true
}

const sector = 512

// tear returns what may be left of a write: any of its sectors, none, the first ones, and the last ones, from each on.
// A sector that was not written is zero, or what it was.
func tear(c change, rng *rand.Rand) []change {
	part := func(keep func(i int) bool) change {
		out := c
		out.data = slices.Clone(c.data)
		for i := range out.data {
			if !keep((c.off+i)/sector - c.off/sector) {
				out.data[i] = 0
			}
		}
		return out
	}
	sectors := (c.off+len(c.data)-1)/sector - c.off/sector + 1
	bits := rng.Uint64()
	torn := []change{
		part(func(i int) bool { return bits>>(i%64)&1 != 0 }),
		part(func(int) bool { return false }),
	}
	for cut := 1; cut < sectors; cut++ {
		if sectors > 8 && rng.IntN(sectors) >= 8 {
			continue // some of many
		}
		head := c
		head.data = c.data[:cut*sector-c.off%sector]
		torn = append(torn, head, part(func(i int) bool { return i >= cut }))
	}
	return torn
}

// image makes the file system of what is durable, and of those pending changes that keep chooses, and then torn.
func (p *platter) image(keep func(i int) bool, torn *change) *FS {
	names, data := maps.Clone(p.names), maps.Clone(p.data)
	for i := range p.pending {
		if keep(i) {
			p.pending[i].to(names, data)
		}
	}
	if torn != nil {
		torn.to(names, data)
	}
	fs := New()
	nodes := map[*node]*node{}
	for name, n := range names {
		copied := nodes[n]
		if copied == nil {
			copied = &node{dir: n.dir, data: data[n], base: data[n]}
			nodes[n] = copied
		}
		fs.disk.names[name], fs.disk.start[name] = copied, copied
	}
	return fs
}

// sum returns a sum of all names and contents.
func (f *FS) sum(seed maphash.Seed) (sum uint64) {
	var h maphash.Hash
	for name, n := range f.disk.names {
		h.SetSeed(seed)
		_, _ = h.WriteString(name)
		_ = h.WriteByte(0)
		_, _ = h.Write(n.data)
		sum += h.Sum64()
	}
	return sum
}
