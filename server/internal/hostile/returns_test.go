package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A hasty is a session that returns after the first octets of the message, without having read the others. The second
// message it takes as it should.
type hasty struct {
	enterer
	read int
	err  error
	done bool
}

func (s *hasty) Data(ctx context.Context, r io.Reader) error {
	if s.done {
		return s.enterer.Data(ctx, r)
	}
	s.done = true
	_, err := io.CopyN(io.Discard, r, int64(s.read))
	return cmpErr(err, s.err)
}

// A hastyEach is a hasty that decides for each recipient, and is wrong about them.
type hastyEach struct{ hasty }

func (s *hastyEach) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	if s.done {
		return (&sorter{s.enterer}).DataEach(ctx, r, result)
	}
	err := s.Data(ctx, r)
	if s.read > 0 && s.err == nil {
		result(0, proto.Reply{}, nil)
		result(0, proto.Reply{}, errors.New("twice"))
	}
	time.AfterFunc(time.Second, func() { result(0, proto.Reply{}, errors.New("too late")) })
	return err
}

// TestReturnsEarly has a session return before it has read the message. The client gets one reply for the message, or
// one for each recipient, and what is left of the message is never taken for commands. The next message is delivered
// just once.
func TestReturnsEarly(t *testing.T) {
	const evil = "x\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<alice@d.example>\r\nDATA\r\nevil\r\nQUIT\r\n"
	refusal := proto.Refuse(554, proto.Status{5, 7, 1}, "no")
	for _, p := range []proto.Protocol{proto.SMTP, proto.LMTP} {
		for _, read := range []int{0, 1, 40, len(evil)} {
			for _, r := range []struct {
				name, want string
				err        error
				content    string
			}{
				{"nil", "250 ", nil, evil},
				{"a refusal", "554 5.7.1", refusal, evil},
				{"an error", "451 4.3.0", errors.New("secret"), evil},
				{"421", "421 ", proto.Refuse(421, proto.Status{4, 3, 0}, "go away"), evil},
				{"nil, and the rest is malformed", "554 ", nil, evil + "bare\nLF\r\n"},
				{"nil, and the rest is too large", "552 ", nil, evil + tooLarge},
			} {
				for _, verb := range []string{"DATA", "BDAT", "chunks", "a pipelined group"} {
					t.Run(fmt.Sprintf("%v/%d octets/%s/%s", p, read, r.name, verb), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							playHasty(t, p, hasty{read: read, err: r.err}, verb, r.content, r.want)
						})
					})
				}
			}
		}
	}
}

func playHasty(t *testing.T, p proto.Protocol, s hasty, verb, content, want string) {
	h := &bench{T: t, journal: &journal{}}
	s.journal = h.journal
	h.srv = newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		h.change(func() { h.made++ })
		if p == proto.LMTP {
			return &hastyEach{s}, nil
		}
		return &s, nil
	}), server.Options{Protocol: p, Limits: server.Limits{MessageSize: maxLetter}})
	peer, done := h.dial(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1})
	peer.Expect("220 ")
	peer.Ask(steps(p)[1].line, "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<alice@d.example>", "250")
	const good = "MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@d.example>\r\nBDAT 6 LAST\r\ngood\r\n"
	refusedAtOnce := false
	switch verb {
	case "DATA":
		peer.Ask("DATA", "354")
		peer.Send(content + ".\r\n" + good)
	case "BDAT":
		peer.Send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(content), content))
		peer.Send(good)
	case "chunks":
		const first = 10
		peer.Send(fmt.Sprintf("BDAT %d\r\n%s", first, content[:first]))
		chunk := peer.Reply()
		if refusedAtOnce = chunk[0] != '2'; refusedAtOnce && !strings.HasPrefix(chunk, want) {
			t.Errorf("the server says %q to a chunk, want %q", chunk, want)
		}
		peer.Send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(content)-first, content[first:]))
		if refusedAtOnce && want != "421 " {
			want = "503 " // RFC 3030 section 2: the rest of the message is refused too
			peer.Expect(want)
			peer.Ask("RSET", "250")
		}
		peer.Send(good)
	case "a pipelined group":
		peer.Send(fmt.Sprintf("BDAT %d LAST\r\n%s%s", len(content), content, good))
	}
	if !refusedAtOnce {
		peer.Expect(want)
	}
	if want != "421 " {
		peer.Expect("250", "250", "250")
		peer.Ask("QUIT", "221")
	}
	peer.ExpectEnd()
	<-done
	time.Sleep(2 * time.Second) // for what comes too late
	got := h.take()
	most := 1
	if want == "421 " {
		most = 0
	}
	if n := got.delivered[delivery{"alice", "good\r\n"}]; n != most || len(got.delivered) != n {
		t.Errorf("delivered was %v", got.delivered)
	}
	if got.made != got.closed || got.begun != got.reset || got.begun != 1+most {
		t.Errorf("%d sessions were made and %d closed, %d transactions begun and %d reset",
			got.made, got.closed, got.begun, got.reset)
	}
}
