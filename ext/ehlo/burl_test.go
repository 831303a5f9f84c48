package ehlo

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// imap is a session that resolves a URL by what follows its last slash.
type imap struct {
	asked  string
	closed int
}

func (m *imap) ResolveURL(_ context.Context, url string) (io.ReadCloser, int64, error) {
	m.asked = url
	switch url[strings.LastIndexByte(url, '/')+1:] {
	case "failed":
		return nil, 0, ErrURLFailed
	case "trust":
		return nil, 0, ErrURLTrust
	case "denied":
		return nil, 0, ErrURLDenied
	case "down":
		return nil, 0, errors.New("connection refused")
	case "nothing":
		return nil, 0, nil
	case "big":
		return &letter{strings.NewReader("x"), m}, 1001, nil
	case "unknown":
		return &letter{strings.NewReader("x"), m}, -1, nil
	}
	return &letter{strings.NewReader("hello\r\n"), m}, 7, nil
}

type letter struct {
	io.Reader
	m *imap
}

func (l *letter) Close() error { l.m.closed++; return nil }

func TestBurlServer(t *testing.T) {
	const urlauth = "imap://harry@gryffindor.example.com/outbox;uidvalidity=1078863300/;uid=25;urlauth=submit+harry:internal:91354a473744909de610943775f92038"
	for _, tt := range []struct {
		name, args string
		user       string
		session    any
		want       string // the refusal, "" for none
		asked      string
	}{
		{"RFC 4468", urlauth + " LAST", "harry", &imap{}, "", urlauth},
		{"not last", urlauth, "harry", &imap{}, "", urlauth},
		{"another user's", urlauth + " LAST", "draco", &imap{}, "554 5.7.0 ", ""},
		{"another user's, in another case", strings.ToUpper(urlauth), "harry", &imap{}, "554 5.7.0 ", ""},
		{"encoded", "imap://x/y;URLAUTH=submit+h%61rry:internal:1", "harry", &imap{}, "", "imap://x/y;URLAUTH=submit+h%61rry:internal:1"},
		{"encoded wrongly", "imap://x/y;URLAUTH=submit+%zz:internal:1", "%zz", &imap{}, "501 5.5.4 ", ""},
		{"to be read by anybody", "imap://x/y;urlauth=anonymous:internal:1", "draco", &imap{}, "", "imap://x/y;urlauth=anonymous:internal:1"},
		{"access twice", urlauth + ";urlauth=submit+draco:internal:1", "draco", &imap{}, "501 5.5.4 ", ""},
		{"access of nobody", "imap://x/y;urlauth=", "harry", &imap{}, "501 5.5.4 ", ""},
		{"a host that is not in the list", "imap://z/y", "harry", &imap{}, "554 5.7.8 ", ""},
		{"a port that is not in the list", "imap://x:144/y", "harry", &imap{}, "554 5.7.8 ", ""},
		{"its own port", "imap://x:143/y", "harry", &imap{}, "", "imap://x:143/y"},
		{"lower case", "http://mail.example/x last", "harry", &imap{}, "", "http://mail.example/x"},
		{"size unknown", "imap://x/unknown", "harry", &imap{}, "", "imap://x/unknown"},
		{"failed", "imap://x/failed LAST", "harry", &imap{}, "554 5.6.6 ", "imap://x/failed"},
		{"no trust", "imap://x/trust LAST", "harry", &imap{}, "554 5.7.8 ", "imap://x/trust"},
		{"denied", "imap://x/denied LAST", "harry", &imap{}, "554 5.7.0 ", "imap://x/denied"},
		{"too big", "imap://x/big LAST", "harry", &imap{}, "554 5.3.4 ", "imap://x/big"},
		{"down", "imap://x/down", "harry", &imap{}, "not a reply: ", "imap://x/down"},
		{"neither", "imap://x/nothing", "harry", &imap{}, "not a reply: ", "imap://x/nothing"},
		{"not authenticated", "imap://x/y", "", &imap{}, "530 5.7.0 ", ""},
		{"no resolver", "imap://x/y", "harry", nil, "502 5.5.1 ", ""},
		{"nothing", "", "harry", &imap{}, "501 5.5.4 ", ""},
		{"relative", "/etc/passwd LAST", "harry", &imap{}, "501 5.5.4 ", ""},
		{"only LAST", "LAST", "harry", &imap{}, "501 5.5.4 ", ""},
		{"more", "imap://x/y LAST LAST", "harry", &imap{}, "501 5.5.4 ", ""},
		{"another word", "imap://x/y FIRST", "harry", &imap{}, "501 5.5.4 ", ""},
		{"not ASCII", "imap://x/ü", "harry", &imap{}, "501 5.5.4 ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake.Server{Conn: fake.ServerState{Session: tt.session, Identity: tt.user, MaxSize: 1000}}
			r, err := BURL("imap", "imap://x").Fetch(t.Context(), f, tt.args)
			if got := fake.Refusal(err); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("the refusal is %q, want %q", got, tt.want)
			}
			if (r != nil) != (tt.want == "") {
				t.Errorf("the content is %v", r)
			}
			m, _ := tt.session.(*imap)
			if m != nil && m.asked != tt.asked {
				t.Errorf("the session was asked for %q, want %q", m.asked, tt.asked)
			}
			if tt.name == "too big" && m.closed != 1 {
				t.Error("what was refused was not closed")
			}
		})
	}
}

