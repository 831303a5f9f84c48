package server

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Limits bound what a client may send. Zero is the default that the comment names; a negative value is no limit, except
// for Rcpts.
type Limits struct {
	// MessageSize is the size of the largest message accepted, in octets of content. Larger ones are refused with 552.
	// Default 64 MiB.
	MessageSize int64
	// HeaderSize is the size of the largest header of a message, in octets, and HeaderFields is how many fields it may
	// have. Larger headers are refused with 552 5.3.4, and more fields with 554 5.6.0. Defaults 1 MiB and 1000.
	HeaderSize   int64
	HeaderFields int
	// Received is how many Received fields a message may have. One with more goes round in circles, and is refused with
	// 554 5.4.6 (RFC 5321 section 6.3). Default 100.
	Received int
	// LineLength is the length of the longest line of a message, in octets with CRLF. Messages with longer ones are
	// refused with 554 5.6.0, unless they are declared as binary. No client may send lines longer than 1000 (RFC 5321
	// section 4.5.3.1.6), and many do. Default: no limit.
	LineLength int
	// Rcpts is how many recipients a transaction may have. More are refused with 452, and the client sends to them in
	// another transaction (RFC 5321 section 4.5.3.1.10). It should be at least 100, and must not be negative. Default
	// 1000.
	Rcpts int
	// Mails is how many MAIL commands a client may send in a session, those refused among them. The extension LIMITS
	// states it as MAILMAX (RFC 9422), and one more is answered 421 4.7.0, which ends the connection. Default 1000.
	Mails int
	// Conns is how many connections there may be at a time. More are refused with 421. Default 1000.
	Conns int
	// ConnsPerHost is how many of them may come from one network, which by default is one IPv4 address, or one /64 of IPv6
	// addresses. More are refused with 421. Default 100.
	ConnsPerHost int
	// IPv4Prefix and IPv6Prefix are how many leading bits of an address make its network. They must not be negative.
	// Defaults 32 and 64.
	IPv4Prefix, IPv6Prefix int
	// ConnsPerMinute is how many connections a network may make in a minute. It may make them all at once; then it gets
	// one back at a time. More are refused with 421 4.7.0. Default 200.
	ConnsPerMinute int
	// MessagesPerMinute is how many MAIL commands a network may send in a minute, likewise, whether they are accepted or
	// not. More are refused with 450 4.7.1. Default 1000.
	MessagesPerMinute int
	// AuthFailuresPerHour is how many attempts to authenticate may be denied to a network in an hour, likewise. After
	// that, AUTH is refused with 454 4.7.0 before any credentials are looked at. Default 100.
	AuthFailuresPerHour int
	// Handshakes is how many TLS handshakes may be under way at a time. One more waits for 10 seconds. Then STARTTLS is
	// refused with 454 4.7.0, and a connection that begins with TLS is closed. Default 250.
	Handshakes int
	// Memory is how many octets all connections together may hold, as the server counts: 16 KiB for a connection, and 40
	// KiB more with TLS; 112 KiB for a transaction, whatever the size of the message, and some 300 octets for each
	// recipient; and replies that the client does not read. What sessions hold is not counted. Beyond it, connections get
	// 421, MAIL and RCPT 452 4.3.1, and STARTTLS 454. It must not be negative, and is at least 1 MiB. Default 256 MiB.
	Memory int64
	// AuthFailures is how many attempts to authenticate may be denied on a connection, at least 3 by RFC 4954 section 9.
	// The reply to one more is 421, and the connection is closed. Default 3.
	AuthFailures int
	// Errors is how many commands may be refused with 5yz since the last message was accepted, recipients apart. One
	// more is answered 421, and the connection closed. Default 20.
	Errors int
	// RefusedRcpts is how many recipients may be refused since the last message was accepted. One more is answered 421,
	// and the connection closed. Default 100.
	RefusedRcpts int
	// Junk is how many commands that do nothing to transfer mail, such as NOOP and RSET, a client may send since the last
	// message was accepted. One more is answered 421, and the connection closed. Default 1000.
	Junk int
	// MinRate is the slowest average rate at which the content of a message may arrive, in octets per second. It is
	// enforced once the server has waited for the content for Timeouts.MinRateGrace. Default 100.
	MinRate int
}

// Timeouts bound how long a client may take. Zero is the default that the comment names; a negative value is no
// timeout. The time that a session takes does not count, except for Session.
type Timeouts struct {
	// Command is for a whole command line to arrive. Default 5 minutes (RFC 5321 section 4.5.3.2.7).
	Command time.Duration
	// Content is for the next octets of a message to arrive. Default 5 minutes.
	Content time.Duration
	// MinRateGrace is how long the server waits for the octets of one message, all in all, before Limits.MinRate is
	// enforced. Default 10 minutes; with a negative value it is enforced at once.
	MinRateGrace time.Duration
	// Write is for the client to accept replies. Default 5 minutes.
	Write time.Duration
	// Handshake is for a TLS handshake, and for other ways to hand a connection over. Default 1 minute.
	Handshake time.Duration
	// Age is how long a client may go on with new commands. After that, it gets 421 4.4.2 as soon as no transaction is
	// open, and connects again if it has more to send. Default 2 hours.
	Age time.Duration
	// Session is for the whole connection, which ends wherever it is. Default: no timeout, since the other limits bound
	// what a connection costs.
	Session time.Duration
}

