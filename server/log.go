package server

import (
	"log/slog"
	"net"

	"smtpkit.example/smtp/proto"
)

// log logs something about the connection. It names the client and, if that came through a proxy, the proxy as well.
func (c *Conn) log(level slog.Level, msg string, args ...any) {
	logger := c.srv.opt.Logger
	if !logger.Enabled(c.ctx, level) {
		return
	}
	remote := addrText(c.RemoteAddr(), c.LocalAddr())
	attrs := []any{"conn", c.ID(), "remote", remote}
	peer := c.link.socket()
	if text := addrText(peer.RemoteAddr(), peer.LocalAddr()); text != remote {
		attrs = append(attrs, "peer", text)
	}
	logger.Log(c.ctx, level, msg, append(attrs, args...)...)
}

// logFailure logs what a session or an extension did wrong.
func (c *Conn) logFailure(method string, err error) {
	c.log(slog.LevelError, "smtp: the session failed", "in", method, "err", err)
}

// limited tells the log and the Trace that a limit refuses something with e, which it returns.
func (c *Conn) limited(e *proto.Error) *proto.Error {
	c.log(slog.LevelInfo, "smtp: over a limit", "in", c.trace.verb, "why", e.Text)
	c.trace.limited(e)
	return e
}

// socket returns the connection below those that speak TLS or know the header of a proxy.
func (l *link) socket() net.Conn {
	nc := l.raw
	for range maxNetConns {
		outer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		inner := outer.NetConn()
		if inner == nil {
			break
		}
		nc = inner
	}
	return nc
}

// maxNetConns bounds the search for the connection below all others: one might say that it is below itself.
const maxNetConns = 10

// addrText returns the address of a client for a log. One that is connected to a Unix socket has none as a rule, and is
// named after the socket.
func addrText(remote, local net.Addr) string {
	if remote == nil {
		return ""
	}
	text := remote.String()
	if remote.Network() == "unix" && (text == "" || text == "@") && local != nil {
		return "unix:" + local.String()
	}
	return text
}
