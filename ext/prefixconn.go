package ext

import "net"

// PrefixConn returns conn with prefix put back in front: Read yields prefix first. After a command that hands the
// connection over, use it for the octets that were read too far. They belong to the protocol that takes over: a command
// slipped in behind STARTTLS then breaks the TLS handshake (CVE-2011-0411). Server and client do so in their Handover.
func PrefixConn(conn net.Conn, prefix []byte) net.Conn { return &prefixConn{conn, prefix} }

type prefixConn struct {
	net.Conn
	prefix []byte // what of it has not been read
}

func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
