package proxyproto

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// v2 returns a header of version 2, with the length of block unless there is another.
func v2(command, family byte, block string, length ...int) string {
	n := len(block)
	if len(length) > 0 {
		n = length[0]
	}
	return "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A" + string([]byte{command, family, byte(n >> 8), byte(n)}) + block
}

// The addresses 198.51.100.7:1025 and 192.0.2.25:25, and [2001:db8::7]:1025 and [2001:db8::25]:25.
const (
	inet4 = "\xc6\x33\x64\x07\xc0\x00\x02\x19\x04\x01\x00\x19"
	inet6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x25" + "\x04\x01\x00\x19"
)

// summed returns a header with the checksum sum added to the true one.
func summed(add uint32) string {
	h := v2(0x21, 0x11, inet4+"\x03\x00\x04\x00\x00\x00\x00\x04\x00\x01x")
	at := 16 + len(inet4) + 3
	sum := crc32.Checksum([]byte(h), crc32.MakeTable(crc32.Castagnoli)) + add
	return h[:at] + string(binary.BigEndian.AppendUint32(nil, sum)) + h[at+4:]
}

func TestParse(t *testing.T) {
	path := func(s string) string { return s + strings.Repeat("\x00", 108-len(s)) }
	for _, tt := range []struct {
		name, in       string
		client, server string // "" for those of the connection
		err            error
	}{
		{"TCP4", "PROXY TCP4 198.51.100.7 192.0.2.25 1025 25\r\n", "198.51.100.7:1025", "192.0.2.25:25", nil},
		{"TCP6", "PROXY TCP6 2001:db8::7 2001:db8::25 1025 25\r\n", "[2001:db8::7]:1025", "[2001:db8::25]:25", nil},
		{"TCP6, mapped", "PROXY TCP6 ::ffff:198.51.100.7 ::ffff:192.0.2.25 1025 25\r\n", "198.51.100.7:1025", "192.0.2.25:25", nil},
		{"UNKNOWN", "PROXY UNKNOWN\r\n", "", "", nil},
		{"UNKNOWN with more", "PROXY UNKNOWN ff:ff a b 65535 x\r\n", "", "", nil},
		{"port 0", "PROXY TCP4 198.51.100.7 192.0.2.25 0 65535\r\n", "198.51.100.7:0", "192.0.2.25:65535", nil},
		{"W15 107 octets", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", "", "", nil},
		{"W15 108 octets", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", "", "", errLong},
		{"Z162 endless", "PROXY TCP4 " + strings.Repeat("1", 1<<20), "", "", errLong},
		{"bare LF", "PROXY TCP4 198.51.100.7 192.0.2.25 1025 25\n", "", "", errV1},
		{"lower case", "proxy TCP4 198.51.100.7 192.0.2.25 1025 25\r\n", "", "", errNone},
		{"two spaces", "PROXY  TCP4 198.51.100.7 192.0.2.25 1025 25\r\n", "", "", errV1},
		{"space at the end", "PROXY TCP4 198.51.100.7 192.0.2.25 1025 25 \r\n", "", "", errV1},
		{"UDP4", "PROXY UDP4 198.51.100.7 192.0.2.25 1025 25\r\n", "", "", errV1},
		{"family", "PROXY TCP4 2001:db8::7 2001:db8::25 1025 25\r\n", "", "", errV1},
		{"family 6", "PROXY TCP6 198.51.100.7 192.0.2.25 1025 25\r\n", "", "", errV1},
		{"zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1025 25\r\n", "", "", errV1},
		{"octal", "PROXY TCP4 198.051.100.7 192.0.2.25 1025 25\r\n", "", "", errV1},
		{"port too high", "PROXY TCP4 198.51.100.7 192.0.2.25 65536 25\r\n", "", "", errV1},
		{"port with zero", "PROXY TCP4 198.51.100.7 192.0.2.25 01025 25\r\n", "", "", errV1},
		{"port with sign", "PROXY TCP4 198.51.100.7 192.0.2.25 +1025 25\r\n", "", "", errV1},
		{"port missing", "PROXY TCP4 198.51.100.7 192.0.2.25 1025\r\n", "", "", errV1},
		{"nothing in it", "PROXY \r\n", "", "", errV1},
		{"SMTP", "EHLO x.example\r\n", "", "", errNone},
		{"TLS", "\x16\x03\x01\x02\x00", "", "", errNone},

		{"v2 TCP4", v2(0x21, 0x11, inet4), "198.51.100.7:1025", "192.0.2.25:25", nil},
		{"v2 TCP6", v2(0x21, 0x21, inet6), "[2001:db8::7]:1025", "[2001:db8::25]:25", nil},
		{"v2 TLVs", v2(0x21, 0x11, inet4+"\x01\x00\x01h\x20\x00\x00\xea\x00\x03abc"), "198.51.100.7:1025", "192.0.2.25:25", nil},
		{"v2 checksum", summed(0), "198.51.100.7:1025", "192.0.2.25:25", nil},
		{"v2 wrong checksum", summed(1), "", "", errSum},
		{"v2 checksum of no length", v2(0x21, 0x11, inet4+"\x03\x00\x00"), "", "", errV2},
		{"Z162 LOCAL", v2(0x20, 0x00, ""), "", "", nil},
		{"Z162 LOCAL with addresses", v2(0x20, 0x11, inet4), "", "", nil},
		{"Z162 LOCAL with garbage", v2(0x20, 0xff, "garbage"), "", "", nil},
		{"Z162 UNSPEC", v2(0x21, 0x00, "garbage"), "", "", nil},
		{"Z162 AF_UNIX", v2(0x21, 0x31, path("/run/a")+path("/run/b")), "/run/a", "/run/b", nil},
		{"AF_UNIX cut short", v2(0x21, 0x31, path("/run/a")), "", "", errV2},
		{"datagrams", v2(0x21, 0x12, inet4), "", "", errV2},
		{"family unknown", v2(0x21, 0x41, inet4), "", "", errV2},
		{"version 1 in binary", v2(0x11, 0x11, inet4), "", "", errV2},
		{"version 3", v2(0x31, 0x11, inet4), "", "", errV2},
		{"command unknown", v2(0x22, 0x11, inet4), "", "", errV2},
		{"addresses cut short", v2(0x21, 0x11, inet4[:11]), "", "", errV2},
		{"TCP6 with addresses of TCP4", v2(0x21, 0x21, inet4), "", "", errV2},
		{"no addresses", v2(0x21, 0x11, ""), "", "", errV2},
		{"Z162 TLV garbage", v2(0x21, 0x11, inet4+"\x01"), "", "", errV2},
		{"Z162 TLV too long", v2(0x21, 0x11, inet4+"\x01\xff\xff"), "", "", errV2},
		{"Z162 length 65535", v2(0x21, 0x11, inet4, 65535), "", "", errLong},
		{"longest", v2(0x21, 0x11, inet4+"\x01"+string(binary.BigEndian.AppendUint16(nil, 16384-16-12-3))+strings.Repeat("x", 16384-16-12-3)),
			"198.51.100.7:1025", "192.0.2.25:25", nil},
		{"one longer", v2(0x21, 0x11, inet4, 16384-16+1), "", "", errLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, n, err := parse([]byte(tt.in + "EHLO"))
			if !errors.Is(err, tt.err) {
				t.Fatalf("the error is %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if n != len(tt.in) || text(h.client) != tt.client || text(h.server) != tt.server {
				t.Errorf("%d octets of %d, from %v to %v, want %s and %s", n, len(tt.in), h.client, h.server, tt.client, tt.server)
			}
			for cut := range len(tt.in) {
				if _, want, err := parse([]byte(tt.in[:cut])); err != errShort || want <= cut || want > len(tt.in) {
					t.Fatalf("after %d octets of %d it wants %d, %v", cut, len(tt.in), want, err)
				}
			}
		})
	}
}

func text(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

func TestAppend(t *testing.T) {
	addr := netip.MustParseAddrPort
	for _, tt := range []struct {
		client, server netip.AddrPort
		v1, v2         string
	}{
		{addr("198.51.100.7:1025"), addr("192.0.2.25:25"), "PROXY TCP4 198.51.100.7 192.0.2.25 1025 25\r\n", v2(0x21, 0x11, inet4)},
		{addr("[::ffff:198.51.100.7]:1025"), addr("192.0.2.25:25"), "PROXY TCP4 198.51.100.7 192.0.2.25 1025 25\r\n", v2(0x21, 0x11, inet4)},
		{addr("[2001:db8::7]:1025"), addr("[2001:db8::25]:25"), "PROXY TCP6 2001:db8::7 2001:db8::25 1025 25\r\n", v2(0x21, 0x21, inet6)},
		{addr("198.51.100.7:1025"), addr("[2001:db8::25]:25"), "PROXY UNKNOWN\r\n",
			v2(0x21, 0x21, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x07"+inet6[16:])},
		{netip.AddrPort{}, addr("192.0.2.25:25"), "PROXY UNKNOWN\r\n", v2(0x20, 0x00, "")},
	} {
		if got := string(AppendV1([]byte("x"), tt.client, tt.server)); got != "x"+tt.v1 {
			t.Errorf("version 1 from %v to %v: %q, want %q", tt.client, tt.server, got, tt.v1)
		}
		if got := string(AppendV2([]byte("x"), tt.client, tt.server)); got != "x"+tt.v2 {
			t.Errorf("version 2 from %v to %v: %q, want %q", tt.client, tt.server, got, tt.v2)
		}
	}
}

// FuzzParse checks that no header is longer than allowed, that one is found in the same place whatever follows it, and
// that waiting for more comes to an end.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"PROXY TCP4 198.51.100.7 192.0.2.25 1025 25\r\nEHLO", "PROXY UNKNOWN x\r\n", "PROXY TCP6 ::1 ::2 1 2\r\n", "PROXY \r\n",
		v2(0x21, 0x11, inet4), v2(0x21, 0x21, inet6), v2(0x20, 0, ""), summed(0), v2(0x21, 0x11, inet4, 65535), v2(0x21, 0x31, strings.Repeat("/", 216)),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, n, err := parse(p)
		if err == errShort {
			if n <= len(p) || n > maxV2 || len(p) >= maxV2 {
				t.Fatalf("after %d octets it wants %d", len(p), n)
			}
			return
		}
		if err != nil {
			return
		}
		if n > len(p) || n > maxV2 || p[0] == 'P' && n > maxV1 {
			t.Fatalf("the header has %d octets, the input %d", n, len(p))
		}
		if (h.client == nil) != (h.server == nil) {
			t.Fatal("half a header")
		}
		h2, n2, err := parse(append(append([]byte(nil), p[:n]...), "more"...))
		if err != nil || n2 != n || text(h2.client) != text(h.client) || text(h2.server) != text(h.server) {
			t.Fatalf("with something else behind it: %v, %d, %v", h2, n2, err)
		}
		c, ok := h.client.(*net.TCPAddr)
		if !ok {
			return
		}
		s := h.server.(*net.TCPAddr)
		h3, _, err := parse(AppendV2(nil, c.AddrPort(), s.AddrPort()))
		if err != nil || text(h3.client) != text(c) || text(h3.server) != text(s) {
			t.Fatalf("sent again: %v, %v", h3, err)
		}
	})
}
