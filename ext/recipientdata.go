package ext

import (
	"context"
	"io"

	"smtpkit.example/smtp/proto"
)

// RecipientData is a session that tells the outcome of a message for each recipient. The server calls DataEach in place of
// Data where the client learns each outcome: in LMTP (RFC 2033 section 4.2), and in SMTP if the client has asked for that
// by an extension, such as PRDR.
type RecipientData interface {
	// DataEach receives the message, as the session's Data does. It calls result with the index of an accepted recipient,
	// counted from 0 in the order of the RCPT commands, and the outcome: the reply with which the recipient is accepted, or
	// an error that refuses. The zero Reply is the usual one; another has a code of 2yz. A second call for the same
	// recipient is ignored. Result may be called from several goroutines until DataEach returns. The error that DataEach
	// returns is the outcome for all recipients that have none by then.
	DataEach(ctx context.Context, r io.Reader, result func(rcpt int, r proto.Reply, err error)) error
}
