package servertest

import (
	"bytes"
	"runtime"
)

// inBubble reports whether it is called in a bubble of testing/synctest: the head of the
// goroutine's stack tells.
func inBubble() bool {
	head := make([]byte, 200)
	head, _, _ = bytes.Cut(head[:runtime.Stack(head, false)], []byte("\n"))
	return bytes.Contains(head, []byte("synctest"))
}
