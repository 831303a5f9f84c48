package ehlo_test

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/server"
)

func TestW12_ETRNBothEnds(t *testing.T) {
	dial, _ := over(t, newServer(t, &able{}, &server.Options{Hostname: "mail.example", Extensions: dialIn()}),
		&client.Options{TLS: ext.TLSInsecureNone, Extensions: dialIn()})
	c, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := ehlo.SendETRN(t.Context(), c, ehlo.Node{Name: "example.org", Below: true}); n != 14 || err != nil {
		t.Errorf("ETRN: %d, %v, want 14", n, err)
	}
}

func TestW12_ETRNReplies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"at once", []string{Caps, "ETRN @example.org"}, "253 2.0.0 OK, 14 pending messages for node @example.org started\r\n"},
		{"before EHLO", []string{"ETRN example.org"}, "503 "},
		{"in a transaction", []string{Caps, from, "ETRN example.org"}, "503 5.5.1 "},
		{"after RCPT", []string{Caps, from, to, "ETRN example.org"}, "503 5.5.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := sayTo(t, dialIn(), &able{}, tt.lines...); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
