package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The longest headers, in octets. For version 1 the specification says so. For version 2 its length field allows 64
// KiB; the largest thing that proxies put there is the certificate of a client, which takes a few.
const (
	maxV1 = 107
	maxV2 = 16 << 10
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// fixed is the length of what every header of version 2 begins with: signature, command, family and length.
const fixed = len(signature) + 4

// A header says for whom the proxy speaks. The addresses are nil if the proxy does not know them, or if it speaks for
// nobody, to check whether the server is alive.
type header struct {
	client net.Addr // of the client
	server net.Addr // what the client connected to
}

var (
	errShort = errors.New("smtp: the PROXY header is not complete")
	errNone  = errors.New("smtp: PROXY header expected")
	errV1    = errors.New("smtp: malformed PROXY header of version 1")
	errV2    = errors.New("smtp: malformed PROXY header of version 2")
	errLong  = errors.New("smtp: PROXY header is too long")
	errSum   = errors.New("smtp: PROXY header with a wrong checksum")
)

// parse reads the header at the beginning of p, and returns its length. The error errShort means that p is too short,
// and that the header has at least n octets.
func parse(p []byte) (h header, n int, err error) {
	switch {
	case len(p) == 0:
		return header{}, 1, errShort
	case bytes.HasPrefix(p, []byte(signature)):
		return parseV2(p)
	case bytes.HasPrefix([]byte(signature), p):
		return header{}, fixed, errShort
	case bytes.HasPrefix(p, []byte("PROXY ")):
		return parseV1(p)
	case bytes.HasPrefix([]byte("PROXY "), p):
		return header{}, len(p) + 1, errShort
	}
	return header{}, 0, errNone
}

func parseV1(p []byte) (h header, n int, err error) {
	end := bytes.IndexByte(p[:min(len(p), maxV1)], '\n')
	switch {
	case end < 0 && len(p) >= maxV1:
		return header{}, 0, errLong
	case end < 0:
		return header{}, len(p) + 1, errShort
	case p[end-1] != '\r':
		return header{}, 0, errV1
	}
	f := strings.Split(string(p[:end-1]), " ")
	if f[1] == "UNKNOWN" {
		return header{}, end + 1, nil // whatever follows
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return header{}, 0, errV1
	}
	client, ok1 := parseAddrPort(f[2], f[4], f[1] == "TCP6")
	server, ok2 := parseAddrPort(f[3], f[5], f[1] == "TCP6")
	if !ok1 || !ok2 {
		return header{}, 0, errV1
	}
	return header{client: client, server: server}, end + 1, nil
}

func parseAddrPort(addr, port string, six bool) (net.Addr, bool) {
	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.Is6() != six || ip.Zone() != "" {
		return nil, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return nil, false
	}
	return tcpAddr(ip, uint16(n)), true
}

func tcpAddr(ip netip.Addr, port uint16) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), port))
}

// The values of the two octets behind the signature of version 2.
const (
	commandLocal = 0x20
	commandProxy = 0x21

	familyUnspec     = 0x00
	familyTCP4       = 0x11
	familyTCP6       = 0x21
	familyUnixStream = 0x31
)

// unixPath is the length of the field that a path stands in, filled up with zeros.
const unixPath = 108

func parseV2(p []byte) (h header, n int, err error) {
	if len(p) < fixed {
		return header{}, fixed, errShort
	}
	command, family := p[len(signature)], p[len(signature)+1]
	n = fixed + int(binary.BigEndian.Uint16(p[len(signature)+2:]))
	switch {
	case command != commandLocal && command != commandProxy:
		return header{}, 0, errV2
	case n > maxV2:
		return header{}, 0, errLong
	case len(p) < n:
		return header{}, n, errShort
	case command == commandLocal:
		return header{}, n, nil
	}
	block := p[fixed:n]
	used := 0
	switch family {
	case familyUnspec:
		return header{}, n, nil
	case familyTCP4:
		h, used = parseInet(block, 4)
	case familyTCP6:
		h, used = parseInet(block, 16)
	case familyUnixStream:
		h, used = parseUnix(block)
	}
	if used == 0 {
		return header{}, 0, errV2
	}
	if err := checkTLVs(p[:n], fixed+used); err != nil {
		return header{}, 0, err
	}
	return h, n, nil
}

