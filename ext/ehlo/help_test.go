package ehlo

import (
	"context"
	"errors"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

type helper struct{}

func (helper) Help(_ context.Context, topic string) (string, error) {
	if topic == "me" {
		return "", proto.Refuse(504, proto.Status{5, 5, 4}, "Nobody can")
	}
	if topic == "bug" {
		return "", errors.New("bug")
	}
	return "about " + topic + "\nand so on", nil
}

func TestHelp(t *testing.T) {
	table := testkit.MakeSet(t, Default()...).Table()
	for _, tt := range []struct {
		session any
		topic   string
		want    string
	}{
		{1, "", "214-2.0.0 "}, // H07
		{1, "mail", "214 2.0.0 MAIL "},
		{1, "nonsense", "504 5.5.4 "},
		{helper{}, "", "214-2.0.0 about \r\n214 2.0.0 and so on"},
		{helper{}, "x y", "214-2.0.0 about x y\r\n214 2.0.0 and so on"},
		{helper{}, "me", "504 5.5.4 Nobody can"},
		{helper{}, "bug", "not a reply: bug"},
	} {
		x := &fake.Server{Conn: fake.ServerState{Session: tt.session, Table: table}}
		got := x.Serve(t, Help(), tt.topic)
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("HELP %s: %q, want %q", tt.topic, got, tt.want)
		}
		if tt.session == 1 && tt.topic == "" {
			for _, name := range []string{"EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "BDAT", "AUTH"} {
				if !strings.Contains(got, " "+name) {
					t.Errorf("HELP does not list %s: %q", name, got)
				}
			}
		}
	}
}
