package server_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// each is an extension by which a client asks for an outcome for each recipient: the parameter XEACH.
func each() ext.Extension {
	return ext.Extension{Keyword: "XEACH", Mail: []ext.Param{{Key: "XEACH", MaxLength: len(" XEACH"), Flag: true, PerRecipient: true}}}
}

func TestSplit(t *testing.T) {
	const announced = "353 An outcome"
	none := func(context.Context, io.Reader, func(int, proto.Reply, error)) error { return nil }
	read := func(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
	for _, tt := range []struct {
		name    string
		each    func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error // nil for a session without
		content string
		want    []string
	}{
		{"some", func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			read(r)
			result(1, proto.Reply{}, errFull)
			result(0, proto.Reply{}, nil)
			return &proto.Error{Code: 550, Text: "no"}
		}, "x", []string{announced, "250 2.0.0", "452 4.2.2", "550 5.0.0 no", "250 2.0.0 Message accepted"}},
		{"all", none, "x", []string{announced, "250 2.0.0", "250 2.0.0", "250 2.0.0", "250 2.0.0 Message accepted"}},
		{"all, with a name", func(context.Context, io.Reader, func(int, proto.Reply, error)) error {
			return server.Accepted("queued as 4XyZ")
		}, "x",
			[]string{announced, "250 2.0.0 queued", "250 2.0.0 queued", "250 2.0.0 queued", "250 2.0.0 queued as 4XyZ"}},
		{"told before it was read", func(_ context.Context, _ io.Reader, result func(int, proto.Reply, error)) error {
			result(0, proto.Reply{}, nil)
			result(2, proto.Reply{}, errFull)
			return nil
		}, "x", []string{announced, "250 ", "250 ", "452 ", "250 "}},
		{"none", func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			result(0, proto.Reply{}, &proto.Error{Code: 550, Text: "no"})
			result(1, proto.Reply{}, errFull)
			result(2, proto.Reply{}, &proto.Error{Code: 554, Text: "never"})
			return nil
		}, "x", []string{announced, "550 ", "452 4.2.2", "554 ", "452 4.2.2 mailbox full"}},
		{"none for ever", func(context.Context, io.Reader, func(int, proto.Reply, error)) error {
			return &proto.Error{Code: 550, Text: "no"}
		}, "x",
			[]string{announced, "550 ", "550 ", "550 ", "550 5.0.0 no"}},
		{"failure", func(context.Context, io.Reader, func(int, proto.Reply, error)) error { return errors.New("secret") }, "x",
			[]string{announced, "451 4.3.0", "451 4.3.0", "451 4.3.0", "451 4.3.0"}},
		{"refused as a whole", func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			read(r)
			result(0, proto.Reply{}, nil)
			return nil
		}, "a bare\n", []string{"554 5.6.0"}},
		{"too large", none, strings.Repeat("123456\r\n", 200), []string{"552 5.3.4"}},
		{"a session without", nil, "x", []string{"250 2.0.0 Message accepted"}},
	} {
		for _, chunks := range []bool{false, true} {
			name := tt.name + " in content"
			if chunks {
				name = tt.name + " in chunks"
			}
			t.Run(name, func(t *testing.T) {
				var b server.Backend = &store{}
				if tt.each != nil {
					b = eachStore{&store{}, tt.each}
				}
				p := dial(t, newServer(t, b, server.Options{Extensions: append(ehlo.Default(), each()), MaxSize: 1000}))
				p.hello()
				p.ask("MAIL FROM:<a@b.example> XEACH", "250 ", "RCPT TO:<one@d.example>", "250 ", "RCPT TO:<two@d.example>", "250 ",
					"RCPT TO:<three@d.example>", "250 ")
				if chunks {
					p.send("BDAT " + strconv.Itoa(len(tt.content)) + " LAST\r\n" + tt.content)
				} else {
					p.ask("DATA", "354 ")
					p.send(tt.content + "\r\n.\r\n")
				}
				p.expect(tt.want...)
				p.quit()
			})
		}
	}
}

// TestSplitNot shows the transactions in which nobody has asked, or in which there is nothing to tell apart.
func TestSplitNot(t *testing.T) {
	st := eachStore{&store{}, func(_ context.Context, _ io.Reader, result func(int, proto.Reply, error)) error {
		result(0, proto.Reply{}, errFull)
		return nil
	}}
	p := dial(t, newServer(t, st, server.Options{Extensions: append(ehlo.Default(), each())}))
	p.hello()
	for _, begin := range []string{"MAIL FROM:<a@b.example>", `MAIL FROM:<"a> XEACH"@b.example>`, "MAIL FROM:<xeach@b.example>"} {
		p.ask(begin, "250 ", "RCPT TO:<one@d.example>", "250 ", "RCPT TO:<two@d.example>", "250 ", "DATA", "354 ", ".", "250 2.0.0 Message accepted")
	}
	p.ask("MAIL FROM:<a@b.example> XEACH", "250 ", "RCPT TO:<one@d.example>", "250 ", "DATA", "354 ", ".", "250 2.0.0 Message accepted")
	p.ask("MAIL FROM:<a@b.example> XEACH=1", "501 ", "MAIL FROM:<a@b.example> xeach SIZE=5", "250 ", "RSET", "250 ", "HELO x", "250 ",
		"MAIL FROM:<a@b.example> XEACH", "555 ")
	p.quit()
}

// TestSplitInGroup has the commands of the next message behind the last chunk.
func TestSplitInGroup(t *testing.T) {
	st := eachStore{&store{}, func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
		_, err := io.Copy(io.Discard, r)
		result(1, proto.Reply{}, errFull)
		return err
	}}
	p := dial(t, newServer(t, st, server.Options{Extensions: append(ehlo.Default(), each())}))
	p.hello()
	const message = " XEACH\r\nRCPT TO:<one@d.example>\r\nRCPT TO:<two@d.example>\r\nBDAT 5 LAST\r\nhello"
	p.send("MAIL FROM:<a@b.example>" + message + "MAIL FROM:<e@f.example>" + message + "QUIT\r\n")
	for range 2 {
		p.expect("250 2.1.0", "250 2.1.5", "250 2.1.5", "353 ", "250 ", "452 ", "250 2.0.0 Message accepted")
	}
	p.expect("221 ")
}
