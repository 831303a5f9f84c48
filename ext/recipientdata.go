package ext

import (
	"context"
	"io"

	"smtpkit.example/smtp/proto"
)

// RecipientData is implemented by sessions that have an outcome for each recipient of a message. The server calls
// DataEach in place of Data if the client can learn each outcome. That is so in LMTP (RFC 2033 section 4.2), and in
// SMTP after an extension such as PRDR has asked for it. server.RecipientData is the same type.
type RecipientData interface {
	// DataEach receives the message, as the session's Data does. It calls result for the accepted recipients. Rcpt is the
	// index of a recipient, counted from 0 in the order of the RCPT commands. R is the reply that accepts the recipient:
	// the zero Reply for the usual one, or one with a code of 2yz. An error refuses the recipient.
	//
	// A second call for the same recipient is ignored. Result may be called from several goroutines until DataEach
	// returns. The error that DataEach returns is the outcome for all recipients without one, nil included.
	DataEach(ctx context.Context, r io.Reader, result func(rcpt int, r proto.Reply, err error)) error
}
