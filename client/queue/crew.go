package queue

// A crew is the goroutines that have made an attempt and rest until there is another one: their stacks are deep enough
// for it already. The lock of the scheduler guards it.
type crew struct {
	resting []chan<- *item
}

// hand gives an item to a goroutine that rests. It reports false if there is none.
func (c *crew) hand(it *item) bool {
	last := len(c.resting) - 1
	if last < 0 {
		return false
	}
	c.resting[last] <- it
	c.resting = c.resting[:last]
	return true
}

// rest has a goroutine wait for an item, which it gets by next: it has room for one. Nil says that it has to end.
func (c *crew) rest(next chan<- *item) { c.resting = append(c.resting, next) }

// dismiss ends the goroutines that rest.
func (c *crew) dismiss() {
	for _, next := range c.resting {
		close(next)
	}
	c.resting = nil
}
