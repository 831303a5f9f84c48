package main

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that tests can wait for.
type lines struct {
	mu    sync.Mutex
	text  []string
	grown chan struct{} // closed when there is more
}

func newLines() *lines { return &lines{grown: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		l.text = append(l.text, line)
	}
	close(l.grown)
	l.grown = make(chan struct{})
	return len(p), nil
}

// wait waits until so many lines match, and returns the last of them.
func (l *lines) wait(t *testing.T, n int, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		found, last, grown := 0, "", l.grown
		for _, line := range l.text {
			if re.MatchString(line) {
				found, last = found+1, line
			}
		}
		text := strings.Join(l.text, "")
		l.mu.Unlock()
		if found >= n {
			return last
		}
		select {
		case <-grown:
		case <-limit:
			t.Fatalf("the log has %d of %d lines %q:\n%s", found, n, pattern, text)
		}
	}
}

// none fails if a line has a text.
func (l *lines) none(t *testing.T, text string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if all := strings.Join(l.text, ""); strings.Contains(all, text) {
		t.Errorf("the log has %q:\n%s", text, all)
	}
}
