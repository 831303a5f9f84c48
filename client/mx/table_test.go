package mx

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

var update = flag.Bool("update", false, "write the table of decisions into doc.go")

// everyFact calls f with all combinations of facts.
func everyFact(f func(Facts)) {
	for s := SenderSilent; s <= SenderWaivesTLS; s++ {
		for l := LocalOpportunistic; l <= LocalRequired; l++ {
			for m := MXInsecure; m <= MXSecure; m++ {
				for d := DANENone; d <= DANEFailed; d++ {
					for p := STSNone; p <= STSEnforceOther; p++ {
						for c := Clear; c <= Matched; c++ {
							f(Facts{s, l, m, d, p, c})
						}
					}
				}
			}
		}
	}
}

// permitted says in sentences of the RFCs, and not in rows, whether a message may be given to a host.
func permitted(f Facts) bool {
	if f.Sender == SenderWaivesTLS && f.Local == LocalOpportunistic {
		return true // RFC 8689 section 4.2.2: do not fail if this is unsuccessful
	}
	// RFC 7672 section 2.2: lookup errors result in the next server or delayed delivery. A usable record is what the
	// certificate has to match. Records of which none is usable ask for TLS.
	dane := f.DANE != DANEFailed &&
		(f.DANE != DANEUsable || f.Channel == Matched) &&
		(f.DANE != DANEUnusable || f.Channel != Clear)
	// RFC 8461 section 5: in mode enforce the host is in the policy, and has a valid certificate. Section 2: where DANE
	// applies, it decides.
	sts := f.DANE == DANEUsable || f.STS != STSEnforce && f.STS != STSEnforceOther ||
		f.STS == STSEnforce && f.Channel == Verified
	// RFC 8689 section 4.2.1: DNSSEC or MTA-STS have proved the name of the host, and the certificate is authenticated.
	named := f.MX == MXSecure || f.DANE == DANEUsable || f.STS == STSEnforce || f.STS == STSTesting
	authenticated := f.Channel == Verified && f.DANE != DANEUsable || f.Channel == Matched && f.DANE == DANEUsable
	sender := f.Sender != SenderRequireTLS || named && authenticated
	local := f.Local != LocalRequired || authenticated
	return dane && sts && sender && local
}

// TestDecide walks all combinations, and compares what the table says with what the RFCs say in sentences.
func TestDecide(t *testing.T) {
	n, delivered := 0, 0
	everyFact(func(f Facts) {
		n++
		d := Decide(f)
		if want := permitted(f); (d.Verdict == Deliver) != want {
			t.Errorf("%+v: %+v, want delivery: %v", f, d, want)
		}
		if d.Verdict == Deliver {
			delivered++
		}
		class := map[Verdict]int{Deliver: 0, Defer: 4, Refuse: 5}[d.Verdict]
		if d.Code.Class() != class {
			t.Errorf("%+v: the status code is %v, want one of class %d", f, d.Code, class)
		}
		if d.Verdict == Refuse && f.Sender != SenderRequireTLS {
			t.Errorf("%+v is refused for good, which only REQUIRETLS asks for", f)
		}
	})
	if n != 3*2*2*4*5*4 || delivered == 0 {
		t.Errorf("%d combinations, %d delivered", n, delivered)
	}
}

