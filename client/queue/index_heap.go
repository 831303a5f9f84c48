package queue

// An order says which of two items comes first in a heap, and lets an item know its place there. It is a type without
// fields, so that a heap costs no more than its slice.
type order[T any] interface {
	before(a, b T) bool
	place(x T, at int)
}

// A heap is a binary heap whose items know their places, so that any of them can be removed in logarithmic time.
type heap[T any, O order[T]] []T

func (h *heap[T, O]) push(x T) {
	*h = append(*h, x)
	h.up(len(*h) - 1)
}

// remove takes out the item at a place. The slice shrinks with what it holds.
func (h *heap[T, O]) remove(at int) {
	var none T
	last := len(*h) - 1
	moved := (*h)[last]
	(*h)[last] = none
	*h = shrink((*h)[:last])
	if at < last {
		(*h)[at] = moved
		h.fix(at)
	}
}

// fix moves the item at a place, whose key has changed, to where it belongs.
func (h *heap[T, O]) fix(at int) {
	h.up(h.down(at))
}

func (h *heap[T, O]) up(at int) {
	var o O
	items := *h
	x := items[at]
	for at > 0 {
		parent := (at - 1) / 2
		if !o.before(x, items[parent]) {
			break
		}
		items[at] = items[parent]
		o.place(items[at], at)
		at = parent
	}
	items[at] = x
	o.place(x, at)
}

// down returns the place where the item is then.
func (h *heap[T, O]) down(at int) int {
	var o O
	items := *h
	x := items[at]
	for {
		child := 2*at + 1
		if child >= len(items) {
			break
		}
		if right := child + 1; right < len(items) && o.before(items[right], items[child]) {
			child = right
		}
		if !o.before(items[child], x) {
			break
		}
		items[at] = items[child]
		o.place(items[at], at)
		at = child
	}
	items[at] = x
	o.place(x, at)
	return at
}

// shrink returns s in less memory if it uses a small part of what it has.
func shrink[S ~[]E, E any](s S) S {
	if cap(s) < 64 || len(s) > cap(s)/4 {
		return s
	}
	return append(make(S, 0, cap(s)/2), s...)
}

// byDue orders the jobs of one lane: those that are due first, and of these the oldest.
type byDue struct{}

func (byDue) before(a, b *indexJob) bool {
	if a.due != b.due {
		return a.due < b.due
	}
	return a.compare(b) < 0
}

func (byDue) place(j *indexJob, at int) { j.at = int32(at) }

// byAlarm orders jobs by Alarm.
type byAlarm struct{}

func (byAlarm) before(a, b *indexJob) bool { return a.alarm < b.alarm }
func (byAlarm) place(j *indexJob, at int)  { j.alarmAt = int32(at) }

// byWake orders destinations by the time at which they have to be woken.
type byWake struct{}

func (byWake) before(a, b *destination) bool {
	if a.wake != b.wake {
		return a.wake < b.wake
	}
	return a.name < b.name
}

func (byWake) place(d *destination, at int) { d.at = int32(at) }

// A jobBag is a set of jobs without order. A job in it knows its place.
type jobBag []*indexJob

func (b *jobBag) add(j *indexJob) {
	j.at = int32(len(*b))
	*b = append(*b, j)
}

func (b *jobBag) remove(j *indexJob) {
	last := len(*b) - 1
	moved := (*b)[last]
	(*b)[last] = nil
	*b = shrink((*b)[:last])
	if moved != j {
		(*b)[j.at] = moved
		moved.at = j.at
	}
}
