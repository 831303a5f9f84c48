package ext

import "net"

// PrefixConn returns conn with octets that have been read from it put back: they are read first. What was received behind
// a command that hands the wire over belongs to the new owner of the wire, so that nothing slipped in there is lost
// sight of (CVE-2011-0411).
func PrefixConn(conn net.Conn, octets []byte) net.Conn { return &unread{conn, octets} }

type unread struct {
	net.Conn
	first []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.first) > 0 {
		n := copy(p, u.first)
		u.first = u.first[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}
