package ehlo_test

import (
	"testing"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestRelayingCase gives a relay parameters in the case that Python's smtplib sends: keys have none (RFC 5321 section
// 2.4).
func TestRelayingCase(t *testing.T) {
	mail := proto.Params{
		{Key: "size", Value: "413", HasValue: true}, {Key: "Body", Value: "8bitmime", HasValue: true},
		{Key: "ret", Value: "hdrs", HasValue: true}, {Key: "Envid", Value: "x", HasValue: true},
	}
	r, ok := ehlo.NewRelaying(mail, 0)
	if !ok || len(r.Mail()) != 2 || r.Mail().Has("SIZE") || r.Mail().Has("BODY") {
		t.Errorf("it sends %v on", r.Mail())
	}
	if !r.Lacks("DSN") || len(r.Mail()) != 0 {
		t.Errorf("without DSN it sends %v on", r.Mail())
	}
	if got := r.Rcpt(proto.Params{{Key: "notify", Value: "never", HasValue: true}}); len(got) != 0 {
		t.Errorf("without DSN it sends %v on with a recipient", got)
	}
}

// TestRelayingLacksOnce has a server that does not offer an extension say so again when nothing of it is sent any more.
func TestRelayingLacksOnce(t *testing.T) {
	params := proto.Params{{Key: "RET", Value: "FULL"}, {Key: "MT-PRIORITY", Value: "3"}}
	r, ok := ehlo.NewRelaying(params, 0)
	if !ok || !r.May("DSN") || !r.Lacks("DSN") || r.May("DSN") || r.Lacks("DSN") || !r.May("MT-PRIORITY") {
		t.Errorf("%v: DSN may be left out once, and MT-PRIORITY still", r.Mail())
	}
}

// TestRelayingWithout has servers each lack an extension that a relay may do without: what it adds to MAIL is left out.
func TestRelayingWithout(t *testing.T) {
	for keyword, param := range map[string]string{
		"DSN": "RET", "MT-PRIORITY": "MT-PRIORITY", "MTRK": "MTRK", "NO-SOLICITING": "SOLICIT",
	} {
		r, _ := ehlo.NewRelaying(proto.Params{{Key: param, Value: "x"}, {Key: "X-OTHER"}}, 0)
		if !r.Lacks(keyword) || r.Mail().Has(param) || !r.Mail().Has("X-OTHER") {
			t.Errorf("without %s it sends %v", keyword, r.Mail())
		}
	}
}
