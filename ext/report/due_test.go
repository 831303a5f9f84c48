package report

import (
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"
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
