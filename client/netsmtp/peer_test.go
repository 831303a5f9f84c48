package netsmtp_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
)

// A peer is a server on loopback that is written without the library. It takes one session after the other, and tells
// what it was told.
type peer struct {
	offers      []string          // keywords in the reply to EHLO; nil means that it knows HELO only
	certificate *tls.Certificate  // for STARTTLS, which is then offered
	replies     map[string]string // by the beginning of a command; "content" is for content, "" for the greeting

	sessions chan session
}

// A session is what a peer was told.
type session struct {
	Hello    string // the argument of EHLO or HELO
	TLS      bool   // for the message
	Auth     string // the arguments of AUTH and the lines after it
	From     string
	Params   string // of MAIL
	To       []string
	Content  string // with the dots taken out
	Accepted bool
}

// start makes p listen on loopback, and returns the address and what ends it.
func (p *peer) start() (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	p.sessions = make(chan session, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.sessions <- p.serve(conn)
		}
	}()
	return l.Addr().String(), func() {
		l.Close()
		<-done
	}
}

// pretend starts a peer for an example, with replies that are not the usual ones.
func pretend(replies map[string]string) (addr string, stop func()) {
	p := peer{offers: usual, replies: replies}
	return p.start()
}

// serve returns what was said up to the end of the connection.
func (p *peer) serve(conn net.Conn) (s session) {
	defer func() { conn.Close() }()
	in := bufio.NewReader(conn)
	say := func(reply string) { fmt.Fprintf(conn, "%s\r\n", strings.ReplaceAll(reply, "\n", "\r\n")) }
	line := func() string {
		text, err := in.ReadString('\n')
		if err != nil {
			return "QUIT"
		}
		return strings.TrimSuffix(text, "\r\n")
	}
	reply := func(command, usual string) bool {
		longest := -1
		for prefix, r := range p.replies {
			if strings.HasPrefix(command, prefix) && len(prefix) > longest && (prefix != "" || command == "") {
				longest, usual = len(prefix), r
			}
		}
		say(usual)
		return usual[0] < '4'
	}
	if !reply("", "220 peer.example") {
		return s
	}
	mailed := false
	for {
		command := line()
		verb, args, _ := strings.Cut(command, " ")
		switch verb {
		case "EHLO":
			s.Hello = args
			if reply(command, p.hello(s.TLS)) && p.offers == nil {
				panic("a server without EHLO takes it")
			}
		case "HELO":
			s.Hello = args
			reply(command, "250 peer.example")
		case "STARTTLS":
			if reply(command, "220 go") {
				conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*p.certificate}})
				in = bufio.NewReader(conn)
				s = session{TLS: true}
			}
		case "AUTH":
			s.Auth = args
			if strings.HasPrefix(args, "CRAM-MD5") {
				say("334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
				s.Auth += " " + line()
			}
			reply(command, "235 ok")
		case "MAIL":
			s.From, s.Params, _ = strings.Cut(strings.TrimPrefix(args, "FROM:"), " ")
			mailed = reply(command, "250 ok")
		case "RCPT":
			if !mailed {
				say("503 from whom?")
			} else if reply(command, "250 ok") {
				s.To = append(s.To, strings.TrimPrefix(args, "TO:"))
			}
		case "DATA":
			if len(s.To) == 0 {
				say("503 nobody to send it to")
				continue
			}
			if reply(command, "354 go") {
				s.Content = readContent(in)
				s.Accepted = reply("content", "250 ok")
			}
		case "QUIT":
			reply(command, "221 bye")
			return s
		default:
			reply(command, "250 ok")
		}
	}
}

// hello is the reply to EHLO.
func (p *peer) hello(inTLS bool) string {
	if p.offers == nil {
		return "500 what?"
	}
	text := "250-peer.example\n"
	for _, keyword := range p.offers {
		text += "250-" + keyword + "\n"
	}
	if p.certificate != nil && !inTLS {
		text += "250-STARTTLS\n"
	}
	return text + "250 HELP"
}

// readContent reads the lines up to the dot (RFC 5321 section 4.5.2).
func readContent(in *bufio.Reader) string {
	var b strings.Builder
	for {
		text, err := in.ReadString('\n')
		if text == ".\r\n" || err != nil {
			return b.String()
		}
		b.WriteString(strings.TrimPrefix(text, "."))
	}
}
