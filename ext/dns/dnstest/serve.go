package dnstest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"smtpkit.example/smtp/ext/dns"
)

const maxUDP = 1232 // octets of an answer over UDP, at most

// Serve answers over UDP and TCP at a port of 127.0.0.1, until the test ends, and returns "127.0.0.1:PORT" for
// dns.Options.Servers or another program. It stands for a recursive name server that validates: names marked by Secure
// have the AD bit, and BOGUS is SERVFAIL with the extended error 6 (RFC 8914). With TIMEOUT it does not answer.
//
// It uses the network, so it is not for a bubble of testing/synctest.
func (r *Resolver) Serve(t testing.TB) string {
	t.Helper()
	listener, packets, err := listen()
	if err != nil {
		t.Fatalf("smtp: dnstest: %v", err)
	}
	s := &service{r: r, stop: make(chan struct{}), conns: map[net.Conn]bool{}}
	s.running.Go(func() { s.udp(packets) })
	s.running.Go(func() { s.tcp(listener) })
	t.Cleanup(func() {
		close(s.stop)
		packets.Close()
		listener.Close()
		s.mu.Lock()
		for conn := range s.conns {
			conn.Close()
		}
		s.mu.Unlock()
		s.running.Wait()
	})
	return listener.Addr().String()
}

// listen finds a port that is free for both.
func listen() (listener net.Listener, packets net.PacketConn, err error) {
	for range 20 {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		packets, err = net.ListenPacket("udp", listener.Addr().String())
		if err == nil {
			return listener, packets, nil
		}
		listener.Close()
	}
	return nil, nil, err
}

type service struct {
	r       *Resolver
	stop    chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func (s *service) udp(packets net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := packets.ReadFrom(buf)
		if err != nil {
			return
		}
		query := append([]byte(nil), buf[:n]...)
		s.running.Go(func() {
			if answer := s.answer(query, false); answer != nil {
				packets.WriteTo(answer, from)
			}
		})
	}
}

func (s *service) tcp(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		select {
		case <-s.stop:
			conn.Close()
		default:
		}
		s.running.Go(func() {
			s.converse(conn)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			conn.Close()
		})
	}
}

func (s *service) converse(conn net.Conn) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := s.answer(query, true)
		if answer == nil {
			continue
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answer returns the message that answers query, or nil if there is none.
func (s *service) answer(query []byte, tcp bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	m := &message{h: h}
	if m.asked, err = p.Question(); err != nil {
		return nil
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return nil
	}
	size := 512
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			break
		}
		if h.Type == dnsmessage.TypeOPT {
			m.edns, m.do = true, h.DNSSECAllowed()
			size = min(max(int(h.Class), 512), maxUDP)
		}
		if p.SkipAdditional() != nil {
			return nil
		}
	}
	if tcp {
		size = 1<<16 - 1
	}
	name := strings.TrimSuffix(m.asked.Name.String(), ".")
	if name == "" {
		name = "."
	}
	name, ok := dns.Normal(name)
	if !ok || m.asked.Class != dnsmessage.ClassINET {
		return m.pack(dnsmessage.RCodeRefused, size)
	}
	if s.r.Latency > 0 {
		select {
		case <-s.stop:
			return nil
		case <-time.After(s.r.Latency):
		}
	}
	var f fault
	m.chain, m.secure, f = s.r.ask(name, dns.Type(m.asked.Type))
	rcode, known := map[fault]dnsmessage.RCode{
		none: dnsmessage.RCodeSuccess, noName: dnsmessage.RCodeNameError, refused: dnsmessage.RCodeRefused,
	}[f]
	switch {
	case f == timeout:
		return nil
	case !known:
		rcode = dnsmessage.RCodeServerFailure
	}
	m.bogus = f == bogus
	m.ttl = s.r.ttl
	return m.pack(rcode, size)
}

// A message is what an answer is made of.
type message struct {
	h             dnsmessage.Header // of the query
	asked         dnsmessage.Question
	edns, do      bool
	chain         []link
	secure, bogus bool
	ttl           func(time.Duration) time.Duration
}

