package server

import (
	"runtime"
	"runtime/debug"
)

// apart calls f in a goroutine of its own, waits for it, and returns what it returns. It is for work that needs a large
// stack once, such as a TLS handshake: the stack of the goroutine that waits stays as it is, and a connection keeps its
// own for ever. If f panics or calls runtime.Goexit, so does apart.
func apart(f func() error) error {
	var err error
	var failed crash
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				failed = crash{v, debug.Stack()}
			}
		}()
		err = f()
		returned = true
	}()
	<-done
	switch {
	case returned:
		return err
	case failed.value != nil:
		panic(failed)
	}
	runtime.Goexit()
	return nil
}

// A crash is what apart panics with when f has panicked.
type crash struct {
	value any
	stack []byte // of the goroutine of f
}
