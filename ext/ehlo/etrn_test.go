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

// starter is a session with queues. It maps each node to a number of messages or an error.
type starter map[string]any

func (s starter) StartQueue(_ context.Context, node Node) (int, error) {
	switch answer := s[node.String()].(type) {
	case int:
		return answer, nil
	case error:
		return 0, answer
	}
	return 0, ErrNotYours
}

var queues = starter{
	"unknown.example": PendingUnknown, "some.example": PendingSome, "none.example": 0, "many.example": 14, "@example.org": 3, "#uucp": 1,
	"broken.example": errors.New("disk on fire"), "own.example": proto.Refuse(450, proto.Status{}, "not now"),
}

// TestW12_ETRN checks the reply codes of RFC 1985 section 5.1.
func TestW12_ETRN(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"unknown.example", "250 2.0.0 OK, queuing for node unknown.example started"},
		{"none.example", "251 2.0.0 OK, no messages waiting for node none.example"},
		{"some.example", "252 2.0.0 OK, pending messages for node some.example started"},
		{"many.example", "253 2.0.0 OK, 14 pending messages for node many.example started"},
		{"@example.org", "253 2.0.0 OK, 3 pending messages for node @example.org started"},
		{"#uucp", "253 2.0.0 OK, 1 pending messages for node #uucp started"},
		{"broken.example", "458 4.3.0 Unable to queue messages for node broken.example"},
		{"@com", "459 4.7.1 Node @com not allowed: "},
		{"own.example", "450 4.2.1 not now"},
		{"", "500 5.5.2 "},
		{"localname", "501 5.5.4 "},
		{"[192.0.2.1]", "501 5.5.4 "}, {"a..b", "501 5.5.4 "}, {"a.example b.example", "501 5.5.4 "}, {"@", "501 5.5.4 "},
		{"#", "501 5.5.4 "}, {"#a b", "501 5.5.4 "}, {"#" + strings.Repeat("q", 256), "501 5.5.4 "}, {"münchen.example", "501 5.5.4 "},
		{"$a.example", "501 5.5.4 "},
	} {
		x := fake.NewServer(testkit.Wrap(queues))
		if got := x.Serve(t, ETRN(), tt.args); got != tt.want && (!strings.HasSuffix(tt.want, " ") || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("ETRN %.40s: %q, want %q", tt.args, got, tt.want)
		}
		if _, err := ETRN().Serve(t.Context(), x); strings.Contains(tt.args, "broken") && !errors.Is(err, queues["broken.example"].(error)) {
			t.Error("the cause is lost to the log")
		}
	}
	if got := (&fake.Server{}).Serve(t, ETRN(), "a.example"); !strings.HasPrefix(got, "502 5.5.1 ") {
		t.Errorf("without queues: %q", got)
	}
}

// TestU04_ETRN: RFC 6409 section 7 forbids ETRN for submission.
func TestU04_ETRN(t *testing.T) {
	for _, tt := range []struct {
		port     int
		protocol proto.Protocol
		offered  bool
	}{{25, proto.SMTP, true}, {2525, proto.SMTP, true}, {587, proto.SMTP, false}, {465, proto.SMTP, false}, {24, proto.LMTP, false}} {
		x := &fake.Server{Conn: fake.ServerState{
			Session: queues, Protocol: tt.protocol, LocalAddr: &net.TCPAddr{Port: tt.port},
		}}
		if _, lines := testkit.MakeSet(t, ETRN()).Offer(x); (len(lines) == 1) != tt.offered {
			t.Errorf("port %d: offered %q", tt.port, lines)
		}
		want := "502 5.5.1 "
		if tt.offered {
			want = "253 2.0.0 "
		}
		if got := x.Serve(t, ETRN(), "many.example"); !strings.HasPrefix(got, want) {
			t.Errorf("port %d: %q, want %s", tt.port, got, want)
		}
	}
}

func TestETRNClient(t *testing.T) {
	for _, tt := range []struct {
		node    Node
		reply   proto.Reply
		line    string
		pending int
		err     error
	}{
		{Node{Name: "a.example"}, proto.Reply{Code: 250, Text: "OK, queuing for node a.example started"}, "ETRN a.example", PendingUnknown, nil},
		{Node{Name: "a.example"}, proto.Reply{Code: 251}, "ETRN a.example", 0, nil},
		{Node{Name: "münchen.example", Below: true}, proto.Reply{Code: 251}, "ETRN @xn--mnchen-3ya.example", 0, nil},
		{Node{Name: "example", Below: true}, proto.Reply{Code: 252}, "ETRN @example", PendingSome, nil},
		{Node{Name: "uucp", Queue: true}, proto.Reply{Code: 253, Text: "OK, 14 pending messages for node #uucp started"}, "ETRN #uucp", 14, nil},
		{Node{Name: "a.example"}, proto.Reply{Code: 253, Text: "Fine"}, "ETRN a.example", PendingSome, nil},
		{Node{Name: "a.example"}, proto.Reply{Code: 459, Text: "no"}, "ETRN a.example", 0, ErrNotYours},
	} {
		c := &fake.Client{Replies: []proto.Reply{tt.reply}}
		pending, err := SendETRN(t.Context(), c, tt.node)
		if pending != tt.pending || !errors.Is(err, tt.err) || len(c.Sent) != 1 || c.Sent[0] != tt.line {
			t.Errorf("%v: %q, %d, %v, want %s, %d, %v", tt.node, c.Sent, pending, err, tt.line, tt.pending, tt.err)
		}
	}
	c := &fake.Client{Replies: []proto.Reply{{Code: 458, Text: "no"}}}
	if e, ok := grammar.AsType[*proto.Error](errOf(SendETRN(t.Context(), c, Node{Name: "a.example"}))); !ok || e.Code != 458 || e.Verb != "ETRN" {
		t.Errorf("a refusal is %v", e)
	}
	for _, n := range []Node{{}, {Name: "local"}, {Name: "a.example b"}, {Name: "@a.example"}, {Name: "a\r\nQUIT", Queue: true}, {Name: "a.example", Queue: true, Below: true}} {
		c := &fake.Client{}
		if err := errOf(SendETRN(t.Context(), c, n)); err == nil || len(c.Sent) != 0 || !strings.HasPrefix(err.Error(), "smtp: ") {
			t.Errorf("%+v: %q is sent, %v", n, c.Sent, err)
		}
	}
}

func errOf(_ int, err error) error { return err }

func FuzzNode(f *testing.F) {
	for _, s := range []string{"a.example", "@com", "#uucp", "", "@", "#", "a b", "[192.0.2.1]", "localname"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := parseNode(s)
		if ok && (n.String() != s || !grammar.Printable(s) || strings.Contains(s, " ") || n.Name == "") {
			t.Fatalf("%q is read as %+v", s, n)
		}
	})
}
