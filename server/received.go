package server

import (
	"crypto/rand"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/tracefield"
)

// Received returns what a Received field says of the message that is being received on c (RFC 5321 section 4.4). A
// server that passes a message on, or delivers it, has to add the field on top. In a session's Data:
//
//	r = tracefield.Prepend(tracefield.CheckLoop(r, nil), server.Received(s.conn).String())
//
// All fields are set but Via and Comments:
//
//   - Hello, Addr, With, TLS and Group are those of the client, and By is [Conn.Hostname]. If a trusted proxy has told
//     who the client is, the address is the one that it told, and so is Name.
//   - For is the recipient, if there is one alone. The other recipients of a message must not learn of a blind copy
//     (RFC 5321 section 7.2).
//   - ID is random. Set it to the name under which you store the message, or log this one.
//   - Priority is that of MAIL, if it had one. Set it if the session has assigned another.
//   - Time is now, in the zone of the machine.
//
// Call it while the server is calling a method of the session, as the methods of c. Outside of a transaction there is
// no recipient and no priority.
func Received(c *Conn) tracefield.Received {
	r := tracefield.Received{
		Hello: c.Hello(),
		Addr:  addrPort(c.RemoteAddr()).Addr(),
		Name:  verifiedName(c.Origin()),
		By:    c.Hostname(),
		With:  c.With(),
		ID:    strings.ToLower(rand.Text()),
		Time:  time.Now(),
		UTF8:  c.transaction.utf8,
	}
	r.SetTLS(c.TLS())
	if c.rx.Rcpts() == 1 {
		r.For = c.transaction.rcpt
	}
	r.SetPriority(c.MailParams())
	return r
}

// verifiedName returns the name of the client's host that a proxy has verified, or "".
func verifiedName(o *ext.Origin) string {
	if o == nil || o.Name == ext.Unavailable || o.Name == ext.TempUnavailable {
		return ""
	}
	return o.Name
}
