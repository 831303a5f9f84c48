package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"smtpkit.example/smtp/proto"
)

// ListenAndServe listens on addr and calls Serve. Addr is the address of a TCP port, such as ":25", which is the
// default, or "127.0.0.1:2525"; or "unix:" and the path of a Unix socket, such as "unix:/run/lmtp.sock"; or "systemd:"
// and the FileDescriptorName of a systemd socket unit, whose name can be left out if there is only one. A socket file
// that a program left behind, and on which nobody listens any more, is replaced. LMTP has no port of its own and needs
// an address.
func (s *Service) ListenAndServe(addr string) error {
	return s.listenAndServe(addr, ":25", s.Serve)
}

// ListenAndServeTLS listens on addr, as ListenAndServe does, and calls ServeTLS. The default is ":465".
func (s *Service) ListenAndServeTLS(addr string) error {
	return s.listenAndServe(addr, ":465", s.ServeTLS)
}

func (s *Service) listenAndServe(addr, byDefault string, serve func(net.Listener) error) error {
	if s.closing.Load() {
		return ErrServerClosed
	}
	if addr == "" {
		if s.opt.Protocol == proto.LMTP {
			return errors.New("smtp: LMTP has no port of its own: say which one to listen on")
		}
		addr = byDefault
	}
	if name, ok := strings.CutPrefix(addr, "systemd:"); ok {
		list, err := takePassed(name)
		if err != nil {
			return err
		}
		return serveAll(list, serve)
	}
	l, err := listen(addr)
	var malformed *net.AddrError
	switch {
	case errors.As(err, &malformed) && !strings.Contains(addr, ":"):
		return fmt.Errorf("smtp: %w: write a port as %q, or a host and a port", err, ":25")
	case err != nil:
		return fmt.Errorf("smtp: %w", err)
	}
	return serve(l)
}

// listen listens on the address of a TCP port, or on a Unix socket.
func listen(addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		return net.Listen("tcp", addr)
	}
	if path == "" {
		return nil, errors.New("there is no path behind unix")
	}
	l, err := net.Listen("unix", path)
	if err == nil || !isStale(path) || os.Remove(path) != nil {
		return l, err
	}
	return net.Listen("unix", path)
}

// isStale reports whether path is a socket on which nobody listens.
func isStale(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	nc, err := net.Dial("unix", path)
	if err == nil {
		nc.Close()
		return false
	}
	return isConnRefused(err)
}
