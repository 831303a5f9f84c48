package grammar

import (
	"net"
	"net/netip"
	"strings"

	"smtpkit.example/smtp/proto"
)

// BadArgs returns the reply 501 5.5.4, for a command whose arguments are malformed.
func BadArgs(text string) *proto.Error { return proto.Refuse(501, proto.Status{5, 5, 4}, text) }

// Cause returns the text of err without the prefix "smtp: ", to stand within a longer text that has it.
func Cause(err error) string { return strings.TrimPrefix(err.Error(), "smtp: ") }

// Port returns the port of a TCP address, or 0 for an address of another kind.
func Port(a net.Addr) uint16 {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort().Port()
	}
	return 0
}
