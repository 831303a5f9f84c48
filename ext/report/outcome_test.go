package report

import (
	"errors"
	"fmt"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// R09: a server that does not offer DSN will not tell of success (RFC 3461 section 5.2.2).
func TestR09_Outcome(t *testing.T) {
	dsn := NextHop{Host: "mx.example", Caps: proto.ParseCaps(proto.Reply{Code: 250, Text: "mx.example\nDSN"})}
	plain := NextHop{Host: "mx.example"}
	reply := func(code int, status string) proto.Reply {
		r, _ := refusal(code, status, "text")
		return r
	}
	for _, tt := range []struct {
		name   string
		hop    NextHop
		reply  proto.Reply
		err    error
		action ehlo.Action
		status string // of the report
		code   string // the diagnostic
	}{
		{"accepted, DSN", dsn, reply(250, "2.1.5"), nil, "", "2.1.5", "250 2.1.5 text"},
		{"accepted, no DSN", plain, reply(250, "2.1.5"), nil, ehlo.Relayed, "2.1.5", "250 2.1.5 text"},
		{"refused", dsn, reply(550, "5.1.1"), reply(550, "5.1.1").Err(), ehlo.Failed, "5.1.1", "550 5.1.1 text"},
		{"refused, wrapped", plain, reply(550, ""), fmt.Errorf("to b: %w", reply(550, "").Err()), ehlo.Failed, "5.0.0", "550 text"},
		{"an error alone", plain, proto.Reply{}, reply(554, "5.7.1").Err(), ehlo.Failed, "5.7.1", "554 5.7.1 text"},
		{"for now", plain, reply(450, ""), reply(450, "").Err(), ehlo.Delayed, "4.0.0", "450 text"},
		{"552 for too many", plain, reply(552, ""), reply(452, "").Err(), ehlo.Delayed, "4.0.0", "552 text"},
		{"552 5.5.3 for too many", plain, reply(552, "5.5.3"), reply(452, "4.5.3").Err(), ehlo.Delayed, "4.5.3", "552 5.5.3 text"},
		{"no connection", plain, proto.Reply{}, errors.New("secret"), ehlo.Delayed, "4.0.0", ""},
		{"V05 no REQUIRETLS, wrapped", plain, proto.Reply{}, fmt.Errorf("to b: %w", &ext.UnsupportedError{Keyword: "REQUIRETLS", Code: proto.Status{5, 7, 30}}), ehlo.Failed, "5.7.30", ""},
		{"no SMTPUTF8", plain, proto.Reply{}, &ext.UnsupportedError{Keyword: "SMTPUTF8", Code: proto.Status{5, 6, 7}}, ehlo.Failed, "5.6.7", ""},
		{"no REQUIRETLS", plain, proto.Reply{}, &ext.UnsupportedError{Keyword: "REQUIRETLS", Code: proto.Status{5, 7, 30}}, ehlo.Failed, "5.7.30", ""},
		{"no TLS", plain, proto.Reply{}, &ext.UnsupportedError{Keyword: "REQUIRETLS", Err: errors.New("in clear"), Code: proto.Status{5, 7, 10}}, ehlo.Failed, "5.7.10", ""},
		{"no 8BITMIME", plain, proto.Reply{}, &ext.UnsupportedError{Keyword: "8BITMIME", Code: proto.Status{5, 6, 3}}, ehlo.Failed, "5.6.3", ""},
		{"no RRVS", plain, proto.Reply{}, &ext.UnsupportedError{Keyword: "RRVS"}, ehlo.Failed, "5.3.3", ""},
	} {
		o := tt.hop.Outcome(proto.Outcome{Recipient: to(t, "b@example.com", ""), Reply: tt.reply, Err: tt.err})
		r := o.recipient(ehlo.OriginalRecipient{})
		status := r.status().String()
		if o.Action == "" {
			status = o.Status.String()
		}
		if o.Action != tt.action || status != tt.status || o.Diagnostic.Text != tt.code || o.Remote != DNS("mx.example") {
			t.Errorf("%s: %s %s %q, want %s %s %q", tt.name, o.Action, status, o.Diagnostic.Text, tt.action, tt.status, tt.code)
		}
	}
}

// R15: the status code says no more than the class if nothing better is known (RFC 3461 section 6.3).
func TestR15_Status(t *testing.T) {
	for _, tt := range []struct {
		action     ehlo.Action
		status     string
		diagnostic string
		want       string
	}{
		{ehlo.Failed, "5.1.1", "550 5.1.1 x", "5.1.1"},
		{ehlo.Failed, "4.4.7", "", "4.4.7"}, // given up after a while (RFC 3464 section 2.3.3)
		{ehlo.Failed, "", "", "5.0.0"},
		{ehlo.Failed, "", "550 x", "5.0.0"},
		{ehlo.Failed, "", "426 connection timed out", "4.0.0"},
		{ehlo.Failed, "2.1.5", "", "5.0.0"},
		{ehlo.Delayed, "", "", "4.0.0"},
		{ehlo.Delayed, "2.0.0", "550 x", "4.0.0"},
		{ehlo.Delayed, "4.2.2", "", "4.2.2"},
		{ehlo.Delayed, "5.5.3", "552 5.5.3 x", "4.0.0"},
		{ehlo.Delivered, "", "", "2.0.0"},
		{ehlo.Relayed, "2.1.9", "", "2.1.9"},
		{ehlo.Relayed, "5.6.2", "", "5.6.2"}, // with loss (RFC 3464 section 2.3.3)
		{ehlo.Relayed, "4.1.1", "", "2.0.0"},
		{ehlo.Delivered, "5.1.1", "", "2.0.0"},
		{ehlo.Delivered, "2.1.5", "", "2.1.5"},
		{ehlo.Expanded, "", "", "2.0.0"},
		{ehlo.Expanded, "4.2.1", "", "2.0.0"},
	} {
		st, _ := proto.ParseStatus(tt.status)
		r := Recipient{Action: tt.action, Status: st, Diagnostic: Diagnostic{Type: "smtp", Text: tt.diagnostic}}
		if got := r.status().String(); got != tt.want {
			t.Errorf("%s %q %q: %s, want %s", tt.action, tt.status, tt.diagnostic, got, tt.want)
		}
	}
}
