package prototest

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

func smtpTable(t *testing.T) *proto.Table {
	t.Helper()
	table, err := proto.NewTable(proto.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestEveryCut(t *testing.T) {
	in := "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhi\r\n.\r\nFOO\r\nQUIT\r\n"
	outcome := EveryCut(t, smtpTable(t), Accept, []byte(in))
	for _, part := range []string{
		"220 cut.example\r\n", "354 go on\r\n", `content "hi\r\n"`, "500 Command not recognized\r\n", "state Closed, 1 recipients",
	} {
		if !strings.Contains(outcome, part) {
			t.Errorf("no %q in\n%s", part, outcome)
		}
	}
}

// TestAnyCut has a server whose replies do depend on something else than what the client says.
func TestAnyCut(t *testing.T) {
	calls := 0
	_, err := AnyCut(smtpTable(t), func(proto.Event) proto.Reply {
		calls++
		return proto.Reply{Code: 250 + calls%3}
	}, []byte("NOOP\r\nNOOP\r\n"))
	if err == nil || !strings.Contains(err.Error(), "in one piece") {
		t.Errorf("error %v", err)
	}
}