func TestBurlOffer(t *testing.T) {
	set := testkit.MakeSet(t, EightBitMIME(), BURL("imap", "imap://imap.example.com"))
	for _, tt := range []struct {
		f    *fake.Server
		want string
	}{
		{fake.NewServer(&imap{}), "8BITMIME|BURL imap"},
		{&fake.Server{Conn: fake.ServerState{Session: &imap{}, Identity: "harry"}}, "8BITMIME|BURL imap imap://imap.example.com"},
		{&fake.Server{Conn: fake.ServerState{Identity: "harry"}}, "8BITMIME"},
	} {
		tt.f.Conn.LocalAddr = &net.TCPAddr{Port: 587}
		if _, lines := set.Offer(tt.f); strings.Join(lines, "|") != tt.want {
			t.Errorf("offered %q, want %s", lines, tt.want)
		}
	}
	if _, err := ext.NewSet(proto.SMTP, []ext.Extension{BURL()}); err == nil {
		t.Error("BURL without 8BITMIME (RFC 4468 section 4)")
	}
}

// TestBurlVerb checks the states: a refused part spoils the message, and the last part ends it.
func TestBurlVerb(t *testing.T) {
	v := testkit.MakeSet(t, EightBitMIME(), BURL()).Table().Lookup("BURL")
	last := v.Variant([]byte("imap://x/y LAST"))
	if last == nil || v.Variant([]byte("imap://x/LAST")) != nil {
		t.Fatal("the last part is not told from others")
	}
	for _, tt := range []struct {
		v    *proto.Verb
		now  proto.State
		code int
		want proto.State
	}{
		{v, proto.Rcpt, 250, proto.Chunks}, {v, proto.Chunks, 250, proto.Chunks}, {v, proto.Rcpt, 554, proto.Broken},
		{last, proto.Rcpt, 250, proto.Ready}, {last, proto.Chunks, 250, proto.Ready}, {last, proto.Chunks, 451, proto.Ready},
	} {
		if next, ok := tt.v.After(tt.now, tt.code); !ok || next != tt.want {
			t.Errorf("%d in %v leads to %v, want %v", tt.code, tt.now, next, tt.want)
		}
	}
	if !last.Last || !last.Ends() || v.In&proto.Mail != 0 {
		t.Error("the row does not follow RFC 4468 section 3.2")
	}
}

func TestBurlClient(t *testing.T) {
	for _, tt := range []struct {
		url  string
		last bool
		want string
	}{
		{"imap://x/y", false, "BURL imap://x/y"},
		{"imap://x/y", true, "BURL imap://x/y LAST"},
		{"x/y", true, ""},
		{"imap://x/y z", true, ""},
		{"imap://x/ü", true, ""},
		{"imap://x/y\r\nRSET", true, ""},
	} {
		c := &fake.Client{Replies: []proto.Reply{{Code: 250}}}
		err := SendBURL(t.Context(), c, tt.url, tt.last)
		if got := strings.Join(c.Sent, "|"); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: sent %q, %v", tt.url, got, err)
		}
	}
	c := &fake.Client{Replies: []proto.Reply{{Code: 554, Status: proto.Status{5, 6, 6}, Text: "no"}}}
	if err := SendBURL(t.Context(), c, "imap://x/y", true); err == nil || err.Error() != "smtp: BURL: 554 5.6.6 no" {
		t.Errorf("refused: %v", err)
	}
}

// FuzzBURL checks that both sides and the engine agree on which part is the last, and that a client can send any URL
// that a session gets.
func FuzzBURL(f *testing.F) {
	for _, s := range []string{"imap://x/y LAST", "imap://x/y", " LAST", "a:b last", "LAST LAST", "a: LAST LAST"} {
		f.Add(s)
	}
	v := BURL().Verbs[0]
	f.Fuzz(func(t *testing.T, args string) {
		text, last := splitBURL(args)
		if (v.Variant([]byte(args)) != nil) != last {
			t.Fatalf("%q: the engine disagrees", args)
		}
		m := &imap{}
		_, err := BURL().Fetch(t.Context(), &fake.Server{Conn: fake.ServerState{Session: m, Identity: "u"}}, args)
		if m.asked == "" {
			if err == nil {
				t.Fatalf("%q: nobody was asked", args)
			}
			return
		}
		c := &fake.Client{Replies: []proto.Reply{{Code: 250}}}
		if err := SendBURL(t.Context(), c, text, last); err != nil || m.asked != text {
			t.Fatalf("%q: asked for %q, which cannot be sent: %v", args, m.asked, err)
		}
		if again, _ := strings.CutPrefix(c.Sent[0], "BURL "); !strings.EqualFold(again, args) {
			t.Fatalf("%q: sent %q", args, again)
		}
	})
}

// TestU08_Port25: a submission server offers nothing on port 25 that is for submission only. Other servers relay to
// that port, and a client cannot tell what the server is (RFC 4468 section 3.1).
func TestU08_Port25(t *testing.T) {
	for _, port := range []int{25, 587} {
		x := &fake.Server{Conn: fake.ServerState{Session: &imap{}, Identity: "harry", LocalAddr: &net.TCPAddr{Port: port}}}
		_, lines := testkit.MakeSet(t, Submission(SubmissionPolicy{URLs: []string{"imap"}})...).Offer(x)
		if slices.Contains(lines, "BURL imap") != (port == 587) {
			t.Errorf("port %d: offered %q", port, lines)
		}
	}
}
