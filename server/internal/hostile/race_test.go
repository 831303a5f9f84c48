//go:build race

package hostile

const (
	// octetStep is between two octets at which a connection is broken off.
	octetStep = 7
	// idleClients is how many clients there are that say nothing.
	idleClients = 1000
	// goodMessages is how many messages a client has that behaves.
	goodMessages = 20
	// lineSize is the length of a line that never ends.
	lineSize = 2 << 20
	// The detector makes everything larger.
	isRace = true
)
