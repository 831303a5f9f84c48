package client

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

// TestSendAllRandom sends streams to a server that refuses at random, and holds what it says of each message against what
// the client reports. The server keeps its own state, by the rules of RFC 5321 and RFC 3030, and cuts what it says at random.
func TestSendAllRandom(t *testing.T) {
	for seed := range uint64(15) {
		for _, keywords := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}, {"CHUNKING"}} {
			rnd := rand.New(rand.NewPCG(seed, 1))
			here, there := net.Pipe()
			s := &moody{rnd: rnd, conn: here, in: &lineReader{r: here}, took: map[string][]string{}}
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer here.Close()
				s.serve(keywords)
			}()
			c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]string{}
			n := 0
			msgs := func(yield func(*Message) bool) {
				for i := range 30 {
					size := []int{0, 10, 3000, blockSize, 3 * blockSize}[i*7%5]
					body := fmt.Sprintf("%d\r\n", i) + strings.Repeat("x", size) + "\r\n"
					m := message(body, fmt.Sprintf("a%d@d.example", i), fmt.Sprintf("b%d@d.example", i))
					if !yield(m) {
						return
					}
				}
			}
			err = c.SendAll(context.Background(), msgs, func(m *Message, res *Result, err error) bool {
				for _, r := range res.Recipients {
					if r.Err == nil {
						want[fmt.Sprint(n)] = append(want[fmt.Sprint(n)], r.Address.String())
					}
				}
				n++
				return true
			})
			if err != nil || n != 30 {
				t.Fatalf("seed %d, %v: %d reported, %v", seed, keywords, n, err)
			}
			c.Close()
			<-done
			if got, want := fmt.Sprint(s.took), fmt.Sprint(want); got != want {
				t.Fatalf("seed %d, %v: the server took\n%s\nand the client says\n%s", seed, keywords, got, want)
			}
		}
	}
}

// moody is a server that refuses at random.
type moody struct {
	rnd  *rand.Rand
	conn net.Conn
	in   *lineReader

	state string // "", "mail", "rcpt", "chunks" or "broken"
	to    []string
	body  strings.Builder
	took  map[string][]string // recipients by the first line of the message
}

func (s *moody) say(text string) {
	text += "\r\n"
	cut := s.rnd.IntN(len(text))
	io.WriteString(s.conn, text[:cut])
	io.WriteString(s.conn, text[cut:])
}

func (s *moody) reset() {
	s.state, s.to = "", nil
	s.body.Reset()
}

func (s *moody) serve(keywords []string) {
	s.say("220 mail.example")
	for {
		line, err := s.in.line()
		if err != nil {
			return
		}
		verb, args, _ := strings.Cut(line, " ")
		refuse := s.rnd.IntN(6) == 0
		switch verb {
		case "EHLO":
			for _, k := range append([]string{"mail.example"}, keywords...) {
				s.say("250-" + k)
			}
			s.say("250 XEND")
		case "QUIT":
			s.say("221 bye")
			return
		case "RSET":
			s.reset()
			s.say("250 ok")
		case "MAIL":
			s.mail(refuse)
		case "RCPT":
			s.rcpt(args, refuse)
		case "DATA":
			s.data(refuse)
		case "BDAT":
			s.bdat(args, refuse)
		default:
			s.say("500 what")
		}
	}
}

func (s *moody) mail(refuse bool) {
	switch {
	case s.state != "":
		s.say("503 nested")
	case refuse:
		s.say("450 no")
	default:
		s.state = "mail"
		s.say("250 ok")
	}
}

func (s *moody) rcpt(args string, refuse bool) {
	switch {
	case s.state != "mail" && s.state != "rcpt":
		s.say("503 no MAIL")
	case refuse:
		s.say("550 no")
	default:
		s.state = "rcpt"
		s.to = append(s.to, strings.Trim(strings.TrimPrefix(args, "TO:"), "<>"))
		s.say("250 ok")
	}
}

func (s *moody) data(refuse bool) {
	if s.state != "rcpt" && (s.state != "mail" || s.rnd.IntN(2) == 0) {
		s.say("503 no recipients")
		return
	}
	if s.state == "rcpt" && refuse {
		s.say("451 no")
		return
	}
	s.say("354 go on")
	for {
		line, err := s.in.raw()
		if err != nil || line == ".\r\n" {
			break
		}
		s.body.WriteString(line)
	}
	s.finish(s.rnd.IntN(6) == 0)
}

func (s *moody) bdat(args string, refuse bool) {
	var n int64
	fmt.Sscan(args, &n)
	s.in.copy(&s.body, n)
	switch {
	case s.state != "rcpt" && s.state != "chunks":
		s.say("503 no")
	case refuse:
		s.state = "broken"
		s.say("554 no")
	case strings.HasSuffix(args, " LAST"):
		s.finish(false)
	default:
		s.state = "chunks"
		s.say("250 ok")
	}
}

// finish ends a message.
func (s *moody) finish(refuse bool) {
	to, body := s.to, s.body.String()
	s.reset()
	if len(to) == 0 {
		s.say("554 no recipients")
		return
	}
	if refuse {
		s.say("554 no")
		return
	}
	name, _, _ := strings.Cut(body, "\r\n")
	s.took[name] = append(s.took[name], to...)
	s.say("250 ok")
}
