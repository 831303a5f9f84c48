package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestAddressAttacks sends recipients that are made to be misread. Those that are accepted reach the session as they
// are written here: the local part without its quotes, and the domain in A-labels.
func TestAddressAttacks(t *testing.T) {
	local64, label63 := strings.Repeat("l", 64), strings.Repeat("d", 63)
	domain192 := strings.Repeat(label63+".", 3)
	for _, tt := range []struct {
		name, path    string
		local, domain string // "" for what has 501, or 553 if it is not UTF-8
	}{
		{"Z140 an at in quotes", `<"a@evil.example"@good.example>`, "a@evil.example", "good.example"},
		{"Z140 a bracket in quotes", `<"a> b"@x.example>`, "a> b", "x.example"},
		{"Z140 a quote in quotes", `<"\"x"@y.example>`, `"x`, "y.example"},
		{"Z140 text behind the path", "<a@b.example>c@d.example", "", ""},
		{"Z140 two ats", "<a@b@c.example>", "", ""},
		{"Z141 a route", "<@a.example,@b.example:c@d.example>", "c", "d.example"},
		{"Z141 no mailbox", "<@a.example:>", "", ""},
		{"Z141 no route", "<:a@b.example>", "", ""},
		{"Z141 no host", "<@:a@b.example>", "", ""},
		{"Z142 local part of 64", "<" + local64 + "@d.example>", local64, "d.example"},
		{"Z142 local part of 65", "<l" + local64 + "@d.example>", "", ""},
		{"Z142 local part of 1000", "<" + strings.Repeat("l", 1000) + "@d.example>", "", ""},
		{"Z142 domain of 252", "<a@" + domain192 + label63[:60] + ">", "a", domain192 + label63[:60]},
		{"Z142 domain of 255, path of 259", "<a@" + domain192 + label63 + ">", "", ""},
		{"Z142 domain of 256", "<a@" + domain192 + label63 + "d>", "", ""},
		{"Z142 label of 64", "<a@" + label63 + "d.example>", "", ""},
		{"Z142 128 labels", "<a@" + strings.Repeat("d.", 127) + "d>", "", ""},
		{"Z143 IPv4", "<a@[127.0.0.1]>", "a", "[127.0.0.1]"},
		{"Z143 short", "<a@[127.1]>", "", ""},
		{"Z143 hexadecimal", "<a@[0x7f.1]>", "", ""},
		{"Z143 IPv6", "<a@[IPv6:::1]>", "a", "[IPv6:::1]"},
		{"Z143 two gaps", "<a@[IPv6:1::2::3]>", "", ""},
		{"Z143 zone", "<a@[IPv6:fe80::1%25lo]>", "", ""},
		{"Z143 open", "<a@[1.2.3.4>", "", ""},
		{"Z143 empty", "<a@[]>", "", ""},
		{"Z143 tag that nobody has", "<a@[x-foo:bar]>", "", ""},
		{"Z144 percent", "<a%b@c.example>", "a%b", "c.example"},
		{"Z144 bang", "<a!b@c.example>", "a!b", "c.example"},
		{"Z144 percent in the domain", "<a@b%c.example>", "", ""},
		{"Z145 overlong", "<\xc0\xaf@d.example>", "", ""},
		{"Z145 bad second octet", "<\xe2\x28\xa1@d.example>", "", ""},
		{"Z145 surrogate", "<\xed\xa0\x80@d.example>", "", ""},
		{"Z145 beyond Unicode", "<\xf4\x90\x80\x80@d.example>", "", ""},
		{"Z145 lone", "<\x80@d.example>", "", ""},
		{"Z146 Cyrillic", "<a@\u0430pple.example>", "a", "xn--pple-43d.example"},
		{"Z146 right to left override in the local part", "<a\u202eb@d.example>", "a\u202eb", "d.example"},
		{"Z146 right to left override", "<a@m\u202e.example>", "", ""},
		{"Z146 joiner", "<a@mü\u200dx.example>", "", ""},
		{"Z146 ideographic full stop", "<a@mü\u3002example>", "", ""},
		{"Z146 fullwidth full stop", "<a@mü\uff0eexample>", "", ""},
		{"Z146 halfwidth full stop", "<a@mü\uff61example>", "", ""},
		{"Z147 fullwidth at", "<a\uff20b@c.example>", "a\uff20b", "c.example"},
		{"Z147 small at", "<a\ufe6bb@c.example>", "a\ufe6bb", "c.example"},
		{"Z147 fullwidth at alone", "<a\uff20b.example>", "", ""},
		{"Z147 fullwidth brackets", "\uff1ca@b.example\uff1e", "", ""},
		{"Z148 no punycode", "<a@xn--zzz.example>", "a", "xn--zzz.example"},
		{"Z148 no label", "<a@xn--a-.example>", "", ""},
		{"Z149 back quotes", "<`$a|b`@c.example>", "`$a|b`", "c.example"},
		{"Z149 substitution, in quotes", `<"$(cmd);"@c.example>`, "$(cmd);", "c.example"},
		{"Z149 semicolon", "<;cmd;@c.example>", "", ""},
		{"Z149 semicolon without a domain", "<;cmd;>", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []proto.Address
			st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
				got = append(got, to)
				return nil
			}}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example> SMTPUTF8", "250 ")
			if tt.domain == "" {
				p.send("RCPT TO:" + tt.path + "\r\n")
				if reply := p.reply(); !strings.HasPrefix(reply, "501 ") && !strings.HasPrefix(reply, "553 5.6.7") {
					t.Errorf("the server says %q", reply)
				}
				p.ask("DATA", "503 ")
				if len(got) > 0 {
					t.Errorf("the session was asked about %q", got)
				}
			} else {
				p.ask("RCPT TO:"+tt.path, "250 ")
				if len(got) != 1 || got[0].Local != tt.local || got[0].Domain.ASCII() != tt.domain {
					t.Errorf("the session was asked about %q, want %q at %q", got, tt.local, tt.domain)
				}
				if literal := tt.domain[0] == '['; len(got) == 1 && literal != got[0].Domain.Addr().IsValid() {
					t.Errorf("the address is %v", got[0].Domain.Addr())
				}
			}
			p.quit()
		})
	}
}

