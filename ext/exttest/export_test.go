package exttest

import (
	"testing"
	"time"
)

// SetPatience has functions that do not return found sooner, until the end of the test.
func SetPatience(t *testing.T, d time.Duration) {
	before := patience
	patience = d
	t.Cleanup(func() { patience = before })
}
