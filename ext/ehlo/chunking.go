package ehlo

import (
	"math"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// Chunking returns the extension CHUNKING (RFC 3030 section 2), by which content travels in chunks of counted octets.
// The command BDAT carries them. Nothing in a chunk is special, neither a dot nor the end of a line.
//
// A server gives all chunks of a message to the session as one reader, which asks for the next chunk itself. In LMTP
// the last chunk has a reply for each recipient.
//
// A client uses BDAT in place of DATA if the server offers the extension.
//
// The extension is in [Default].
func Chunking() ext.Extension {
	last := &proto.Verb{
		Name: "BDAT", In: proto.Rcpt | proto.Chunks, OK: proto.Ready, Fail: proto.Ready,
		Payload: chunkSize, PerRcpt: true,
	}
	return ext.Extension{
		Keyword: "CHUNKING",
		Verbs: []proto.Verb{{
			// After a refused chunk the engine refuses all later ones, until RSET: a client that pipelines them
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

// parseChunk reads chunk-size [SP "LAST"] (RFC 3030 section 2). If the size is malformed, it is -1: nobody knows how
// many octets follow. If only the text after the size is malformed, the size is returned with the error, so that the
// octets can be skipped.
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
