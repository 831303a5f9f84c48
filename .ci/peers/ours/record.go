package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A record is what went on over one connection.
type record struct {
	Peer     string      `json:"peer"`   // whoever has connected
	Remote   string      `json:"remote"` // for whom it speaks
	Local    string      `json:"local"`  // what that one has connected to
	TLS      string      `json:"tls"`    // the version, "" in clear
	Hello    string      `json:"hello"`
	Identity string      `json:"identity"`
	Origin   *ext.Origin `json:"origin"` // what XCLIENT told
	Guest    string      `json:"guest"`  // what an anonymous client wants to be traced by
	Messages []*message  `json:"messages"`
	Dialogue []string    `json:"dialogue"`
	Error    string      `json:"error"` // "" after QUIT
}

// A message is one that came to its end.
type message struct {
	From    string            `json:"from"`
	Params  map[string]string `json:"params"`
	To      []recipient       `json:"to"`
	Content []byte            `json:"content"`
	Origin  *ext.Origin       `json:"origin"` // what XFORWARD told
}

type recipient struct {
	Address string            `json:"address"`
	Params  map[string]string `json:"params"`
}

func params(p proto.Params) map[string]string {
	m := make(map[string]string, len(p))
	for _, param := range p {
		m[param.Key] = param.Value
	}
	return m
}

// A recorder writes the record of each connection when it ends.
type recorder struct {
	mu   sync.Mutex
	out  *json.Encoder
	open map[*server.Conn]*record
}

func newRecorder(w io.Writer) *recorder {
	return &recorder{out: json.NewEncoder(w), open: make(map[*server.Conn]*record)}
}

// of returns the record of a connection, which only the goroutine of the connection uses.
func (r *recorder) of(c *server.Conn) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[c] == nil {
		r.open[c] = new(record)
	}
	return r.open[c]
}

func (r *recorder) write(rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.out.Encode(rec)
}

// rejected records a connection that had no PROXY header, or not a good one.
func (r *recorder) rejected(proxy net.Addr, err error) {
	r.write(&record{Peer: proxy.String(), Error: "PROXY: " + err.Error()})
}

// trace keeps the dialogues.
func (r *recorder) trace() *server.Trace {
	return &server.Trace{
		Command: func(_ context.Context, c *server.Conn, verb, args string) {
			if verb == "" {
				return // a line of an exchange
			}
			rec := r.of(c)
			rec.Dialogue = append(rec.Dialogue, "C: "+strings.TrimSpace(verb+" "+strings.TrimSuffix(args, "***")))
		},
		Reply: func(_ context.Context, c *server.Conn, _ string, p proto.Reply) {
			if p.Text == "***" {
				return // it carries an exchange on
			}
			rec := r.of(c)
			rec.Dialogue = append(rec.Dialogue, "S: "+show(p))
		},
		Closed: func(_ context.Context, c *server.Conn, err error) {
			rec := r.of(c)
			rec.Peer, rec.Remote, rec.Local = c.PeerAddr().String(), c.RemoteAddr().String(), c.LocalAddr().String()
			rec.Hello, rec.Identity, rec.Origin = c.Hello(), c.Identity(), c.Origin()
			if s := c.TLS(); s != nil {
				rec.TLS = tls.VersionName(s.Version)
			}
			if err != nil {
				rec.Error = err.Error()
			}
			r.write(rec)
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.open, c)
		},
	}
}

func show(p proto.Reply) string {
	text := fmt.Sprint(p.Code)
	if !p.Status.IsZero() {
		text += " " + p.Status.String()
	}
	return text + " " + p.Text
}
