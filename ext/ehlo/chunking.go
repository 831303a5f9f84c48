package ehlo

import (
	"math"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// Chunking returns the extension CHUNKING (RFC 3030 section 2): content travels in chunks whose octets are counted,
// by the command BDAT. Nothing in a chunk is special, neither a dot nor the end of a line.
//
// A server gives the chunks of a message to the session as one reader, which asks for the next chunk itself. A client
// that is offered it uses it in place of DATA. In LMTP the last chunk has a reply for each recipient.
func Chunking() ext.Extension {
	last := &proto.Verb{
		Name: "BDAT", In: proto.Rcpt | proto.Chunks, OK: proto.Ready, Fail: proto.Ready,
		Payload: chunkSize, PerRcpt: true,
	}
	return ext.Extension{
		Keyword: "CHUNKING",
		Verbs: []proto.Verb{{
			// After a refused chunk those behind it are refused too, until RSET: a client that sends in groups
			// cannot know of the refusal when it sends them.
			Name: "BDAT", In: proto.Rcpt | proto.Chunks, OK: proto.Chunks, Fail: proto.Broken,
			Payload: chunkSize,
			Variant: func(args []byte) *proto.Verb {
				if _, isLast, _ := parseChunk(args); isLast {
					return last
				}
				return nil
			},
		}},
		Chunk: "BDAT",
	}
}

func chunkSize(args []byte) (int64, *proto.Error) {
	n, _, err := parseChunk(args)
	return n, err
}

// parseChunk reads chunk-size [SP "LAST"] (RFC 3030 section 2). The size is -1 with an error that leaves it open how
// many octets follow; if the error is in what comes after the size, they are known, and can be passed over.
func parseChunk(args []byte) (size int64, last bool, err *proto.Error) {
	i := 0
	for ; i < len(args) && '0' <= args[i] && args[i] <= '9'; i++ {
		digit := int64(args[i] - '0')
		if size > (math.MaxInt64-digit)/10 {
			return -1, false, badChunkSize()
		}
		size = size*10 + digit
	}
	switch {
	case i == 0 || i < len(args) && args[i] != ' ':
		return -1, false, badChunkSize()
	case i == len(args):
		return size, false, nil
	case grammar.EqualFold(string(args[i+1:]), "LAST"):
		return size, true, nil
	}
	return size, false, grammar.BadArgs("Only LAST can follow the number of octets")
}

func badChunkSize() *proto.Error {
	return grammar.BadArgs("BDAT needs the number of octets that follow its line")
}
