package proto

// A Reply is an answer of a server (RFC 5321 section 4.2).
type Reply struct {
	Code   int    // 200 to 599
	Status Status // the enhanced status code, zero if there is none (RFC 2034)
	Text   string // without code and status; lines are separated by "\n"
}

// AppendReply appends r in its wire form. (To be written: see the brief.)
func AppendReply(dst []byte, r Reply, status, utf8 bool) []byte { panic("reply") }

// RawReply is a reply as it lies in the buffer of a Sender.
type RawReply struct {
	Code   int
	Status Status
	raw    []byte // all lines as received, with CRLF
	strip  bool   // status codes were recognised and are not part of the text
}
