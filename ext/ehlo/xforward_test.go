package ehlo

import (
	"context"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// recorder is a session that records origins.
type recorder struct {
	o   ext.Origin
	err error
}

func (r *recorder) RecordOrigin(_ context.Context, o ext.Origin) error {
	r.o.Merge(o)
	return r.err
}

func TestXforwardServer(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string // the last reply
		o    ext.Origin
	}{
		{"one command", []string{"NAME=c.example ADDR=192.0.2.9 PORT=1025 PROTO=ESMTP HELO=h.example IDENT=4XyZ SOURCE=REMOTE"}, "",
			ext.Origin{Name: "c.example", Addr: "192.0.2.9", Port: "1025", Protocol: "ESMTP", Hello: "h.example", Ident: "4XyZ", Source: "REMOTE"}},
		{"two commands", []string{"NAME=c.example HELO=x", "HELO=h.example"}, "", ext.Origin{Name: "c.example", Hello: "h.example"}},
		{"IPv6", []string{"ADDR=IPV6:2001:DB8::1"}, "", ext.Origin{Addr: "2001:db8::1"}},
		{"not an IP address", []string{"ADDR=host!user PROTO=UUCP NAME=not+20a+20host"}, "",
			ext.Origin{Addr: "host!user", Protocol: "UUCP", Name: "not a host"}},
		{"unavailable", []string{"NAME=[UNAVAILABLE] source=local"}, "", ext.Origin{Name: ext.Unavailable, Source: "LOCAL"}},
		{"Z161 CRLF", []string{"HELO=a+0D+0Ab"}, "501", ext.Origin{}},
		{"of XCLIENT", []string{"LOGIN=admin"}, "501", ext.Origin{}},
		{"source", []string{"SOURCE=MARS"}, "501", ext.Origin{}},
		{"nothing", []string{""}, "501", ext.Origin{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{}
			f := &fake.Server{Conn: fake.ServerState{PeerAddr: proxy, Session: r}}
			got := ""
			for _, args := range tt.args {
				got = f.Serve(t, XFORWARD(proxies...), args)
			}
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("the reply is %q, want %q", got, tt.want)
			}
			if r.o != tt.o {
				t.Errorf("recorded %+v, want %+v", r.o, tt.o)
			}
		})
	}
}

func TestXforwardNot(t *testing.T) {
	set := testkit.MakeSet(t, XFORWARD(proxies...))
	offers := func(f *fake.Server) bool { _, lines := set.Offer(f); return len(lines) > 0 }

	none := &fake.Server{Conn: fake.ServerState{PeerAddr: proxy}}
	if got := none.Serve(t, XFORWARD(proxies...), "NAME=x"); !strings.HasPrefix(got, "502 5.5.1 ") || offers(none) {
		t.Errorf("where origins are not recorded: %q, offered is %t", got, offers(none))
	}
	// A proxy that speaks for another client since XCLIENT is refused.
	other := &fake.Server{Conn: fake.ServerState{PeerAddr: proxy, Session: &recorder{}, Origin: &ext.Origin{Name: "c.example"}}}
	if got := other.Serve(t, XFORWARD(proxies...), "NAME=x"); !strings.HasPrefix(got, "550 5.7.1 ") || offers(other) {
		t.Errorf("after XCLIENT: %q, offered is %t", got, offers(other))
	}
	refuses := &fake.Server{Conn: fake.ServerState{PeerAddr: proxy, Session: &recorder{err: proto.Refuse(450, proto.Status{}, "not now")}}}
	if got := refuses.Serve(t, XFORWARD(proxies...), "NAME=x"); !strings.HasPrefix(got, "450 ") {
		t.Errorf("the session's refusal is %q", got)
	}
}

func TestXforwardClient(t *testing.T) {
	all := "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
	long := strings.Repeat("n", maxAttribute)
	for _, tt := range []struct {
		name, offer string
		o           ext.Origin
		want        string
		fails       bool
	}{
		{"all", all, ext.Origin{Name: "n", Addr: "2001:db8::1", Port: "5", Protocol: "ESMTP", Hello: "a b", Ident: "x", Source: "LOCAL"},
			"XFORWARD NAME=n ADDR=IPV6:2001:db8::1 PORT=5 PROTO=ESMTP HELO=a+20b IDENT=x SOURCE=LOCAL", false},
		{"left out", "XFORWARD NAME", ext.Origin{Name: "n", Addr: "192.0.2.1", Login: "bob"}, "XFORWARD NAME=n", false},
		{"login is not its business", all + " LOGIN", ext.Origin{Login: "bob"}, "", false},
		{"two commands", all, ext.Origin{Name: long, Hello: long, Ident: "x"}, "XFORWARD NAME=" + long + " | XFORWARD HELO=" + long + " IDENT=x", false},
		{"nothing", all, ext.Origin{}, "", false},
		{"control character", all, ext.Origin{Hello: "a\r\nb"}, "", true},
		{"too long encoded", all, ext.Origin{Hello: strings.Repeat("+", maxAttribute)}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &fake.Client{Conn: fake.ClientState{Caps: fake.Caps(tt.offer)}, Replies: []proto.Reply{{Code: 250}, {Code: 250}}}
			err := SendXFORWARD(t.Context(), c, tt.o)
			if got := strings.Join(c.Sent, " | "); got != tt.want || (err != nil) != tt.fails {
				t.Errorf("sent %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	c := &fake.Client{Conn: fake.ClientState{Caps: fake.Caps(all)}, Replies: []proto.Reply{{Code: 501, Text: "no"}}}
	err := SendXFORWARD(t.Context(), c, ext.Origin{Name: "n"})
	if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != 501 || e.Verb != "XFORWARD" {
		t.Errorf("refused: %v", err)
	}
}