// pack returns the answer, without its records if it is longer than size.
func (m *message) pack(rcode dnsmessage.RCode, size int) []byte {
	records := rcode == dnsmessage.RCodeSuccess || rcode == dnsmessage.RCodeNameError
	msg, err := m.build(rcode, records, false)
	if err == nil && len(msg) > size {
		msg, err = m.build(rcode, false, true)
	}
	if err != nil {
		msg, _ = m.build(dnsmessage.RCodeServerFailure, false, false)
	}
	return msg
}

func (m *message) build(rcode dnsmessage.RCode, records, truncated bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: m.h.ID, Response: true, RecursionDesired: m.h.RecursionDesired, RecursionAvailable: true,
		CheckingDisabled: m.h.CheckingDisabled, Truncated: truncated, RCode: rcode,
		AuthenticData: records && m.secure && (m.h.AuthenticData || m.do),
	})
	b.EnableCompression()
	err := errors.Join(b.StartQuestions(), b.Question(m.asked), b.StartAnswers())
	if records {
		err = errors.Join(err, m.records(&b))
	}
	err = errors.Join(err, b.StartAdditionals())
	if m.edns {
		var h dnsmessage.ResourceHeader
		var opt dnsmessage.OPTResource
		if m.bogus {
			opt.Options = []dnsmessage.Option{{Code: 15, Data: []byte("\x00\x06false on purpose")}}
		}
		err = errors.Join(err, h.SetEDNS0(maxUDP, rcode, m.do), b.OPTResource(h, opt))
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// records writes the sections of answers and of authorities.
func (m *message) records(b *dnsmessage.Builder) (err error) {
	for _, link := range m.chain {
		name, e := dnsmessage.NewName(wire(link.name))
		err = errors.Join(err, e)
		for _, rec := range link.records {
			ttl := uint32(m.ttl(rec.ttl) / time.Second)
			h := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: ttl}
			err = errors.Join(err, rec.build(b, h))
		}
	}
	err = errors.Join(err, b.StartAuthorities())
	if len(m.chain) > 0 && len(m.chain[len(m.chain)-1].records) == 0 {
		root := dnsmessage.MustNewName(".")
		ttl := uint32(m.ttl(unset) / time.Second)
		h := dnsmessage.ResourceHeader{Name: root, Class: dnsmessage.ClassINET, TTL: ttl}
		err = errors.Join(err, b.SOAResource(h, dnsmessage.SOAResource{NS: root, MBox: root, MinTTL: ttl}))
	}
	return err
}

// build writes one record.
func (rec *record) build(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
	switch rec.t {
	case dns.A:
		return b.AResource(h, dnsmessage.AResource{A: rec.addr.As4()})
	case dns.AAAA:
		return b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: rec.addr.As16()})
	case dns.TXT:
		return b.TXTResource(h, dnsmessage.TXTResource{TXT: rec.txt})
	case dns.TLSA:
		data := append([]byte{rec.tlsa.Usage, rec.tlsa.Selector, rec.tlsa.Matching}, rec.tlsa.Data...)
		return b.UnknownResource(h, dnsmessage.UnknownResource{Type: dnsmessage.Type(dns.TLSA), Data: data})
	}
	target := rec.name
	if rec.t == dns.MX {
		target = rec.mx.Host
	}
	name, err := dnsmessage.NewName(wire(target))
	if err != nil {
		return err
	}
	switch rec.t {
	case dns.MX:
		return b.MXResource(h, dnsmessage.MXResource{Pref: rec.mx.Preference, MX: name})
	case dns.PTR:
		return b.PTRResource(h, dnsmessage.PTRResource{PTR: name})
	}
	return b.CNAMEResource(h, dnsmessage.CNAMEResource{CNAME: name})
}

// wire returns name with the dot at its end.
func wire(name string) string { return strings.TrimSuffix(name, ".") + "." }
