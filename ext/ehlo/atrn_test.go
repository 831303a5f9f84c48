package ehlo

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// provider is a session that keeps mail for example.org and example.com.
type provider struct {
	asked string
	sent  bool
}

func (p *provider) Reverse(_ context.Context, domains []proto.Domain) (func(context.Context, net.Conn) error, error) {
	p.asked = ""
	for _, d := range domains {
		p.asked += d.Name() + " "
	}
	switch strings.TrimSpace(p.asked) {
	case "none.example":
		return nil, ErrNoMail
	case "yours.example":
		return nil, ErrNotYours
	case "unknown.example":
		return nil, errors.New("the database is down")
	case "never.example":
		return nil, proto.Refuse(550, proto.Status{}, "Never")
	case "nothing.example":
		return nil, nil
	}
	return func(context.Context, net.Conn) error { p.sent = true; return nil }, nil
}

func TestAtrnServer(t *testing.T) {
	for _, tt := range []struct {
		name, args string
		user       string
		session    any
		want       string
		asked      string
	}{
		{"W13 not authenticated", "example.org", "", &provider{}, "530 5.7.0 ", ""},
		{"W13 not yours", "yours.example", "u", &provider{}, "450 4.7.1 ", "yours.example "},
		{"W13 no mail", "none.example", "u", &provider{}, "453 4.2.0 ", "none.example "},
		{"W13 no telling", "unknown.example", "u", &provider{}, "not a reply: ", "unknown.example "},
		{"a reply of the session's", "never.example", "u", &provider{}, "550 ", "never.example "},
		{"neither", "nothing.example", "u", &provider{}, "not a reply: ", "nothing.example "},
		{"no provider", "example.org", "u", nil, "502 5.5.1 ", ""},
		{"no provider, not authenticated", "", "", nil, "502 5.5.1 ", ""},
		{"all domains", "", "u", &provider{}, "", ""},
		{"two domains", "example.org,example.com", "u", &provider{}, "", "example.org example.com "},
		{"upper case", "EXAMPLE.ORG", "u", &provider{}, "", "EXAMPLE.ORG "},
		{"space", "example.org, example.com", "u", &provider{}, "501 5.5.4 ", ""},
		{"comma at the end", "example.org,", "u", &provider{}, "501 5.5.4 ", ""},
		{"comma at the beginning", ",example.org", "u", &provider{}, "501 5.5.4 ", ""},
		{"literal", "[192.0.2.1]", "u", &provider{}, "501 5.5.4 ", ""},
		{"not ASCII", "münchen.example", "u", &provider{}, "501 5.5.4 ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake.Server{Conn: fake.ServerState{Session: tt.session, Identity: tt.user}}
			got := f.Serve(t, ATRN(), tt.args)
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("the reply is %q, want %q", got, tt.want)
			}
			p, _ := tt.session.(*provider)
			if p != nil && p.asked != tt.asked {
				t.Errorf("the session was asked for %q, want %q", p.asked, tt.asked)
			}
			if reversed := p != nil && p.sent; reversed != (tt.want == "") {
				t.Errorf("reversed is %t", reversed)
			}
			if tt.want == "" && (len(f.Sent) != 1 || f.Sent[0].Code != 250) {
				t.Errorf("the roles were reversed after %v", f.Sent)
			}
		})
	}
}

func TestAtrnOffer(t *testing.T) {
	set := testkit.MakeSet(t, ATRN())
	if _, lines := set.Offer(fake.NewServer(&provider{})); len(lines) != 1 || lines[0] != "ATRN" {
		t.Errorf("a provider offers %q", lines)
	}
	if _, lines := set.Offer(&fake.Server{}); len(lines) != 0 {
		t.Errorf("a session that is none offers %q", lines)
	}
	v := set.Table().Lookup("ATRN")
	if next, ok := v.After(proto.Ready, 250); !ok || next != proto.Handover {
		t.Errorf("250 leads to %v, %t", next, ok)
	}
	if v.In != proto.Ready || !v.Last {
		t.Errorf("ATRN may come in %v, and end a group is %t", v.In, v.Last)
	}
}

func TestAtrnClient(t *testing.T) {
	domain := func(s string) proto.Domain {
		d, err := proto.ParseDomain(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	ours := errors.New("the queue is on fire")
	for _, tt := range []struct {
		name    string
		domains []proto.Domain
		code    int
		serve   error
		sent    string
		want    error // that the error wraps
		served  bool
	}{
		{"all domains", nil, 250, nil, "ATRN", nil, true},
		{"two domains", []proto.Domain{domain("example.org"), domain("MÜNCHEN.example")}, 250, nil,
			"ATRN example.org,xn--mnchen-3ya.example", nil, true},
		{"serving fails", nil, 250, ours, "ATRN", ours, true},
		{"no mail", nil, 453, nil, "ATRN", ErrNoMail, false},
		{"not yours", nil, 450, nil, "ATRN", ErrNotYours, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			c := &fake.Client{Replies: []proto.Reply{{Code: tt.code, Text: "so it is"}}, NetConn: near}
			served := false
			err := SendATRN(t.Context(), c, tt.domains, func(_ context.Context, conn net.Conn) error {
				served = conn == near
				return tt.serve
			})
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("the error is %v, want %v", err, tt.want)
			}
			if len(c.Sent) != 1 || c.Sent[0] != tt.sent {
				t.Errorf("sent %q, want %q", c.Sent, tt.sent)
			}
			if served != tt.served || c.Next != nil {
				t.Errorf("served is %t, and the session goes on with %v", served, c.Next)
			}
			if e, ok := grammar.AsType[*proto.Error](err); tt.code != 250 && (!ok || e.Code != tt.code) {
				t.Errorf("the error does not tell the reply: %v", err)
			}
		})
	}
	c := &fake.Client{}
	for _, bad := range []proto.Domain{{}, domain("[192.0.2.1]")} {
		if err := SendATRN(t.Context(), c, []proto.Domain{bad}, nil); err == nil || len(c.Sent) != 0 {
			t.Errorf("asked for the mail of %q: %v, sent %q", bad, err, c.Sent)
		}
	}
}
