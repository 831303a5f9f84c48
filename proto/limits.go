package proto

// baseCommandLine is the length of a command line that every server must accept, in octets with its CRLF. Extensions
// add to it (RFC 5321 section 4.5.3.1.4).
const baseCommandLine = 512

// Limits bounds what an engine keeps in memory and what it tolerates. A field that is zero or negative has the default
// named in its comment. No limit can be switched off.
type Limits struct {
	// ExchangeLine is the length of the longest line in an exchange such as AUTH's, in octets with its CRLF. The default
	// is 12290: 12288 octets of base64 and CRLF (RFC 4954 section 4).
	ExchangeLine int
	// DroppedLine is how many octets of a line that is too long a Receiver reads and drops in search of its end, before it
	// gives up the peer. The default is 1 MiB: a peer that has gone so far wrong does not recover.
	DroppedLine int
	// ReplyLine is the length of the longest reply line that a Sender accepts, in octets with its CRLF. The default is
	// 4096. RFC 5321 section 4.5.3.1.5 has 512, and servers are known to exceed it. A line of an exchange may be as long
	// as ExchangeLine permits, with the code in front of it.
	ReplyLine int
	// ReplyLines is how many lines a Sender accepts in one reply. The default is 1000.
	ReplyLines int
	// Reply is how many octets a Sender accepts in one reply, over all of its lines. The default is 64 KiB.
	Reply int
	// LaxReplies makes a Sender tolerate replies that are malformed in two common ways. A line may end with LF alone, as
	// long as no line of the connection has ended with CRLF. And a TAB may follow the code in place of a space.
	//
	// It is off by default, since only CRLF ends a line (RFC 5321 section 2.3.8), and a server that repeats in its replies
	// what strangers have sent can have an LF in them: what follows it would pass for another reply. That is why a server
	// that sends CRLF has to go on with it. A CR alone never ends a line, and what follows the reply to STARTTLS belongs
	// to TLS, whatever ended that reply.
	LaxReplies bool
}

func (l Limits) exchangeLine() int { return orDefault(l.ExchangeLine, 12290) }
func (l Limits) droppedLine() int  { return orDefault(l.DroppedLine, 1<<20) }
func (l Limits) replyLine() int    { return orDefault(l.ReplyLine, 4096) }
func (l Limits) replyLines() int   { return orDefault(l.ReplyLines, 1000) }
func (l Limits) reply() int        { return orDefault(l.Reply, 64<<10) }

// inExchange returns the limits for a reply that may continue an exchange.
func (l Limits) inExchange() Limits {
	l.ReplyLine = max(l.replyLine(), len("334 ")+l.exchangeLine())
	l.Reply = max(l.reply(), l.ReplyLine)
	return l
}

func orDefault(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}
