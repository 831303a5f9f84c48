package queue

// A fifo is a line: what was pushed first is popped first. It takes no memory while as many are pushed as are popped.
// The zero value is empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int    { return len(f.items) - f.head }
func (f *fifo[T]) first() T    { return f.items[f.head] }
func (f *fifo[T]) at(i int) *T { return &f.items[f.head+i] }

func (f *fifo[T]) push(v T) {
	if f.head > 0 && f.head*2 >= len(f.items) && len(f.items) == cap(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

func (f *fifo[T]) pop() T {
	var zero T
	v := f.items[f.head]
	f.items[f.head] = zero
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return v
}

// remove takes out the items for which gone returns true, and appends them to out.
func (f *fifo[T]) remove(out []T, gone func(T) bool) []T {
	kept := f.items[:0]
	for _, v := range f.items[f.head:] {
		if gone(v) {
			out = append(out, v)
		} else {
			kept = append(kept, v)
		}
	}
	clear(f.items[len(kept):])
	f.items, f.head = kept, 0
	return out
}