// parseInet reads the addresses and ports of TCP, each address of size octets. It returns their length, 0 if b is too
// short.
func parseInet(b []byte, size int) (header, int) {
	if len(b) < 2*size+4 {
		return header{}, 0
	}
	client, _ := netip.AddrFromSlice(b[:size])
	server, _ := netip.AddrFromSlice(b[size : 2*size])
	ports := b[2*size:]
	return header{
		tcpAddr(client, binary.BigEndian.Uint16(ports)),
		tcpAddr(server, binary.BigEndian.Uint16(ports[2:])),
	}, 2*size + 4
}

func parseUnix(b []byte) (header, int) {
	if len(b) < 2*unixPath {
		return header{}, 0
	}
	path := func(p []byte) net.Addr {
		p, _, _ = bytes.Cut(p, []byte{0})
		return &net.UnixAddr{Name: string(p), Net: "unix"}
	}
	return header{path(b[:unixPath]), path(b[unixPath : 2*unixPath])}, 2 * unixPath
}

// typeChecksum is the type of the checksum. It is the only additional value that we use.
const typeChecksum = 0x03

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkTLVs checks the additional values, which begin at i in the header p. Each is a type, a length of two octets, and
// as many octets. A checksum is computed over the header with zeros in its own place.
func checkTLVs(p []byte, i int) error {
	for i < len(p) {
		if len(p)-i < 3 {
			return errV2
		}
		start := i + 3
		end := start + int(binary.BigEndian.Uint16(p[i+1:]))
		if end > len(p) {
			return errV2
		}
		if p[i] == typeChecksum {
			if end-start != 4 {
				return errV2
			}
			sum := crc32.Update(0, castagnoli, p[:start])
			sum = crc32.Update(sum, castagnoli, make([]byte, 4))
			sum = crc32.Update(sum, castagnoli, p[end:])
			if sum != binary.BigEndian.Uint32(p[start:]) {
				return errSum
			}
		}
		i = end
	}
	return nil
}

// AppendV1 appends a header of version 1, which a proxy sends for a client that has connected to server. If the two
// addresses are not of the same kind, or not valid, it is the header of a proxy that does not know them.
func AppendV1(dst []byte, client, server netip.AddrPort) []byte {
	c, s := client.Addr().Unmap(), server.Addr().Unmap()
	if !c.IsValid() || !s.IsValid() || c.Is4() != s.Is4() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	kind := "TCP4"
	if c.Is6() {
		kind = "TCP6"
	}
	dst = append(dst, "PROXY "+kind+" "+c.WithZone("").String()+" "+s.WithZone("").String()+" "...)
	dst = strconv.AppendUint(dst, uint64(client.Port()), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(server.Port()), 10)
	return append(dst, "\r\n"...)
}

// AppendV2 appends a header of version 2, which a proxy sends for a client that has connected to server. If an address
// is not valid, it is the header of a proxy that speaks for nobody.
func AppendV2(dst []byte, client, server netip.AddrPort) []byte {
	c, s := client.Addr().Unmap(), server.Addr().Unmap()
	dst = append(dst, signature...)
	if !c.IsValid() || !s.IsValid() {
		return append(dst, commandLocal, familyUnspec, 0, 0)
	}
	family := byte(familyTCP4)
	if c.Is6() || s.Is6() {
		family = familyTCP6
		six, other := c.As16(), s.As16()
		c, s = netip.AddrFrom16(six), netip.AddrFrom16(other)
	}
	block := append(c.AsSlice(), s.AsSlice()...)
	block = binary.BigEndian.AppendUint16(block, client.Port())
	block = binary.BigEndian.AppendUint16(block, server.Port())
	dst = append(dst, commandProxy, family)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(block)))
	return append(dst, block...)
}
