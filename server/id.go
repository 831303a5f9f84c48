package server

import (
	"crypto/rand"
	"encoding/base32"
	"strconv"
	"sync/atomic"
)

// An ids numbers things, and has names for the numbers that are unique beyond this process.
type ids struct {
	prefix string
	last   atomic.Uint64
}

// connIDs numbers the connections of this process.
var connIDs = newIDs()

func newIDs() *ids {
	var b [5]byte
	_, _ = rand.Read(b[:]) // which never fails
	return &ids{prefix: base32.HexEncoding.EncodeToString(b[:])}
}

func (i *ids) next() uint64 { return i.last.Add(1) }

// name returns the name of number n: the first letters are the same in all of a process.
func (i *ids) name(n uint64) string { return i.prefix + "-" + strconv.FormatUint(n, 36) }
