package mx

import (
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/ehlo"
)

// TestHostsAgainstPolicy checks that hosts whose certificate does not fulfil the policy are no sessions: the next one
// is tried after any number of them (RFC 8461 section 5), as after hosts without REQUIRETLS (RFC 8689 section 4.2.1).
func TestHostsAgainstPolicy(t *testing.T) {
	var text strings.Builder
	for i := range 5 {
		fmt.Fprintf(&text, "d.example MX %d mx%d.example\nmx%d.example A 192.0.2.%d\n", i, i, i, i)
	}
	require := func(m *client.Message) { m.Mail = ehlo.AddRequireTLS(m.Mail) }
	for _, tt := range []struct {
		name    string
		bad     *authority
		message func(*client.Message)
	}{
		{"X05 certificates that do not verify", aStranger(), nil},
		{"V04 hosts without REQUIRETLS", theAuthority(), require},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, text.String(), func(o *Options) { o.RequireTLS, o.MaxSessions = true, 1 }, func(t *testing.T, b *bed) {
				b.dns.Secure(".")
				for i := range 4 {
					b.add(fmt.Sprintf("192.0.2.%d", i), &host{cert: tt.bad.issue(t, fmt.Sprintf("mx%d.example", i))})
				}
				good := &host{cert: theAuthority().issue(t, "mx4.example"), secured: []string{"REQUIRETLS"}}
				b.add("192.0.2.4", good)
				m := message(t, "a@d.example")
				if tt.message != nil {
					tt.message(m)
				}
				if _, err := b.Send(t.Context(), m); err != nil {
					t.Error(err)
				}
				if n := len(good.letters()); n != 1 {
					t.Errorf("%d messages", n)
				}
			})
		})
	}
}

// TestAddressOfFailedHandshake checks that an attempt whose handshake failed names the address all the same.
func TestAddressOfFailedHandshake(t *testing.T) {
	lay(t, oneHost, func(o *Options) { o.RequireTLS = true }, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{cert: aStranger().issue(t, "mx.example")})
		_, err := b.Send(t.Context(), message(t, "a@d.example"))
		if got := b.attempts[0].Addr.String(); got != "192.0.2.1:25" {
			t.Errorf("the address is %s: %v", got, err)
		}
	})
}

// TestWords checks that values print as the words of the table, and values that there are not as numbers.
func TestWords(t *testing.T) {
	f := Facts{Sender: SenderRequireTLS, MX: MXSecure, DANE: DANEUsable, STS: STSTestingOther, Channel: Matched}
	const want = "{REQUIRETLS - secure usable testing, another host matched}"
	if got := fmt.Sprint(f); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := fmt.Sprint(Refuse, Policy(77), Channel(200)); got != "refuse 77 200" {
		t.Errorf("got %s", got)
	}
}
