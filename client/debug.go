package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strconv"
	"sync"
	"unicode/utf8"

	"smtpkit.example/smtp/proto"
)

// DebugTrace returns a Trace that prints the dialogue to w, a line for each event:
//
//	1 connected to 192.0.2.1:587
//	1 S: 220 mail.example.org ready
//	1 C: EHLO client.example.org
//	1 S: 250 mail.example.org\nPIPELINING\nSTARTTLS
//	1 C: STARTTLS
//	1 S: 220 go on
//	1 TLS 1.3, TLS_AES_128_GCM_SHA256, certificate verified
//	…
//	1 C: AUTH PLAIN ***
//	1 S: 235 2.7.0 welcome
//	…
//	1 content of 512 octets: 250
//	1 closed
//
// The number is that of the connection: the first one that the Trace sees is 1. C is the client, S the server. The
// lines of a reply are separated by \n. Octets that do not print are escaped as in Go, so the server cannot make up
// lines or move the cursor of a terminal. There are no times.
//
// Secrets and content are not printed, as with any [Trace]; addresses are. Each line is one Write, and there is one at
// a time, also if several clients share the Trace. Errors of w are ignored. For a log that outlives the debugging use
// [LogTrace].
func DebugTrace(w io.Writer) *Trace {
	p := &printer{w: w}
	return &Trace{
		Connected: func(_ context.Context, c *Client) { p.print(c, "connected to %s", addrText(c)) },
		Secured: func(_ context.Context, c *Client, state tls.ConnectionState) {
			verified := "certificate not verified"
			if c.Verified() {
				verified = "certificate verified"
			}
			p.print(c, "%s, %s, %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), verified)
		},
		Command: func(_ context.Context, c *Client, verb, args string) { p.print(c, "C: %s", words(verb, args)) },
		Reply: func(_ context.Context, c *Client, _ string, r proto.Reply) {
			p.print(c, "S: %d %s", r.Code, words(r.Status.String(), r.Text))
		},
		Content: func(_ context.Context, c *Client, octets int64, r proto.Reply) {
			p.print(c, "content of %d octets: %d", octets, r.Code)
		},
		Closed: func(_ context.Context, c *Client, err error) {
			if err == nil {
				p.print(c, "closed")
			} else {
				p.print(c, "closed: %s", err.Error())
			}
			p.conns.forget(c)
		},
	}
}

// words joins two words, either of which may be missing.
func words(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " " + b
}

// addrText returns the address of the server, "" if the connection does not know it.
func addrText(c *Client) string {
	addr := c.RemoteAddr()
	if addr == nil {
		return ""
	}
	if text := addr.String(); addr.Network() == "unix" {
		return "unix:" + text
	} else {
		return text
	}
}

// A printer prints lines for several clients.
type printer struct {
	conns numbers
	mu    sync.Mutex
	w     io.Writer
	line  []byte
}

// print prints a line about the connection that c has.
func (p *printer) print(c *Client, format string, args ...any) {
	n := p.conns.of(c)
	text := fmt.Sprintf(format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = strconv.AppendInt(p.line[:0], int64(n), 10)
	p.line = append(p.line, ' ')
	p.line = bytes.TrimRight(appendPrintable(p.line, text), " ")
	p.line = append(p.line, '\n')
	_, _ = p.w.Write(p.line)
}

// appendPrintable appends text, in which what does not print is escaped as in Go.
func appendPrintable(dst []byte, text string) []byte {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\\', r == utf8.RuneError && n == 1, !strconv.IsPrint(r):
			quoted := strconv.Quote(text[i : i+n])
			dst = append(dst, quoted[1:len(quoted)-1]...)
		default:
			dst = append(dst, text[i:i+n]...)
		}
		i += n
	}
	return dst
}

// The numbers of connections are those in the order in which they were made. The zero value is ready to use.
type numbers struct {
	mu   sync.Mutex
	last int
	is   map[*Client]int
}

// of returns the number of the connection that c has. It begins with the first call for it, and ends with forget.
func (n *numbers) of(c *Client) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if is, ok := n.is[c]; ok {
		return is
	}
	if n.is == nil {
		n.is = make(map[*Client]int)
	}
	n.last++
	n.is[c] = n.last
	return n.last
}

func (n *numbers) forget(c *Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.is, c)
}

// JoinTraces returns a Trace that calls the functions of each, in the order of the arguments. A Trace that is nil is
// left out.
func JoinTraces(traces ...*Trace) *Trace {
	joined := &Trace{}
	for _, t := range traces {
		if t == nil {
			continue
		}
		joined.Connected = then1(joined.Connected, t.Connected)
		joined.Secured = then2(joined.Secured, t.Secured)
		joined.Command = then3(joined.Command, t.Command)
		joined.Reply = then3(joined.Reply, t.Reply)
		joined.Content = then3(joined.Content, t.Content)
		joined.Message = thenMessage(joined.Message, t.Message)
		joined.Closed = then2(joined.Closed, t.Closed)
	}
	return joined
}

type onMessage = func(context.Context, *Client, *Message) func(*Result, error)

// thenMessage is then1 for the function Message.
func thenMessage(f, g onMessage) onMessage {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(ctx context.Context, c *Client, m *Message) func(*Result, error) {
		first, second := f(ctx, c, m), g(ctx, c, m)
		if first == nil || second == nil {
			return either(first == nil, second, first)
		}
		return func(res *Result, err error) {
			first(res, err)
			second(res, err)
		}
	}
}

// The functions then1, then2 and then3 return a function that calls f and then g, or the one of them that is not nil.

func then1(f, g func(context.Context, *Client)) func(context.Context, *Client) {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(ctx context.Context, c *Client) {
		f(ctx, c)
		g(ctx, c)
	}
}

func then2[A any](f, g func(context.Context, *Client, A)) func(context.Context, *Client, A) {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(ctx context.Context, c *Client, a A) {
		f(ctx, c, a)
		g(ctx, c, a)
	}
}

func then3[A, B any](f, g func(context.Context, *Client, A, B)) func(context.Context, *Client, A, B) {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(ctx context.Context, c *Client, a A, b B) {
		f(ctx, c, a, b)
		g(ctx, c, a, b)
	}
}

func either[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}
