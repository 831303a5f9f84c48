package server

import (
	"bytes"
	"log/slog"

	"smtpkit.example/smtp/proto"
)

// giveUp ends the connection of a client of which nobody can understand what it sends, such as one that speaks TLS or
// SSH, with the reply e.
func (c *Conn) giveUp(e *proto.Error) {
	c.logForeign(e)
	c.closeWith(e.Reply(), 0)
}

// logForeign logs that a connection ends because the client does not speak SMTP. What it has sent may be anything, and
// is not logged.
func (c *Conn) logForeign(e *proto.Error) {
	c.log(slog.LevelInfo, "smtp: the client does not speak SMTP", "why", e.Text)
}

// isHTTP reports whether args are those of an HTTP request. The client was led here, maybe by an attacker who controls
// the rest of the request.
func isHTTP(args []byte) bool {
	last := args[bytes.LastIndexByte(args, ' ')+1:]
	return bytes.HasPrefix(last, []byte("HTTP/"))
}
