package server

import "time"

// The defaults of Limits and Timeouts, and the bounds that are not options. RFC 5321 section 4.5.3.1 says how much a
// server has to accept at least.
const (
	// defaultMessageSize is several times what the large mail providers accept.
	defaultMessageSize = 64 << 20
	// defaultRcpts is Postfix's. RFC 5321 section 4.5.3.1.8 demands 100.
	defaultRcpts = 1000
	// defaultConns is below the 1024 files that many systems let a process open.
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

	// maxPending is how many octets of replies are collected before they are written, even if there is more input. It
	// bounds what a client that never reads makes us hold.
	maxPending = 64 << 10
	// maxDrain is how many octets of unwanted content are skipped if Limits.MessageSize is no limit.
	maxDrain = 64 << 20
	// minDrain is how many octets are skipped at least, however small Limits.MessageSize is.
	minDrain = 1 << 20
	// A message may come in freeChunks chunks, and in one more for each octetsPerChunk octets. A client whose chunks are
	// smaller on average attacks the processor.
	freeChunks     = 1000
	octetsPerChunk = 1 << 10
	// contentBuffer is the size of the buffer that a connection borrows while it receives content, and commandBuffer of
	// the one that it borrows while it receives commands: enough for a group of them.
	contentBuffer = 64 << 10
	commandBuffer = 4 << 10
	// restBuffer is the size of its own buffer, in which it waits for the first octets after a rest.
	restBuffer = 32
	// restDelay is how long a client may be silent before the connection rests; see rest. It is longer than the round
	// trip to most clients, so that a client that works does not wake a connection that rests.
	restDelay = 100 * time.Millisecond
	// holdDelay is how long replies wait to be written if more has most likely arrived.
	holdDelay = 10 * time.Millisecond
	// fetchBuffer is how many octets are read at once of content that an extension fetches.
	fetchBuffer = 32 << 10
	// maxHello is the longest argument of EHLO (RFC 5321 section 4.5.3.1.2).
	maxHello = 255

	// readAheadDelay is how long a session may take before the server reads ahead, to notice that the client hangs up.
	readAheadDelay = 100 * time.Millisecond
	// maxReadAhead is how many octets it reads ahead. If the client has sent more, a hang-up goes unnoticed.
	maxReadAhead = 512

	// halfCloseGrace is how long the work on each command may go on after the client has shut its direction down. No
	// client waits longer for a reply (RFC 5321 section 4.5.3.2.6).
	halfCloseGrace = 10 * time.Minute

	// maxGreetingDelay is well below the 5 minutes for which clients wait for the greeting (RFC 5321 section 4.5.3.2.1).
	maxGreetingDelay = time.Minute
	// earlyDelay is how long a client that talks early waits with DelayEarly.
	earlyDelay = 10 * time.Second

	// shutdownGrace is how long after the beginning of Shutdown content has to begin to arrive in an open transaction. It
	// may then take as long as usual.
	shutdownGrace = 30 * time.Second

	// acceptDelay and maxAcceptDelay bound the pause after an error of Accept.
	acceptDelay    = 5 * time.Millisecond
	maxAcceptDelay = time.Second
	// refuseTimeout is how long writing the reply to a connection that is one too many may take.
	refuseTimeout = 5 * time.Second
	// TCP resets a connection that is closed while the client still sends, and the last reply is lost with it. So the
	// server reads on for lingerTimeout or lingerOctets, whichever is over first.
	lingerTimeout = time.Second
	lingerOctets  = 1 << 20
)
