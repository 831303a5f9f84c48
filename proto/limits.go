package proto

// baseCommandLine is the length of command line that everybody must accept, CRLF included. Extensions add to it
// (RFC 5321 section 4.5.3.1.4).
const baseCommandLine = 512

// Limits bounds what an engine keeps in memory or puts up with. A field that is zero has the default named in its
// comment. None of them can be switched off.
type Limits struct {
	// ExchangeLine is the longest line of an exchange such as AUTH's, in octets with its CRLF. Default 12290:
	// 12288 octets of base64 and CRLF (RFC 4954 section 4).
	ExchangeLine int
	// DroppedLine is how many octets of a line that is too long are passed over in the search for its end, before
	// the peer is given up. Default 1 MiB: a peer that has gone so far wrong is not going to recover.
	DroppedLine int
	// ReplyLine is the longest line of a reply accepted, in octets with its CRLF. Default 4096; RFC 5321
	// section 4.5.3.1.5 has 512, which servers are known to exceed. In an exchange a line may be as long as ExchangeLine
	// permits, with the code before it.
	ReplyLine int
	// ReplyLines is the largest number of lines accepted in one reply. Default 1000.
	ReplyLines int
	// Reply is the largest reply accepted, in octets over all of its lines. Default 64 KiB.
	Reply int
}

func (l Limits) exchangeLine() int { return orDefault(l.ExchangeLine, 12290) }
func (l Limits) droppedLine() int  { return orDefault(l.DroppedLine, 1<<20) }
func (l Limits) replyLine() int    { return orDefault(l.ReplyLine, 4096) }
func (l Limits) replyLines() int   { return orDefault(l.ReplyLines, 1000) }
func (l Limits) reply() int        { return orDefault(l.Reply, 64<<10) }

// inExchange returns the limits for replies that may carry on an exchange.
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
