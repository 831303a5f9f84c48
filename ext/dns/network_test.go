package dns_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"smtpkit.example/smtp/ext/dns"
)

// A network has name servers in the process, for a bubble of testing/synctest.
type network struct {
	serve func(*query) // called for each query, by a goroutine of its own

	mu      sync.Mutex
	queries []string // "udp 127.0.0.1:53 example.org." in the order of arrival
}

// A query is what a server has got.
type query struct {
	dnsmessage.Message
	network, server string
	raw             []byte
	conn            net.Conn
}

// name returns the name asked for, without the dot.
func (q *query) name() string {
	name := q.Questions[0].Name.String()
	return name[:len(name)-1]
}

// send puts one message on the wire.
func (q *query) send(raw []byte) {
	if q.network == "tcp" {
		raw = append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)
	}
	q.conn.Write(raw)
}

// answer returns the message that a recursive server sends: with AD set, and no records.
func (q *query) answer(answers ...dnsmessage.Resource) *dnsmessage.Message {
	return &dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.ID, Response: true, RecursionDesired: true, RecursionAvailable: true, AuthenticData: true,
		},
		Questions: q.Questions,
		Answers:   answers,
	}
}

// reply packs and sends m, after changes.
func (q *query) reply(m *dnsmessage.Message, change ...func(*dnsmessage.Message)) {
	for _, c := range change {
		c(m)
	}
	raw, err := m.Pack()
	if err != nil {
		panic(err)
	}
	q.send(raw)
}

// rcode replies with a failure.
func (q *query) rcode(code dnsmessage.RCode, options ...dnsmessage.Option) {
	q.reply(q.answer(), func(m *dnsmessage.Message) {
		m.RCode = code
		m.Additionals = []dnsmessage.Resource{opt(options...)}
	})
}

func opt(options ...dnsmessage.Option) dnsmessage.Resource {
	var h dnsmessage.ResourceHeader
	h.SetEDNS0(1232, dnsmessage.RCodeSuccess, true)
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{Options: options}}
}

func resource(name string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}
	return dnsmessage.Resource{Header: h, Body: body}
}

func a(name string, ttl uint32, last byte) dnsmessage.Resource {
	return resource(name, ttl, &dnsmessage.AResource{A: [4]byte{192, 0, 2, last}})
}

func cname(name string, ttl uint32, target string) dnsmessage.Resource {
	return resource(name, ttl, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)})
}

func soa(zone string, ttl, minimum uint32) dnsmessage.Resource {
	name := dnsmessage.MustNewName(zone)
	return resource(zone, ttl, &dnsmessage.SOAResource{NS: name, MBox: name, MinTTL: minimum})
}

// stub returns a Stub in n. The servers are 127.0.0.1, unless opt has others.
func (n *network) stub(t *testing.T, opt dns.Options) *dns.Stub {
	t.Helper()
	if opt.Servers == nil {
		opt.Servers = []string{"127.0.0.1"}
	}
	opt.DialContext = n.dial
	s, err := dns.New(&opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (n *network) dial(_ context.Context, network, address string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		raw := make([]byte, 4096)
		var err error
		if network == "tcp" {
			var size [2]byte
			if _, err = io.ReadFull(server, size[:]); err == nil {
				raw = raw[:binary.BigEndian.Uint16(size[:])]
				_, err = io.ReadFull(server, raw)
			}
		} else {
			var size int
			size, err = server.Read(raw)
			raw = raw[:size]
		}
		q := &query{network: network, server: address, raw: raw, conn: server}
		if err != nil || q.Unpack(raw) != nil {
			return
		}
		n.mu.Lock()
		n.queries = append(n.queries, network+" "+address+" "+q.name())
		n.mu.Unlock()
		n.serve(q)
		io.Copy(io.Discard, server) // until the client closes
	}()
	return client, nil
}

// asked returns what was asked since the last call.
func (n *network) asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := n.queries
	n.queries = nil
	return asked
}
