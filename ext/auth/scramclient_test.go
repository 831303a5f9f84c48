package auth

import (
	"crypto/hmac"
	"encoding/base64"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

// A malicious server wants the client to work without end, or to reveal a weak proof.
func TestSCRAMClientRefuses(t *testing.T) {
	const nonce = "fyko+d2lbbFgONRv9qkxdawL"
	first := func(nonce, salt, count string) string { return "r=" + nonce + ",s=" + salt + ",i=" + count }
	good := nonce + "3rfc"
	for _, tt := range []struct{ name, message, want string }{
		{"P34 iterations 2^31", first(good, "QSXCR+Q6sek8bf92", "2147483648"), "2147483648"},
		{"92 iterations beyond an int", first(good, "QSXCR+Q6sek8bf92", "99999999999999999999"), "none"},
		{"P34 one iteration too many", first(good, "QSXCR+Q6sek8bf92", "1000001"), "1000001"},
		{"P34 one too few", first(good, "QSXCR+Q6sek8bf92", "4095"), "4095"},
		{"iterations 0", first(good, "QSXCR+Q6sek8bf92", "0"), "none"},
		{"iterations negative", first(good, "QSXCR+Q6sek8bf92", "-4096"), "none"},
		{"iterations with a sign", first(good, "QSXCR+Q6sek8bf92", "+4096"), "none"},
		{"iterations with a zero", first(good, "QSXCR+Q6sek8bf92", "04096"), "none"},
		{"iterations missing", "r=" + good + ",s=QSXCR+Q6sek8bf92", "malformed"},
		{"92 empty salt", first(good, "", "4096"), "malformed"},
		{"salt not base64", first(good, "QSXC!", "4096"), "malformed"},
		{"salt of 1025 octets", first(good, base64.StdEncoding.EncodeToString(make([]byte, 1025)), "4096"), "malformed"},
		{"P34 nonce not extended", first(nonce, "QSXCR+Q6sek8bf92", "4096"), "nonce"},
		{"P34 another nonce", first("x"+good, "QSXCR+Q6sek8bf92", "4096"), "nonce"},
		{"92 half a nonce", first(nonce[:10], "QSXCR+Q6sek8bf92", "4096"), "nonce"},
		{"92 nonce in lower case", first(strings.ToLower(good), "QSXCR+Q6sek8bf92", "4096"), "nonce"},
		{"control character in nonce", first(good+"\x01", "QSXCR+Q6sek8bf92", "4096"), "malformed"},
		{"mandatory extension", "m=x," + first(good, "QSXCR+Q6sek8bf92", "4096"), "malformed"},
		{"mandatory extension at the end", first(good, "QSXCR+Q6sek8bf92", "4096,m=x"), "malformed"},
		{"another order", "s=QSXCR+Q6sek8bf92,r=" + good + ",i=4096", "malformed"},
		{"comma at the end", first(good, "QSXCR+Q6sek8bf92", "4096,"), "malformed"},
		{"error", "e=unknown-user", "unknown-user"},
		{"final message", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "malformed"},
		{"empty", "", "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := scramVectors[0].newClient()
			c.Start()
			response, err := c.Next([]byte(tt.message))
			if err == nil || !strings.Contains(err.Error(), tt.want) || response != nil {
				t.Errorf("%q, %v, want %q", response, err, tt.want)
			}
		})
	}
	for _, message := range []string{"4096", "1000000", "4096,x=y,z=1"} {
		c := scramVectors[0].newClient()
		c.Start()
		if _, err := c.Next([]byte(first(good, "QSXCR+Q6sek8bf92", message))); err != nil {
			t.Errorf("i=%s: %v", message, err)
		}
	}
}

// Row 91: the server does not know the secret, or sends no signature.
func TestSCRAMClientVerifies(t *testing.T) {
	v := scramVectors[1]
	for _, message := range []string{
		"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=", "", "v",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4", v.messages[3] + ",m=x", "x=y," + v.messages[3], "e=invalid-proof",
		v.messages[1],
	} {
		c := v.newClient()
		c.Start()
		if _, err := c.Next([]byte(v.messages[1])); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Next([]byte(message)); err == nil || c.Done() {
			t.Errorf("%q: %v, done: %v", message, err, c.Done())
		}
	}
}

// Row 91 on the wire: a 235 before the server has sent its signature is a failure.
func TestSCRAMConnect(t *testing.T) {
	creds := Password("user", "pencil", "SCRAM-SHA-256")
	for _, tt := range []struct {
		name    string
		replies []proto.Reply
		lines   int
		want    string
	}{
		{"91 success at once", []proto.Reply{say(235, "")}, 1, "not proved its own identity"},
		{"91 success at once, with words", []proto.Reply{say(235, "v=6rriTRBi23WpRR/wtup+mMhUZUn")}, 1, "not proved its own identity"},
		{"empty challenge", []proto.Reply{say(334, ""), say(501, "")}, 2, "malformed"},
		{"error", []proto.Reply{say(334, b64("e=other-error")), say(501, "")}, 2, "other-error"},
		{"refused", []proto.Reply{say(535, "no")}, 1, "535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := safeClient("AUTH SCRAM-SHA-256 PLAIN", creds, tt.replies...)
			err := Auth().Negotiate(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(c.Sent) != tt.lines || c.Conn.Identity != "" {
				t.Errorf("%v, sent %q", err, c.Sent)
			}
		})
	}
}

// FuzzSCRAMClient looks for messages by which a server without the secret passes for the real one, or makes the client
// work too long.
func FuzzSCRAMClient(f *testing.F) {
	for _, v := range scramVectors {
		f.Add(v.messages[1], v.messages[3])
	}
	f.Add("e=unknown-user", "e=other-error")
	f.Add("r=rOprNGfwEbeRWgbNEkqO1,s=AA==,i=4096,x=y", "v=AA==,m=x")
	f.Add("m=x,r=rOprNGfwEbeRWgbNEkqO1,s=AA==,i=99999999", "v=")
	f.Fuzz(func(t *testing.T, first, final string) {
		c := scramVectors[1].newClient()
		c.password = "another" // so that the signatures of the vectors do not match
		if _, _, err := c.Start(); err != nil {
			t.Fatal(err)
		}
		nonce, salt, iterations, err := parseServerFirst(first)
		if err == nil && (iterations < 4096 || iterations > 1000000 || len(salt) == 0 || len(salt) > 1024) {
			t.Fatalf("%q: %d iterations, salt %x", first, iterations, salt)
		}
		if iterations > 10000 {
			return // allowed, but too slow for a fuzz test
		}
		response, err := c.Next([]byte(first))
		if err != nil {
			return
		}
		if !strings.HasPrefix(nonce, c.nonce) || nonce == c.nonce || !strings.HasPrefix(string(response), "c=biws,r="+nonce+",p=") {
			t.Fatalf("%q is answered with %q", first, response)
		}
		signature := c.signature
		if _, err := c.Next([]byte(final)); err == nil || c.Done() {
			text, _, _ := strings.Cut(strings.TrimPrefix(final, "v="), ",")
			if got, err := decode64(text); err != nil || !hmac.Equal(got, signature) {
				t.Fatalf("%q was believed", final)
			}
		}
	})
}
