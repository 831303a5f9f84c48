package queue

import (
	"slices"
	"time"
)

// A dest is a leased destination. The lock of the scheduler guards it.
type dest struct {
	lease    Lease
	site     *site // nil until it is known
	waiting  [Lanes]int
	busy     int         // attempts, updates and adds under way
	more     [Lanes]bool // the store may have due jobs that are not in memory
	alarms   bool        // the store may have jobs whose alarm has come
	filling  bool
	hungry   bool          // there was no room in memory for its jobs
	onDemand bool          // its mail waits to be fetched
	stale    bool          // jobs in memory may have been changed by an operator
	leaving  bool          // it is released when it is not busy any more
	ending   bool          // it is being released
	until    time.Time     // notBefore of the release
	checked  time.Time     // when more was last set for all lanes
	idle     time.Time     // since when there is nothing to do; zero if there is
	gone     chan struct{} // closed when the lease has ended
}

// waits returns how many jobs wait in memory.
func (d *dest) waits() (n int) {
	for _, w := range d.waiting {
		n += w
	}
	return n
}

// wantsMore reports whether the store may have something to do. isShortOf reports whether jobs of a lane have to be
// read, and isShort whether there is anything to read.
func (d *dest) wantsMore() bool { return d.alarms || slices.Contains(d.more[:], true) }

func (d *dest) isShortOf(l Lane) bool { return d.more[l] && d.waiting[l] < loadBatch/2 }

func (d *dest) isShort() bool {
	for l := range Lane(Lanes) {
		if d.isShortOf(l) {
			return true
		}
	}
	return d.alarms
}

// expect says that the store may have anything.
func (d *dest) expect(now time.Time) {
	d.checked, d.alarms = now, true
	for i := range d.more {
		d.more[i] = true
	}
}

// takesNew reports whether a new job can go into memory without being read from the store, as far as d is concerned.
func (d *dest) takesNew(l Lane) bool {
	return !d.leaving && !d.onDemand && d.site != nil && !d.more[l] && d.waiting[l] < maxLane
}
