package servertest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/proto/prototest"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

// A recorder is a test that notes how it fails. Its cleanups run when end is called.
type recorder struct {
	testing.TB

	mu       sync.Mutex
	errors   []string
	logs     []string
	cleanups []func()
}

// fatal is what Fatal panics with.
type fatal struct{}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) note(to *[]string, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*to = append(*to, text)
}

func (r *recorder) Error(args ...any) { r.note(&r.errors, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) {
	r.note(&r.errors, fmt.Sprintf(format, args...))
}
func (r *recorder) Log(args ...any)                 { r.note(&r.logs, fmt.Sprint(args...)) }
func (r *recorder) Logf(format string, args ...any) { r.note(&r.logs, fmt.Sprintf(format, args...)) }

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	panic(fatal{})
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(fatal{})
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errors) > 0
}

// run calls f, which may fail.
func (r *recorder) run(f func()) {
	defer func() {
		if v := recover(); v != nil && v != (fatal{}) {
			panic(v)
		}
	}()
	f()
}

// end ends the test, and returns the errors and what was logged.
func (r *recorder) end() (errors, logs string) {
	for len(r.cleanups) > 0 {
		last := len(r.cleanups) - 1
		f := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		f()
	}
	return strings.Join(r.errors, "\n"), strings.Join(r.logs, "\n")
}
