package ext

import (
	"net"
	"net/netip"
	"strconv"
)

// An Origin is what a proxy tells of the client for which it speaks, by XCLIENT or XFORWARD. A field is empty if the
// proxy has not told it, and [Unavailable] if the proxy does not know it either.
type Origin struct {
	// Name is the name of the client's host, verified; ReverseName is what the DNS has for its address. Both may be
	// [TempUnavailable]. ReverseName is told by XCLIENT only.
	Name, ReverseName string
	// Addr is the address of the client, such as "192.0.2.1" or "2001:db8::1", and Port its port. By XFORWARD the
	// address may come from another kind of network.
	Addr, Port string
	// Protocol is "SMTP" or "ESMTP"; by XFORWARD it may be another.
	Protocol string
	// Hello is the argument of the client's EHLO or HELO.
	Hello string
	// Login is the name that the client has authenticated as. It is told by XCLIENT only.
	Login string
	// DestAddr and DestPort are where the client has connected to. They are told by XCLIENT only.
	DestAddr, DestPort string
	// Ident names the message in the proxy's log, and Source is "LOCAL" or "REMOTE" for where it came from. They are
	// told by XFORWARD only.
	Ident, Source string
}

// Unavailable stands for what a proxy does not know, and TempUnavailable for what it might know another time.
const (
	Unavailable     = "[UNAVAILABLE]"
	TempUnavailable = "[TEMPUNAVAIL]"
)

// Merge takes over what with tells. A proxy may spread what it has to tell over several commands.
func (o *Origin) Merge(with Origin) {
	told := with.fields()
	for i, field := range o.fields() {
		if *told[i] != "" {
			*field = *told[i]
		}
	}
}

func (o *Origin) fields() [11]*string {
	return [...]*string{
		&o.Name, &o.ReverseName, &o.Addr, &o.Port, &o.Protocol, &o.Hello, &o.Login, &o.DestAddr, &o.DestPort, &o.Ident, &o.Source,
	}
}

// Remote returns the address of the client: nil if it was not told, one whose text is "unknown" if it is not known.
func (o *Origin) Remote() net.Addr {
	if o == nil {
		return nil
	}
	return addrOf(o.Addr, o.Port)
}

// Local returns the address that the client has connected to, likewise.
func (o *Origin) Local() net.Addr {
	if o == nil {
		return nil
	}
	return addrOf(o.DestAddr, o.DestPort)
}

func addrOf(addr, port string) net.Addr {
	if addr == "" {
		return nil
	}
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return unknownAddr{}
	}
	n, _ := strconv.ParseUint(port, 10, 16) // an unknown port is 0
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(n)))
}

// unknownAddr is the address of a client that nobody knows. It must not be taken for the proxy's.
type unknownAddr struct{}

func (unknownAddr) Network() string { return "tcp" }
func (unknownAddr) String() string  { return "unknown" }