// TestZ151_NullSender: <> is a sender with parameters like others, and nothing may be stuck to it.
func TestZ151_NullSender(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<>x", "501 ", "MAIL FROM:<><>", "501 ", "MAIL FROM:<> SIZE=100 BODY=8BITMIME", "250 ",
		"RCPT TO:<c@d.example>", "250 ")
	p.quit()
}

// TestZ190_LogInjection: what a client says cannot begin a line of the log, or turn the direction of one. A reply, too,
// has no octets of a command in it that could be taken for another reply.
func TestZ190_LogInjection(t *testing.T) {
	const forged = "level=ERROR"
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	st := &store{rcpt: func(_ context.Context, to proto.Address, _ proto.Params) error {
		return errors.New("no user " + to.Local + "\n" + forged)
	}}
	p := dial(t, newServer(t, st, server.Options{Logger: logger, Lax: true}))
	p.expect("220 ")
	for _, say := range []string{
		"EHLO x\r" + forged, "EHLO x\x1b[2J\n" + forged, "FOO\n" + forged, "VRFY \u202e" + forged,
		"EHLO a\u202eb\u2028" + forged,
	} {
		p.send(say + "\r\n")
		if reply := p.reply(); strings.Contains(reply, forged) {
			t.Errorf("the server says %q", reply)
		}
	}
	p.ask("EHLO x", "250-", "MAIL FROM:<a@b.example> SMTPUTF8", "250 ", "RCPT TO:<a\u202e\u2028b@d.example>", "451 ")
	p.quit()
	records := 0
	for line := range strings.Lines(log.String()) {
		records++
		if !strings.HasPrefix(line, "time=") || strings.ContainsAny(line, "\x1b\r\u202e\u2028") {
			t.Errorf("a line of the log is %q", line)
		}
	}
	if records > 20 || !strings.Contains(log.String(), "no user") {
		t.Errorf("%d records: %s", records, &log)
	}
}
