package dns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxServers is how many name servers are used. The C library takes the first three.
const maxServers = 8

// systemConf is a variable for the tests only.
var systemConf = "/etc/resolv.conf"

// A conf is what resolv.conf(5) says.
type conf struct {
	servers  []string
	trustAD  bool
	timeout  time.Duration
	attempts int
}

// readConf reads the file of the system. Without one, the server is on this host, as the C library has it.
func readConf(name string) (conf, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return conf{servers: []string{"127.0.0.1"}}, nil
	}
	if err != nil {
		return conf{}, confError(err)
	}
	defer f.Close()
	return parseConf(f)
}

func confError(err error) error {
	return fmt.Errorf("smtp: reading the name servers of the system: %w; or set dns.Options.Servers", err)
}

// parseConf passes over what it does not know, as the C library does.
func parseConf(r io.Reader) (conf, error) {
	var c conf
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) < 2:
		case words[0] == "nameserver" && len(c.servers) < maxServers:
			if _, err := netip.ParseAddr(words[1]); err == nil {
				c.servers = append(c.servers, words[1])
			}
		case words[0] == "options":
			for _, word := range words[1:] {
				c.option(word)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return conf{}, confError(err)
	}
	if len(c.servers) == 0 {
		c.servers = []string{"127.0.0.1"}
	}
	return c, nil
}

func (c *conf) option(word string) {
	name, value, _ := strings.Cut(word, ":")
	n, err := strconv.Atoi(value)
	switch {
	case word == "trust-ad":
		c.trustAD = true
	case name == "timeout" && err == nil:
		c.timeout = time.Duration(min(max(n, 1), 30)) * time.Second
	case name == "attempts" && err == nil:
		c.attempts = min(max(n, 1), 5)
	}
}

// parseServer reads "192.0.2.1", "192.0.2.1:5353", "2001:db8::1" or "[2001:db8::1]:5353".
func parseServer(s string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return ap, nil
	}
	host := s
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("smtp: name server %q: want an IP address, such as 127.0.0.1, or with a port, "+
			"such as 127.0.0.1:53", s)
	}
	return netip.AddrPortFrom(addr, 53), nil
}
