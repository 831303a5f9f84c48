package ext

import (
	"net"
	"net/netip"
	"strconv"
)

// An Origin holds the attributes of a client, as a proxy in front of the server sends them by XCLIENT or XFORWARD. An
// attribute is empty if the proxy has not sent it, and [Unavailable] if the proxy does not know it.
type Origin struct {
	// Name is the verified name of the client's host. ReverseName is the name that the DNS has for the client's address;
	// only XCLIENT has it. Both may be [TempUnavailable].
	Name, ReverseName string
	// Addr is the address of the client, such as "192.0.2.1" or "2001:db8::1", and Port is its port. With XFORWARD the
	// address may be one of another kind of network.
	Addr, Port string
	// Protocol is "SMTP" or "ESMTP". With XFORWARD it may be another.
	Protocol string
	// Hello is the argument of the client's EHLO or HELO.
	Hello string
	// Login is the name under which the client has authenticated. Only XCLIENT has it.
	Login string
	// DestAddr and DestPort are the address and port that the client has connected to. Only XCLIENT has them.
	DestAddr, DestPort string
	// Ident names the message in the proxy's log. Source is "LOCAL" or "REMOTE", depending on where the message came from.
	// Only XFORWARD has them.
	Ident, Source string
}

// Unavailable is an attribute that the proxy does not know. TempUnavailable is one that it may know later.
const (
	Unavailable     = "[UNAVAILABLE]"
	TempUnavailable = "[TEMPUNAVAIL]"
)

// Merge sets the attributes that update has. A proxy may send its attributes in several commands.
func (o *Origin) Merge(update Origin) {
	updated := update.attributes()
	for i, attribute := range o.attributes() {
		if *updated[i] != "" {
			*attribute = *updated[i]
		}
	}
}

// Remote returns the address of the client. It is nil if the proxy has not sent it, and has the text "unknown" if the
// proxy does not know it. It may be called on a nil Origin.
func (o *Origin) Remote() net.Addr {
	if o == nil {
		return nil
	}
	return addrOf(o.Addr, o.Port)
}

// Local returns the address that the client has connected to, in the same way.
func (o *Origin) Local() net.Addr {
	if o == nil {
		return nil
	}
	return addrOf(o.DestAddr, o.DestPort)
}

func (o *Origin) attributes() [11]*string {
	return [...]*string{
		&o.Name, &o.ReverseName, &o.Addr, &o.Port, &o.Protocol, &o.Hello, &o.Login, &o.DestAddr, &o.DestPort, &o.Ident, &o.Source,
	}
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

// unknownAddr is the address of a client whose proxy does not know it. It is not nil, since the address of the proxy
// would be used in place of nil.
type unknownAddr struct{}

func (unknownAddr) Network() string { return "tcp" }
func (unknownAddr) String() string  { return "unknown" }
