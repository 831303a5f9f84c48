package client

import "math/bits"

// A queue holds what has begun and is not over, in its order. It takes no more memory than the most that it has held.
type queue[T any] struct {
	ring []T // its length is a power of two
	head int
	n    int
}

func (q *queue[T]) len() int    { return q.n }
func (q *queue[T]) first() *T   { return &q.ring[q.head] }
func (q *queue[T]) at(i int) *T { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

// grow makes room for n more.
func (q *queue[T]) grow(n int) {
	if n += q.n; n <= len(q.ring) {
		return
	}
	bigger := make([]T, 1<<bits.Len(uint(max(8, n)-1)))
	first := copy(bigger, q.ring[q.head:])
	copy(bigger[first:], q.ring[:q.head])
	q.ring, q.head = bigger, 0
}

func (q *queue[T]) push(e T) {
	q.grow(1)
	q.n++
	*q.at(q.n - 1) = e
}

func (q *queue[T]) pop() {
	var zero T
	*q.first() = zero
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
}

// shrink lets go of a large queue that is empty.
func (q *queue[T]) shrink() {
	const idle = 64
	if q.n == 0 && len(q.ring) > idle {
		*q = queue[T]{}
	}
}
