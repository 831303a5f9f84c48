//go:build !race

package hostile

// octetStep is between two octets at which a connection is broken off.
const octetStep = 1