// setDefaults puts defaults in place of zeros, and zeros in place of negative values.
func (l *Limits) setDefaults() {
	setDefault(&l.MessageSize, defaultMessageSize)
	setDefault(&l.HeaderSize, defaultHeaderSize)
	setDefault(&l.HeaderFields, defaultHeaderFields)
	setDefault(&l.Received, defaultReceived)
	setDefault(&l.LineLength, 0)
	setDefault(&l.Rcpts, defaultRcpts)
	setDefault(&l.Conns, defaultConns)
	setDefault(&l.ConnsPerHost, defaultConnsPerHost)
	setDefault(&l.IPv4Prefix, defaultIPv4Prefix)
	setDefault(&l.IPv6Prefix, defaultIPv6Prefix)
	setDefault(&l.ConnsPerMinute, defaultConnsPerMinute)
	setDefault(&l.MessagesPerMinute, defaultMessagesPerMinute)
	setDefault(&l.AuthFailuresPerHour, defaultAuthFailuresPerHour)
	setDefault(&l.Handshakes, defaultHandshakes)
	setDefault(&l.Memory, defaultMemory)
	setDefault(&l.Mails, defaultMails)
	setDefault(&l.AuthFailures, defaultAuthFailures)
	setDefault(&l.Errors, defaultErrors)
	setDefault(&l.RefusedRcpts, defaultRefusedRcpts)
	setDefault(&l.Junk, defaultJunk)
	setDefault(&l.MinRate, defaultMinRate)
}

// setDefaults puts defaults in place of zeros, and zeros in place of negative values.
func (t *Timeouts) setDefaults() {
	setDefault(&t.Command, defaultCommandTimeout)
	setDefault(&t.Content, defaultContentTimeout)
	setDefault(&t.MinRateGrace, defaultMinRateGrace)
	setDefault(&t.Write, defaultWriteTimeout)
	setDefault(&t.Handshake, defaultHandshakeTimeout)
	setDefault(&t.Age, defaultAge)
	setDefault(&t.Session, 0)
}

// setDefault sets v to value if it is zero, and to zero if it is negative.
func setDefault[T int | int64 | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
	*v = max(*v, 0)
}

// check returns an error for limits that cannot be.
func (l *Limits) check() error {
	switch {
	case l.Rcpts < 0:
		return errors.New("smtp: Options.Limits.Rcpts is negative: it bounds memory, so there must be a limit")
	case l.Memory < 0 || l.Memory > 0 && l.Memory < minMemory:
		return fmt.Errorf("smtp: Options.Limits.Memory is %d octets: use at least 1 MiB, which is 1<<20", l.Memory)
	case l.IPv4Prefix < 0 || l.IPv4Prefix > 32:
		return fmt.Errorf("smtp: Options.Limits.IPv4Prefix is %d: use 1 to 32, or 0 for the default", l.IPv4Prefix)
	case l.IPv6Prefix < 0 || l.IPv6Prefix > 128:
		return fmt.Errorf("smtp: Options.Limits.IPv6Prefix is %d: use 1 to 128, or 0 for the default", l.IPv6Prefix)
	}
	return nil
}

// checkExempt returns an error for a network that no address is in.
func checkExempt(networks []netip.Prefix) error {
	for _, p := range networks {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("smtp: Options.Exempt has %q, which is no network: use netip.MustParsePrefix, "+
				"with an IPv4 network such as 192.0.2.0/24 or an IPv6 network", p)
		}
	}
	return nil
}

// The defaults of Limits and Timeouts, and the bounds that are not options. RFC 5321 section 4.5.3.1 says how much a
// server has to accept at least.
const (
	// defaultMessageSize is several times what the large mail providers accept.
	defaultMessageSize = 64 << 20
	// defaultHeaderSize is Exim's header_maxsize.
	defaultHeaderSize   = 1 << 20
	defaultHeaderFields = 1000
	// defaultReceived is the least that RFC 5321 section 6.3 recommends. Postfix has 50, Exim 30 and Sendmail 25.
	defaultReceived = 100
	// defaultRcpts is Postfix's. RFC 5321 section 4.5.3.1.8 demands 100.
	defaultRcpts = 1000
	// defaultConns is below the 1024 files that many systems let a process open.
	defaultConns        = 1000
	defaultConnsPerHost = 100
	// A host usually has an IPv4 address to itself, or a /64 of IPv6 addresses.
	defaultIPv4Prefix = 32
	defaultIPv6Prefix = 64
	// Postfix counts in minutes too, and has no limit by default (smtpd_client_connection_rate_limit,
	// smtpd_client_message_rate_limit). The defaults are several times what one busy sender does to one server.
	defaultConnsPerMinute    = 200
	defaultMessagesPerMinute = 1000
	// defaultAuthFailuresPerHour leaves room for an office whose phones have an old password, and makes a guess cost 36
	// seconds.
	defaultAuthFailuresPerHour = 100
	// defaultHandshakes is a quarter of defaultConns. A client that stops in the middle of a handshake has its place until
	// Timeouts.Handshake.
	defaultHandshakes = 250
	// defaultMemory is enough for defaultConns connections with TLS and a transaction each.
	defaultMemory = 256 << 20
	// defaultMails is Exim's smtp_accept_max_per_connection.
	defaultMails = 1000
	// defaultAuthFailures is the least that RFC 4954 section 9 asks for.
	defaultAuthFailures = 3
	// defaultErrors is Postfix's smtpd_hard_error_limit.
	defaultErrors       = 20
	defaultRefusedRcpts = 100
	defaultJunk         = 1000

	// defaultCommandTimeout is that of RFC 5321 section 4.5.3.2.7.
	defaultCommandTimeout   = 5 * time.Minute
	defaultContentTimeout   = 5 * time.Minute
	defaultWriteTimeout     = 5 * time.Minute
	defaultHandshakeTimeout = time.Minute
	defaultAge              = 2 * time.Hour
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
