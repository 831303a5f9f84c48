package client

import (
	"errors"
	"net/mail"
	"strings"

	"smtpkit.example/smtp/proto"
)

// Addresses returns addresses as [NewMessage] takes them, without the names. Builders and parsers of messages return
// lists of mail.Address:
//
//	to, err := mail.ParseAddressList("Bob <bob@example.net>, carol@example.net")
//	…
//	m, err := client.NewMessage("alice@example.org", client.Addresses(to...), body)
func Addresses(list ...*mail.Address) []string {
	to := make([]string, len(list))
	for i, a := range list {
		to[i] = (&mail.Address{Address: a.Address}).String()
	}
	return to
}

// parseAddress parses an address, which may be in angle brackets.
func parseAddress(s string) (proto.Address, error) {
	if inner, ok := strings.CutPrefix(s, "<"); ok {
		if inner, ok = strings.CutSuffix(inner, ">"); ok {
			return parseBare(inner)
		}
	}
	a, err := parseBare(s)
	if err != nil && strings.HasSuffix(s, ">") && strings.Contains(s, " <") {
		err = errors.New("write the address alone, without a name, as Addresses does")
	}
	return a, err
}

// parseBare parses an address without angle brackets. Dots in a local part that could not stand there are quoted, as in
// user..name@example.net: it is the same mailbox, in the form that RFC 5321 section 4.1.2 has for it.
func parseBare(s string) (proto.Address, error) {
	a, err := proto.ParseAddress(s)
	if err == nil {
		return a, nil
	}
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || strings.ContainsAny(s[:at], "\"\\@") {
		return a, err
	}
	local := s[:at]
	if !strings.HasPrefix(local, ".") && !strings.HasSuffix(local, ".") && !strings.Contains(local, "..") {
		return a, err
	}
	if _, wrong := proto.ParseAddress(strings.ReplaceAll(local, ".", "") + "x" + s[at:]); wrong != nil {
		return a, err // there is something else
	}
	return proto.ParseAddress(`"` + local + `"` + s[at:])
}
