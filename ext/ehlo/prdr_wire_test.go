package ehlo_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// picky is a session in which recipients with "no" in their names refuse spam.
type picky struct {
	witnessSession
	to []string
}

func (s *picky) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	if to.Local == "unknown" {
		return proto.Refuse(550, proto.Status{}, "no such user")
	}
	s.to = append(s.to, to.Local)
	return nil
}

func (s *picky) DataEach(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	body, err := io.ReadAll(r)
	for i, name := range s.to {
		if strings.Contains(string(body), "spam") && strings.Contains(name, "no") {
			result(i, proto.Reply{}, proto.Refuse(550, proto.Status{5, 7, 1}, name+" wants no spam"))
		}
	}
	return err
}

func (s *picky) Reset(context.Context) { s.to = nil }

// TestW16_PRDR has our client send to our server messages that some recipients accept and others refuse, in one
// transaction.
func TestW16_PRDR(t *testing.T) {
	list := append(ehlo.Default(), ehlo.PRDR())
	backend := server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		return &picky{witnessSession: witnessSession{w: &witness{}, conn: c}}, nil
	})
	addr := listening(t, backend, server.Options{Extensions: list})
	for _, without := range [][]string{nil, {"CHUNKING", "BINARYMIME"}, {"PIPELINING"}, {"PRDR"}} {
		t.Run(fmt.Sprint("without ", without), func(t *testing.T) {
			var replies []string
			c, err := client.Dial(t.Context(), addr, &client.Options{
				Extensions: list, TLS: ext.TLSInsecureNone, Without: without,
				Trace: &client.Trace{Reply: func(_ context.Context, _ *client.Client, _ string, r proto.Reply) {
					replies = append(replies, fmt.Sprint(r.Code))
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			each := len(without) == 0 || without[0] != "PRDR"
			for _, tt := range []struct {
				body string
				to   []string
				want string // the outcomes
				end  string // the replies to the content
			}{
				{"spam", []string{"yes@d.example", "no@d.example", "unknown@d.example", "yes2@d.example"}, "250 550 550 250", "353 250 550 250 250"},
				{"spam", []string{"no@d.example", "no2@d.example"}, "550 550", "353 550 550 550"},
				{"ham", []string{"no@d.example", "yes@d.example"}, "250 250", "353 250 250 250"},
				{"ham", []string{"yes@d.example"}, "250", "250"},
			} {
				m, err := client.NewMessage("a@b.example", tt.to, strings.NewReader(tt.body+"\r\n"))
				if err != nil {
					t.Fatal(err)
				}
				replies = nil
				res, err := c.Send(t.Context(), m)
				var got []string
				for _, r := range res.Recipients {
					got = append(got, fmt.Sprint(r.Reply.Code))
					if (r.Err == nil) != (r.Reply.Code == 250) {
						t.Errorf("%v: %v, %v", r.Address, r.Reply, r.Err)
					}
				}
				if (err == nil) == strings.Contains(tt.want, "550") && each {
					t.Errorf("%s to %v: %v", tt.body, tt.to, err)
				}
				if !each {
					if strings.Contains(strings.Join(replies, " "), "353") {
						t.Errorf("without it the replies are %v", replies)
					}
					continue
				}
				if strings.Join(got, " ") != tt.want {
					t.Errorf("%s to %v: %v, want %s", tt.body, tt.to, got, tt.want)
				}
				all := strings.Join(replies, " ")
				reset := " 250" // where chunks were refused RSET follows
				if !strings.HasSuffix(all, " "+tt.end) && !strings.HasSuffix(all, " "+tt.end+reset) {
					t.Errorf("%s to %v: the replies are %s, want %s at the end", tt.body, tt.to, all, tt.end)
				}
			}
		})
	}
}
