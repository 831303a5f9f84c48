//go:build !race

package hostile

const (
	// octetStep is between two octets at which a connection is broken off.
	octetStep = 1
	// idleClients is how many clients there are that say nothing.
	idleClients = 5000
	// goodMessages is how many messages a client has that behaves.
	goodMessages = 100
	// lineSize is the length of a line that never ends.
	lineSize = 10 << 20

	isRace = false
)
