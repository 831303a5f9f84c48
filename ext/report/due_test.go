package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// summary returns what reports say, a line for each: the addresses and the actions.
func summary(reports []*Report) []string {
	var all []string
	for _, r := range reports {
		var words []string
		for _, p := range r.Recipients {
			words = append(words, p.Final.Address+" "+string(p.Action))
		}
		all = append(all, strings.Join(words, ", "))
	}
	return all
}

// The rules of RFC 3461 sections 5.2.2 to 5.2.7, for each value of NOTIFY and each outcome.
func TestR10R11_Due(t *testing.T) {
	for notify, want := range map[string]string{
		"":                             "failed delayed",
		"NOTIFY=NEVER":                 "",
		"NOTIFY=SUCCESS":               "delivered relayed expanded",
		"NOTIFY=FAILURE":               "failed",
		"NOTIFY=DELAY":                 "delayed",
		"NOTIFY=SUCCESS,FAILURE,DELAY": "failed delayed delivered relayed expanded",
	} {
		var got []string
		for _, a := range []ehlo.Action{ehlo.Failed, ehlo.Delayed, ehlo.Delivered, ehlo.Relayed, ehlo.Expanded, "", "other"} {
			due := message(t, "", content).Due([]Outcome{{To: to(t, "b@example.com", notify), Action: a}})
			if len(due) == 1 && len(due[0].Recipients) == 1 && due[0].Recipients[0].Action == a {
				got = append(got, string(a))
			} else if len(due) > 0 {
				t.Errorf("%s, %s: %d reports", notify, a, len(due))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: reports of %v, want %s", notify, got, want)
		}
	}
}

// The message of RFC 3461 section 10: who is owed what when Ivory.EDU refuses Carol, Bombs.AF.MIL offers no DSN and
// Tax-ME.GOV takes everything over.
func TestDue(t *testing.T) {
	m := message(t, "RET=HDRS ENVID=QQ314159", content)
	m.ReceivedFrom = MTA{Type: "dns", Name: "pc.example.org", Comment: "[192.0.2.7]"}
	plain := NextHop{Host: "Bombs.AF.MIL"}
	taking := NextHop{Host: "Tax-ME.GOV", Caps: proto.ParseCaps(proto.Reply{Code: 250, Text: "tax-me.gov\nDSN"})}
	ok := proto.Reply{Code: 250, Text: "ok"}
	no, err := refusal(550, "", "error - no such recipient")
	later, laterErr := refusal(451, "4.3.0", "later")
	bob := Outcome{To: to(t, "Bob@Example.COM", "NOTIFY=SUCCESS ORCPT=rfc822;Bob@Example.COM"), Action: ehlo.Delivered}
	outcomes := []Outcome{
		bob,
		taking.Outcome(proto.Outcome{Recipient: to(t, "Carol@Ivory.EDU", "NOTIFY=FAILURE ORCPT=rfc822;Carol+2Bx@Ivory.EDU"), Reply: no, Err: err}),
		plain.Outcome(proto.Outcome{Recipient: to(t, "Eric@Bombs.AF.MIL", "NOTIFY=FAILURE"), Reply: ok}),
		plain.Outcome(proto.Outcome{Recipient: to(t, "Erica@Bombs.AF.MIL", "NOTIFY=SUCCESS"), Reply: ok}),
		plain.Outcome(proto.Outcome{Recipient: to(t, "Fred@Bombs.AF.MIL", "NOTIFY=NEVER"), Reply: no, Err: err}),
		taking.Outcome(proto.Outcome{Recipient: to(t, "George@Tax-ME.GOV", "NOTIFY=FAILURE,SUCCESS"), Reply: ok}),
		taking.Outcome(proto.Outcome{Recipient: to(t, "Harry@Tax-ME.GOV", ""), Reply: later, Err: laterErr}),
		plain.Outcome(proto.Outcome{Recipient: to(t, "Ivy@Bombs.AF.MIL", ""), Reply: no, Err: err}),
	}
	due := m.Due(outcomes)
	want := []string{
		"Bob@Example.COM delivered, Erica@Bombs.AF.MIL relayed",
		"Carol@Ivory.EDU failed, Ivy@Bombs.AF.MIL failed",
		"Harry@Tax-ME.GOV delayed",
	}
	if got := summary(due); !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
	for _, r := range due {
		if r.EnvelopeID != "QQ314159" || r.ReceivedFrom != m.ReceivedFrom {
			t.Errorf("%+v", r)
		}
	}
	if o := due[1].Recipients[0].Original; o != (ehlo.OriginalRecipient{Type: "rfc822", Address: "Carol+x@Ivory.EDU"}) {
		t.Errorf("Carol was %+v to begin with", o)
	}
	if o := due[1].Recipients[1].Original; o.Type != "" {
		t.Errorf("Ivy was %+v to begin with, and nobody said so", o) // RFC 3461 section 6.3(d)
	}

	m.From = proto.Address{} // a bounce is not bounced (RFC 3461 section 5.2)
	if due := m.Due(outcomes); due != nil {
		t.Errorf("the null reverse-path is told of %q", summary(due))
	}
}

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

// R14: a reply is written as it came, its lines one behind the other (RFC 3461 section 9.2), and can be read again.
func TestR14_Diagnostic(t *testing.T) {
	for _, tt := range []struct {
		reply proto.Reply
		text  string
	}{
		{proto.Reply{Code: 550, Text: "mailbox unavailable\nuser has moved with no forwarding address"},
			"550-mailbox unavailable 550 user has moved with no forwarding address"},
		{proto.Reply{Code: 550, Status: proto.Status{5, 1, 1}, Text: "no\nsuch\nuser"},
			"550-5.1.1 no 550-5.1.1 such 550 5.1.1 user"},
		{proto.Reply{Code: 426, Text: "connection timed out"}, "426 connection timed out"},
		{proto.Reply{Code: 250}, "250"},
		{proto.Reply{Code: 550, Text: "error 550 in 1550 550x"}, "550 error 550 in 1550 550x"},
		{proto.Reply{Code: 550, Text: "2.1.1 is the version"}, "550 2.1.1 is the version"},
		{proto.Reply{Code: 550, Text: "in 1550 or\nx5501"}, "550-in 1550 or 550 x5501"},
	} {
		d := SMTP(tt.reply)
		if d != (Diagnostic{"smtp", tt.text}) {
			t.Errorf("%+v: %+v", tt.reply, d)
		}
		if back, ok := d.Reply(); !ok || back != tt.reply {
			t.Errorf("%q is read as %+v, %v", d.Text, back, ok)
		}
	}
	for _, d := range []Diagnostic{{}, {"smtp", "55"}, {"smtp", "5501 x"}, {"smtp", "abc x"}, {"smtp", "150 x"}, {"x-unix", "550 x"}} {
		if r, ok := d.Reply(); ok {
			t.Errorf("%+v is read as %+v", d, r)
		}
	}
}