// TestDecideRules names the rules of the standards that the table has to keep.
func TestDecideRules(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    Facts
		want Decision
	}{
		{"X05 enforce, no TLS", Facts{STS: STSEnforce}, Decision{Defer, proto.Status{4, 7, 5}, PolicySTS}},
		{"X05 enforce, another name", Facts{STS: STSEnforce, Channel: Encrypted},
			Decision{Defer, proto.Status{4, 7, 5}, PolicySTS}},
		{"X05 enforce, another host", Facts{STS: STSEnforceOther, Channel: Verified},
			Decision{Defer, proto.Status{4, 7, 5}, PolicySTS}},
		{"X05 enforce", Facts{STS: STSEnforce, Channel: Verified}, Decision{Policy: PolicySTS}},
		{"X07 enforce, DANE fails", Facts{MX: MXSecure, DANE: DANEUsable, STS: STSEnforce, Channel: Verified},
			Decision{Defer, proto.Status{4, 7, 5}, PolicyDANE}},
		{"X07 enforce, DANE cannot be looked up", Facts{MX: MXSecure, DANE: DANEFailed, STS: STSEnforce, Channel: Verified},
			Decision{Defer, proto.Status{4, 7, 5}, PolicyDANE}},
		{"testing is not enforced", Facts{STS: STSTestingOther}, Decision{}},
		{"V04 no TLS", Facts{Sender: SenderRequireTLS, MX: MXSecure}, Decision{Refuse, proto.Status{5, 7, 10}, PolicySender}},
		{"V04 any certificate", Facts{Sender: SenderRequireTLS, MX: MXSecure, Channel: Encrypted},
			Decision{Refuse, proto.Status{5, 7, 10}, PolicySender}},
		{"V04 the name is not proved", Facts{Sender: SenderRequireTLS, Channel: Verified},
			Decision{Refuse, proto.Status{5, 7, 30}, PolicySender}},
		{"V04 proved by DNSSEC", Facts{Sender: SenderRequireTLS, MX: MXSecure, Channel: Verified}, Decision{Policy: PolicySender}},
		{"V04 proved by MTA-STS", Facts{Sender: SenderRequireTLS, STS: STSTesting, Channel: Verified},
			Decision{Policy: PolicySender}},
		{"V04 by DANE", Facts{Sender: SenderRequireTLS, MX: MXSecure, DANE: DANEUsable, Channel: Matched},
			Decision{Policy: PolicyDANE}},
		{"a bounce in clear", Facts{Sender: SenderWaivesTLS, STS: STSEnforce}, Decision{Policy: PolicySender}},
		{"X12 unusable, no TLS", Facts{MX: MXSecure, DANE: DANEUnusable}, Decision{Defer, proto.Status{4, 7, 5}, PolicyDANE}},
		{"X12 unusable, TLS", Facts{MX: MXSecure, DANE: DANEUnusable, Channel: Encrypted}, Decision{Policy: PolicyDANE}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Decide(tt.f); got != tt.want {
				t.Errorf("Decide is %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestRulesAreReached checks that no row of the table is hidden by those above it.
func TestRulesAreReached(t *testing.T) {
	reached := make([]int, len(rules))
	everyFact(func(f Facts) { reached[decisive(f)]++ })
	for i, n := range reached {
		if n == 0 {
			t.Errorf("row %d never decides: %+v", i, rules[i])
		}
	}
}

// TestWeakest checks that the connection is asked to be no stronger than the table demands, and strong enough.
func TestWeakest(t *testing.T) {
	everyFact(func(f Facts) {
		c, _, ok := f.weakest()
		possible := false
		for _, other := range []Channel{Clear, Encrypted, Verified, Matched} {
			if f.over(other).Verdict != Deliver || other == Matched && f.DANE != DANEUsable {
				continue // there is nothing to match
			}
			possible = true
			if !ok || other < c && !(other == Verified && f.DANE == DANEUsable) {
				t.Errorf("%+v: weakest is %v, %v, and %v would do", f, c, ok, other)
			}
		}
		if ok != possible {
			t.Errorf("%+v: weakest says %v, want %v", f, ok, possible)
		}
	})
}

// TestTableInDoc compares the table in the documentation of the package with that in the code.
func TestTableInDoc(t *testing.T) {
	const first, last = "//\tsender", "//\n"
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	from := strings.Index(doc, first)
	if from < 0 {
		t.Fatal("doc.go has no table")
	}
	to := from + strings.Index(doc[from:], last)
	var want strings.Builder
	for line := range strings.Lines(Table()) {
		fmt.Fprintf(&want, "//\t%s", line)
	}
	if got := doc[from:to]; got != want.String() {
		if *update {
			if err := os.WriteFile("doc.go", []byte(doc[:from]+want.String()+doc[to:]), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Errorf("the table in doc.go differs from that in the code: run go test ./client/mx -run TestTableInDoc -update\n%s\n"+
			"want\n%s", got, want.String())
	}
}
