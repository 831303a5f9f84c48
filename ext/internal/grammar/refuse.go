package grammar

import (
	"net"
	"net/netip"
	"strings"

	"smtpkit.example/smtp/proto"
)

// BadArgs returns the refusal of a command whose arguments are malformed.
func BadArgs(text string) *proto.Error { return proto.Refuse(501, proto.Status{5, 5, 4}, text) }

// Cause returns the text of err as a part of a longer one.
func Cause(err error) string { return strings.TrimPrefix(err.Error(), "smtp: ") }

// Port returns the port of a TCP address, and 0 for an address of another network.
func Port(a net.Addr) uint16 {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort().Port()
	}
	return 0
}
