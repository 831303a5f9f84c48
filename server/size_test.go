package server_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestM01_LimitOfSize: the keyword has the limit for its argument, and none if there is none (RFC 1870 section 4).
func TestM01_LimitOfSize(t *testing.T) {
	for limit, want := range map[int64]string{5000: "SIZE 5000\r\n", -1: "SIZE\r\n", 0: "SIZE 67108864\r\n"} {
		p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{MessageSize: limit}}))
		p.expect("220 ")
		p.send("EHLO client.example\r\n")
		if got := p.reply(); !strings.Contains(got, want) {
			t.Errorf("MaxSize %d: the server says %q, want %q in it", limit, got, want)
		}
		p.quit()
	}
}

// smallDisk is a session with room for 500 octets.
type smallDisk struct{ server.Session }

func (smallDisk) CheckSize(_ context.Context, size int64) error {
	if size > 500 {
		return &proto.Error{Code: 452, Status: proto.Status{4, 3, 1}, Text: "Disk full"}
	}
	return nil
}

// TestM03_NoRoom: the session refuses for now what it has no room for, and the transaction can begin later.
func TestM03_NoRoom(t *testing.T) {
	p := dial(t, newServer(t, server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return smallDisk{discard{}}, nil
	}), server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example> SIZE=501", "452 4.3.1 Disk full", "RCPT TO:<c@d.example>", "503 ",
		"MAIL FROM:<a@b.example> SIZE=500", "250 ")
	p.quit()
}

// TestM05M06_DeclaredSize: what is declared ends nothing. A message that turns out larger is accepted up to the limit.
func TestM05M06_DeclaredSize(t *testing.T) {
	st := &store{}
	p := dial(t, newServer(t, st, server.Options{Limits: server.Limits{MessageSize: 600}}))
	p.hello()
	line := strings.Repeat("x", 98) + "\r\n"
	for lines, want := range map[int]string{5: "250 ", 6: "250 ", 7: "552 5.3.4"} {
		p.ask("MAIL FROM:<a@b.example> SIZE=5", "250 ", "RCPT TO:<c@d.example>", "250 ",
			"DATA", "354 ", strings.Repeat(line, lines)+".", want)
		got := st.messages()
		if stored := len(got) > 0 && got[len(got)-1] == strings.Repeat(line, lines); stored != (want == "250 ") {
			t.Errorf("%d octets are kept as they came: %v", lines*len(line), stored)
		}
	}
	p.quit()
}

// TestM07_SizeForRecipient: a recipient may have less room than others (RFC 1870 section 6.4).
func TestM07_SizeForRecipient(t *testing.T) {
	st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
		switch to.Local {
		case "full":
			return &proto.Error{Code: 452, Status: proto.Status{4, 2, 2}, Text: "Mailbox full"}
		case "small":
			return &proto.Error{Code: 552, Status: proto.Status{5, 2, 3}, Text: "Too large"}
		}
		return nil
	}}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example> SIZE=5000", "250 ",
		"RCPT TO:<full@d.example>", "452 4.2.2 Mailbox full",
		"RCPT TO:<small@d.example>", "552 5.2.3 Too large",
		"RCPT TO:<large@d.example>", "250 ", "DATA", "354 ", "text\r\n.", "250 ")
	p.quit()
}

// TestM11_EightBit: all octets of a message arrive as they were sent, in lines of 998 octets and in longer ones.
func TestM11_EightBit(t *testing.T) {
	var octets []byte
	for b := 1; b < 256; b++ {
		if b != '\r' && b != '\n' {
			octets = append(octets, byte(b))
		}
	}
	octets = bytes.Repeat(octets, 40)
	content := fmt.Sprintf("%s\r\n%s\r\n%s\r\n", octets[:998], octets[998:1998], octets[1998:])
	for _, say := range []string{"DATA", "BDAT"} {
		st := &store{}
		p := dial(t, newServer(t, st, server.Options{}))
		p.hello()
		p.ask("MAIL FROM:<a@b.example> BODY=8BITMIME", "250 ", "RCPT TO:<c@d.example>", "250 ")
		if say == "DATA" {
			p.ask("DATA", "354 ", content+".", "250 ")
		} else {
			p.chunk(fmt.Sprintf("BDAT %d LAST", len(content)), content, "250 ")
		}
		if got := st.messages(); len(got) != 1 || got[0] != content {
			t.Errorf("%s: the message is not what was sent", say)
		}
		p.quit()
	}
}
