package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// maxStrangers is how many UDP messages that answer something else are passed over, before TCP is used, where
	// guessing the id is no use (RFC 5452 section 9.2).
	maxStrangers = 16
	// A server that has left restAfter domains without an answer, one after the other, is asked after the others for
	// restFor. One domain, whose own servers may be slow, does not count twice.
	restAfter = 3
	restFor   = 30 * time.Second
)

// A server is one that is asked.
type server struct {
	addr    netip.AddrPort
	trusted bool // its AD bit is believed
	silence      // the zero value once it answers
}

// A silence is what a server did not answer, one question after the other.
type silence struct {
	domains []string // restAfter at most
	rest    time.Time
}

// miss notes a question without an answer.
func (s *silence) miss(q question, now time.Time) {
	if d := upper(q.name); len(s.domains) < restAfter && !slices.Contains(s.domains, d) {
		s.domains = append(s.domains, d)
	}
	if len(s.domains) == restAfter {
		s.rest = now.Add(restFor)
	}
}

// upper returns the last two labels of a name. Names that have them in common may depend on the same zone.
func upper(name string) string {
	dot := strings.LastIndexByte(name, '.')
	return name[1+strings.LastIndexByte(name[:max(dot, 0)], '.'):]
}

// A refusal is an error of a server that has answered: there is no use in asking it again.
type refusal struct {
	text  string
	bogus bool
}

func (r *refusal) Error() string { return r.text }

// ask puts q to the servers in turn, until one answers.
func (s *Stub) ask(ctx context.Context, q question) (*response, *Error) {
	var failure *Error
	servers := s.order()
	for range s.opt.Attempts {
		again := servers[:0:0]
		for _, srv := range servers {
			r, err := s.try(ctx, srv, q)
			if err == nil {
				s.heard(srv)
				return r, nil
			}
			e := &Error{Name: q.name, Type: q.t, Server: srv.addr.String(), Err: err}
			var refused *refusal
			e.Bogus = errors.As(err, &refused) && refused.bogus
			if ctx.Err() != nil {
				return nil, e
			}
			if e.Timeout() {
				again = append(again, srv)
			}
			if refused != nil {
				s.heard(srv)
			} else {
				s.missed(srv, q)
			}
			// Another server, which may not validate, must not have the last word about what is bogus.
			if e.Bogus {
				return nil, e
			}
			// What a server says tells more than a server that says nothing.
			if failure == nil || failure.Timeout() || !e.Timeout() {
				failure = e
			}
		}
		servers = again
	}
	return nil, failure
}

// order returns the servers: first those that are well, as listed.
func (s *Stub) order() []*server {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var well, ill []*server
	for _, srv := range s.servers {
		if now.Before(srv.rest) {
			ill = append(ill, srv)
		} else {
			well = append(well, srv)
		}
	}
	return append(well, ill...)
}

// heard notes that a server has answered, if only with a failure.
func (s *Stub) heard(srv *server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	srv.silence = silence{}
}

// missed notes that a server has not answered q.
func (s *Stub) missed(srv *server, q question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	srv.miss(q, time.Now())
}

// try asks one server once: over UDP, and over TCP if the answer does not fit or strangers interfere.
func (s *Stub) try(ctx context.Context, srv *server, q question) (*response, error) {
	edns := true
	r, err := s.exchange(ctx, srv, q, edns, false)
	if err == nil && r.rcode == dnsmessage.RCodeFormatError && !r.edns {
		edns = false // it does not know EDNS (RFC 6891 section 7)
		r, err = s.exchange(ctx, srv, q, edns, false)
	}
	if errors.Is(err, errStrangers) || err == nil && r.truncated {
		r, err = s.exchange(ctx, srv, q, edns, true)
	}
	switch {
	case err != nil:
		return nil, err
	case r.truncated:
		return nil, &refusal{text: "smtp: the answer is cut short even over TCP"}
	case r.rcode != dnsmessage.RCodeSuccess && r.rcode != dnsmessage.RCodeNameError:
		return nil, &refusal{text: rcode(r), bogus: r.bogus}
	case r.useless:
		return nil, &refusal{text: "smtp: the server does not look up names for others: ask a recursive name server"}
	}
	r.authentic = r.authentic && srv.trusted
	return r, nil
}

// rcode describes a response that is a failure.
func rcode(r *response) string {
	text := map[dnsmessage.RCode]string{
		dnsmessage.RCodeFormatError:    "does not understand the question (FORMERR)",
		dnsmessage.RCodeServerFailure:  "cannot answer now (SERVFAIL)",
		dnsmessage.RCodeNotImplemented: "does not know such questions (NOTIMP)",
		dnsmessage.RCodeRefused:        "does not want to answer (REFUSED)",
	}[r.rcode]
	if text == "" {
		text = fmt.Sprintf("cannot answer (RCODE %d)", r.rcode)
	}
	if r.bogus {
		text += ", since DNSSEC proves the answer wrong"
	}
	if r.note != "" {
		text += ": " + r.note
	}
	return "smtp: the server " + text
}

// A slow error says that a server did not answer in time.
type slow string

func (e slow) Error() string   { return string(e) }
func (e slow) Timeout() bool   { return true }
func (e slow) Temporary() bool { return true }

var errStrangers = errors.New("smtp: too many messages that answer other questions")

// exchange sends one query, with an id and a port of its own, and waits for the answer to it.
func (s *Stub) exchange(ctx context.Context, srv *server, q question, edns, tcp bool) (*response, error) {
	var id [2]byte
	rand.Read(id[:])
	query, err := q.pack(binary.BigEndian.Uint16(id[:]), edns)
	if err != nil {
		return nil, err
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	network := "udp"
	if tcp {
		network = "tcp"
	}
	r, err := s.dial(ctx, network, srv.addr.String(), query, q)
	var t net.Error
	switch {
	case err == nil:
		return r, nil
	case parent.Err() != nil:
		return nil, parent.Err()
	case errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil || errors.As(err, &t) && t.Timeout():
		return nil, slow(fmt.Sprintf("smtp: no answer within %v", s.opt.Timeout))
	case errors.Is(err, errMalformed):
		return nil, &refusal{text: err.Error()}
	}
	return nil, err
}

func (s *Stub) dial(ctx context.Context, network, addr string, query []byte, q question) (*response, error) {
	conn, err := s.opt.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		return overTCP(conn, query, q)
	}
	return overUDP(conn, query, q)
}

func overUDP(conn net.Conn, query []byte, q question) (*response, error) {
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	id := binary.BigEndian.Uint16(query)
	msg := make([]byte, maxUDP+1)
	for range maxStrangers {
		n, err := conn.Read(msg)
		if err != nil {
			return nil, err
		}
		if n > maxUDP {
			// More than was offered, and more than was read. The header tells whose it is.
			if binary.BigEndian.Uint16(msg) == id {
				return &response{truncated: true}, nil
			}
			continue
		}
		r, err := parse(msg[:n], id, q)
		if err != errNotOurs {
			return r, err
		}
	}
	return nil, errStrangers
}

func overTCP(conn net.Conn, query []byte, q question) (*response, error) {
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	if _, err := conn.Write(append(framed, query...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, msg); err != nil {
		return nil, err
	}
	r, err := parse(msg, binary.BigEndian.Uint16(query), q)
	if err == errNotOurs {
		return nil, malformed(err.Error())
	}
	return r, err
}
