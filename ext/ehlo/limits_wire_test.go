package ehlo_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// rationed is a session with a quota that counts what it accepts.
type rationed struct {
	quota ehlo.Quota
	to    []string
	got   *tally
}

// A tally counts messages by recipient and body.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (a *tally) add(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n[what]++
}

func (s *rationed) Quota() *ehlo.Quota                                      { return &s.quota }
func (s *rationed) Mail(context.Context, proto.Address, proto.Params) error { return nil }
func (s *rationed) Reset(context.Context)                                   { s.to = nil }

func (s *rationed) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	s.to = append(s.to, to.String())
	return nil
}

func (s *rationed) Data(_ context.Context, r io.Reader) error {
	body, err := io.ReadAll(r)
	for _, to := range s.to {
		s.got.add(to + " " + string(body))
	}
	return err
}

// TestV08_BothEnds sends messages to a server that states limits and enforces them. Every recipient gets every message
// once, and the server refuses nothing.
func TestV08_BothEnds(t *testing.T) {
	var to []string
	for i := range 40 {
		to = append(to, fmt.Sprintf("r%d@d%d.example", i, i%7))
	}
	for _, tt := range []struct {
		name        string
		quota       ehlo.Quota
		rcpts       int
		connections int32 // how many it takes for one message
	}{
		{"MAILMAX", ehlo.Quota{MailMax: 2}, 100, 1},
		{"RCPTMAX", ehlo.Quota{}, 3, 1},
		{"RCPTDOMAINMAX", ehlo.Quota{RcptDomainMax: 2}, 100, 4},
		{"all", ehlo.Quota{MailMax: 2, RcptDomainMax: 1}, 2, 14},
	} {
		for _, without := range [][]string{nil, {"CHUNKING", "BINARYMIME"}, {"PIPELINING"}} {
			t.Run(fmt.Sprint(tt.name, " without ", without), func(t *testing.T) {
				var connections atomic.Int32
				got := &tally{n: make(map[string]int)}
				addr := listening(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
					connections.Add(1)
					return &rationed{quota: ehlo.Quota{MailMax: tt.quota.MailMax, RcptDomainMax: tt.quota.RcptDomainMax}, got: got}, nil
				}), server.Options{MaxRcpts: tt.rcpts})
				c, err := client.Dial(t.Context(), addr, &client.Options{TLS: ext.TLSInsecureNone, Without: without, Trace: &client.Trace{
					Reply: func(_ context.Context, _ *client.Client, _ string, r proto.Reply) {
						if r.Code >= 400 {
							t.Errorf("the server refused: %v", r)
						}
					},
				}})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				var msgs []*client.Message
				want := make(map[string]int)
				for _, body := range []string{"0\r\n", "1\r\n", "2\r\n", "3\r\n"} {
					m, err := client.NewMessage("a@b.example", to, strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					msgs = append(msgs, m)
					for _, r := range m.To {
						want[r.Address.String()+" "+body] = 1
					}
				}
				if _, err := c.Send(t.Context(), msgs[0]); err != nil {
					t.Error(err)
				}
				if n := connections.Load(); n != tt.connections {
					t.Errorf("the first message took %d connections, want %d", n, tt.connections)
				}
				err = c.SendAll(t.Context(), slices.Values(msgs[1:]), func(_ *client.Message, _ *client.Result, err error) bool {
					if err != nil {
						t.Error(err)
					}
					return true
				})
				if err != nil {
					t.Error(err)
				}
				got.mu.Lock()
				defer got.mu.Unlock()
				if !maps.Equal(got.n, want) {
					t.Errorf("delivered %v", got.n)
				}
			})
		}
	}
}

// TestV10_Limits uses the limits up to the last command, and then exceeds them.
func TestV10_Limits(t *testing.T) {
	session := func() *able { return &able{quota: ehlo.Quota{MailMax: 2, RcptDomainMax: 1}} }
	if got := say(t, session(), Caps); !strings.Contains(got, "LIMITS RCPTMAX=3 MAILMAX=2 RCPTDOMAINMAX=1\r\n") {
		t.Errorf("offered %q", got)
	}
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{[]string{from, "RSET", from}, "250 "},
		{[]string{from, "RSET", from, "RSET", from}, "421 4.7.0 "}, // E12
		{[]string{from, to, "RCPT TO:<e@D.example>"}, "250 "},
		{[]string{from, to, "RCPT TO:<e@f.example>"}, "452 4.5.3 "},
		{[]string{from, to, "RSET", from, "RCPT TO:<e@f.example>"}, "452 4.5.3 "}, // it is for the session
		{[]string{from, to, to, to, to}, "452 4.5.3 "},
	} {
		if got := say(t, session(), append([]string{Caps}, tt.lines...)...); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.lines, got, tt.want)
		}
	}
	// V11: EHLO states the current limits
	if got := sayTo(t, dialIn(), session(), Caps, "ETRN limit.example", Caps); !strings.Contains(got, "MAILMAX=7 ") {
		t.Errorf("after a change: %q", got)
	}
}

func TestRcptMaxReply(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"E10 RCPTMAX", []string{from, to, to, to, to}, "452 4.5.3 "},
	})
}
