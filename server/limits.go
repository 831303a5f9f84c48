package server

import "time"

// The defaults of the limits in Options, and the bounds that are not options. RFC 5321 section 4.5.3.1 has the least
// that a server must be able to take.
const (
	// defaultMessageSize is several times what the large mail providers let through.
	defaultMessageSize = 64 << 20
	// defaultRcpts is Postfix's; RFC 5321 section 4.5.3.1.8 demands 100.
	defaultRcpts = 1000
	// defaultConns keeps well below the 1024 files that a process may open on many systems.
	defaultConns        = 1000
	defaultConnsPerHost = 100
	// defaultErrors is Postfix's smtpd_hard_error_limit.
	defaultErrors       = 20
	defaultRefusedRcpts = 100
	defaultJunk         = 1000

	// defaultCommandTimeout is that of RFC 5321 section 4.5.3.2.7.
	defaultCommandTimeout   = 5 * time.Minute
	defaultContentTimeout   = 5 * time.Minute
	defaultWriteTimeout     = 5 * time.Minute
	defaultHandshakeTimeout = time.Minute
	defaultMinRate          = 100
	defaultMinRateGrace     = 10 * time.Minute

	// maxPending is how many octets of replies are collected before they are written, whether or not there is more
	// input: what a client that never reads can make us hold.
	maxPending = 64 << 10
	// maxDrain is how much of a message that nobody reads is passed over, where Limits.MessageSize is no bound.
	maxDrain = 64 << 20
	// minDrain is how much is passed over at least, however small Limits.MessageSize is.
	minDrain = 1 << 20
	// A message may come in freeChunks chunks, and one more for each octetsPerChunk octets in them. Chunks that are
	// smaller than that on the average are an attack on the processor.
	freeChunks     = 1000
	octetsPerChunk = 1 << 10
	// contentBuffer is the size of the buffer lent to a connection while it transfers content.
	contentBuffer = 64 << 10
	// fetchBuffer is how much is read at once of content that does not come from the client.
	fetchBuffer = 32 << 10
	// maxHello bounds the argument of EHLO (RFC 5321 section 4.5.3.1.2).
	maxHello = 255

	// readAheadDelay is how long a session may take before the connection is watched for the client hanging up.
	readAheadDelay = 100 * time.Millisecond
	// maxReadAhead is how much a client may send meanwhile. A client that has sent more is not watched.
	maxReadAhead = 512

	// shutdownGrace is how long after the beginning of Shutdown a client may go on with a transaction before content has to
	// come. Content that comes may take as long as it takes.
	shutdownGrace = 30 * time.Second

	// acceptDelay and acceptDelayMax bound the pause after an error of Accept.
	acceptDelay    = 5 * time.Millisecond
	acceptDelayMax = time.Second
	// refuseTimeout is how long the reply to a connection that is one too many may take to write.
	refuseTimeout = 5 * time.Second
	// A connection that is closed while the client still sends would be reset, and the last reply lost with it. So
	// the server goes on reading for lingerTimeout or lingerOctets, whichever comes first.
	lingerTimeout = time.Second
	lingerOctets  = 1 << 20
)
