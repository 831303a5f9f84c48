package dkim

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

// FuzzSigned: what is signed at all has a good signature, whatever it is, and is the message otherwise.
func FuzzSigned(f *testing.F) {
	for _, text := range messages {
		if len(text) < 2000 {
			f.Add([]byte(text), false)
			f.Add([]byte(text), true)
		}
	}
	k := Key{Domain: "example.org", Selector: "s", Signer: edKey(f)}
	r, err := k.Record()
	if err != nil {
		f.Fatal(err)
	}
	s := newSigner(f, &Options{Keys: []Key{k}, MaxHeader: 4096})
	f.Fuzz(func(t *testing.T, p []byte, binary bool) {
		text := "From: alice@example.org\r\nX: x\r\n" + string(p)
		m := message(t, bytes.NewReader([]byte(text)))
		want := crlf(text)
		if binary {
			m.Needs, want = ext.Binary, text
		}
		signed, err := s.Prepare(t.Context(), m)
		if err != nil {
			if !isMessageError(err, "") {
				t.Fatal(err)
			}
			return
		}
		got, err := io.ReadAll(signed.Body)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(got, []byte("\r\n"+text)) {
			t.Fatalf("%q became %q", text, got)
		}
		wire := strings.TrimSuffix(string(got), text) + want
		first, rest, _ := strings.Cut(wire, "\r\nFrom: alice@")
		if strings.Contains(strings.ToLower(rest), "\ndkim-signature") {
			return // that of somebody else need not be good
		}
		if all, err := verify(wire, zone{r.Name: r.Value}); err != nil || len(all) != 1 {
			t.Fatalf("%q behind %s: %v", text, first, err)
		}
	})
}

// FuzzDomains: the domains of what net/mail takes are those that it finds.
func FuzzDomains(f *testing.F) {
	for _, text := range addresses {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range domains([]byte(text)) {
			if d == "" || strings.ContainsAny(d, "@ \t\r\n;=") {
				t.Fatalf("%q has the domain %q", text, d)
			}
		}
	})
}

// FuzzParsePrivateKey: no file makes it panic, and an error does not show what is in it.
func FuzzParsePrivateKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := ParsePrivateKey(p); err != nil && !strings.HasPrefix(err.Error(), "smtp: dkim: ") {
			t.Fatal(err)
		}
	})
}
