package policy_test

import (
	"bufio"
	"io"
	"strings"
)

// A replies reads the replies of a server.
type replies struct{ r *bufio.Reader }

func newReplies(r io.Reader) *replies { return &replies{bufio.NewReader(r)} }

// next returns the last line of the next reply.
func (r *replies) next() string {
	for {
		line, err := r.r.ReadString('\n')
		if err != nil || len(line) > 3 && line[3] == ' ' {
			return strings.TrimSpace(line)
		}
	}
}
