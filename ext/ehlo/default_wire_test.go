package ehlo_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestT05_Offered checks that an LMTP server with default extensions offers what the protocol requires.
func TestT05_Offered(t *testing.T) {
	srv := newServer(t, &keeper{}, &server.Options{Hostname: "mail.example", Protocol: proto.LMTP})
	got := talk(t, srv, "LHLO client.example")
	for _, keyword := range []string{"PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME"} {
		if !strings.Contains(got, "250-"+keyword+"\r\n") && !strings.Contains(got, "250 "+keyword+"\r\n") {
			t.Errorf("no %s in %q", keyword, got)
		}
	}
}

// TestU08_CheckServer checks that server.New rejects extensions on the wrong kind of server. A client may have them.
func TestU08_CheckServer(t *testing.T) {
	policy := ehlo.SubmissionPolicy{}.Extension()
	hold := ehlo.FutureRelease(ehlo.HoldLimits{Interval: time.Hour})
	with := func(e ...ext.Extension) []ext.Extension { return append(ehlo.Default(), e...) }
	for _, tt := range []struct {
		name     string
		protocol proto.Protocol
		list     []ext.Extension
		want     string // in the error; "" for none
	}{
		{"FUTURERELEASE for relay", proto.SMTP, with(hold), "FUTURERELEASE is for submission"},
		{"BURL for relay", proto.SMTP, append(ehlo.Relay(), ehlo.BURL("imap")), "BURL is for submission"},
		{"BURL in LMTP", proto.LMTP, append(ehlo.LMTP(), ehlo.BURL()), "BURL is for submission"},
		{"both for submission", proto.SMTP, with(policy, hold, ehlo.BURL("imap")), ""},
		{"U04 ETRN for submission", proto.SMTP, append(ehlo.Submission(ehlo.SubmissionPolicy{}), ehlo.ETRN()), "ETRN must not be"},
		{"U04 ATRN for submission", proto.SMTP, with(policy, ehlo.ATRN()), "ATRN must not be"},
		{"U04 ETRN for relay", proto.SMTP, with(ehlo.ETRN(), ehlo.ATRN()), ""},
		{"submission in LMTP", proto.LMTP, append(ehlo.LMTP(), policy), "LMTP"},
		{"two policies", proto.SMTP, append(ehlo.Submission(ehlo.SubmissionPolicy{}), policy), "two submission policies"},
		{"U05 without AUTH", proto.SMTP, append(ehlo.Relay(), policy), "the submission policy requires AUTH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, err := server.New(backend(&keeper{}), &server.Options{Protocol: tt.protocol, Extensions: tt.list})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q in it", err, tt.want)
			case err == nil:
				srv.Close()
			}
		})
	}
	if _, err := ext.NewSet(proto.SMTP, with(hold, ehlo.BURL(), ehlo.ETRN())); err != nil {
		t.Errorf("a client: %v", err)
	}
}

// TestQuotedThroughRelay sends quoted local parts through a server and a client to another server. No local part
// becomes another address or a parameter on the way (CVE-2025-59937).
func TestQuotedThroughRelay(t *testing.T) {
	for sent, want := range map[string]string{
		`"victim@evil.example> NOTIFY=NEVER"@d.example`: `"victim@evil.example> NOTIFY=NEVER"@d.example`,
		`"a b"@d.example`:     `"a b"@d.example`,
		`"a\"b\\c"@d.example`: `"a\"b\\c"@d.example`,
		`"plain"@d.example`:   `plain@d.example`,
		`"<>"@d.example`:      `"<>"@d.example`,
		`a%b!c@d.example`:     `a%b!c@d.example`,
	} {
		k := &keeper{}
		last := newServer(t, k, &server.Options{Hostname: "last.example"})
		next, _ := over(t, last, &client.Options{Hostname: "relay.example", TLS: ext.TLSInsecureNone})
		first := newServer(t, &forwarder{next: next}, &server.Options{Hostname: "relay.example"})
		_, raw := over(t, first, nil)
		conn := raw()
		go func() {
			_, _ = io.WriteString(conn, "EHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<"+sent+">\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n")
		}()
		replies, err := io.ReadAll(conn)
		if err != nil || !strings.HasSuffix(string(replies), "221 2.0.0 Bye\r\n") {
			t.Errorf("%s: %v, replies %q", sent, err, replies)
		}
		if len(k.to) != 1 || k.to[0] != want {
			t.Errorf("%s has become %q, want %s", sent, k.to, want)
		}
	}
}

// TestLMTPWithoutDelay delivers twenty messages by LMTP. Each end waits only for the other, so no time passes.
func TestLMTPWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		srv := newServer(t, k, &server.Options{Hostname: "store.example", Protocol: proto.LMTP})
		dial, _ := over(t, srv, &client.Options{Hostname: "mta.example", TLS: ext.TLSInsecureNone, Protocol: proto.LMTP})
		start := time.Now()
		c, err := dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			m, err := client.NewMessage("a@b.example", []string{"c@d.example", "c@d.example"}, strings.NewReader("hi\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			if res, err := c.Send(t.Context(), m); err != nil || res.Sent() != 2 {
				t.Fatal(res, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 0 || len(k.to) != 40 {
			t.Errorf("%d recipients in %v, want 40 in no time", len(k.to), took)
		}
	})
}
