package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// A zone has the TXT records of the DNS by name.
type zone map[string]string

// zoneOf returns the records of keys.
func zoneOf(t *testing.T, keys ...Key) zone {
	t.Helper()
	z := make(zone)
	for _, k := range keys {
		r, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		z[r.Name] = r.Value
	}
	return z
}

func (z zone) lookup(name string) ([]string, error) {
	if value, ok := z[name]; ok {
		return []string{value}, nil
	}
	return nil, errors.New("no such name: " + name)
}

// tags returns the tags of a list (RFC 6376 section 3.2).
func tags(list string) map[string]string {
	m := make(map[string]string)
	for tag := range strings.SplitSeq(list, ";") {
		if name, value, ok := strings.Cut(tag, "="); ok {
			m[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
		}
	}
	return m
}

var (
	spaces   = regexp.MustCompile(`[ \t]+`)
	trailing = regexp.MustCompile(`[ \t]+\r\n`)
	folding  = regexp.MustCompile(`\r\n([ \t])`)
	anyField = regexp.MustCompile(`(?s)[^ \t\r\n][^\r\n]*(\r\n[ \t][^\r\n]*)*\r\n`)
	bValue   = regexp.MustCompile(`(^|;)([ \t\r\n]*b[ \t\r\n]*=)[^;]*`)
)

// relaxedField is RFC 6376 section 3.4.2.
func relaxedField(field string) string {
	name, value, _ := strings.Cut(folding.ReplaceAllString(field, "$1"), ":")
	value = strings.Trim(spaces.ReplaceAllString(value, " "), " \r\n")
	return strings.ToLower(strings.TrimRight(name, " \t")) + ":" + value + "\r\n"
}

// relaxedBody is RFC 6376 section 3.4.4.
func relaxedBody(body string) string {
	if body != "" && !strings.HasSuffix(body, "\r\n") {
		body += "\r\n"
	}
	body = spaces.ReplaceAllString(trailing.ReplaceAllString(body, "\r\n"), " ")
	for strings.HasSuffix(body, "\r\n\r\n") {
		body = strings.TrimSuffix(body, "\r\n")
	}
	if body == "\r\n" {
		return ""
	}
	return body
}

// verify checks all signatures of a message whose lines end with CRLF, by RFC 6376 section 6.1 alone: it shares no code
// with what signs. It returns the tags of each.
func verify(message string, z zone) ([]map[string]string, error) {
	head, body, _ := strings.Cut(message, "\r\n\r\n")
	fields := anyField.FindAllString(head+"\r\n", -1)
	var all []map[string]string
	for at, field := range fields {
		if name, _, _ := strings.Cut(field, ":"); !strings.EqualFold(name, "DKIM-Signature") {
			continue
		}
		t, err := verifyField(fields, at, body, z)
		if err != nil {
			return all, fmt.Errorf("signature %d of %s: %w", len(all)+1, t["d"], err)
		}
		all = append(all, t)
	}
	return all, nil
}

func verifyField(fields []string, at int, body string, z zone) (map[string]string, error) {
	_, value, _ := strings.Cut(fields[at], ":")
	t := tags(value)
	if t["v"] != "1" || t["c"] != "relaxed/relaxed" || t["l"] != "" {
		return t, fmt.Errorf("the tags %v", t)
	}
	if x, err := strconv.ParseInt(t["x"], 10, 64); err == nil && time.Now().Unix() > x {
		return t, errors.New("it has expired")
	}
	if sum := sha256.Sum256([]byte(relaxedBody(body))); base64.StdEncoding.EncodeToString(sum[:]) != t["bh"] {
		return t, errors.New("the hash of the body is another one")
	}
	used := make(map[int]bool)
	var signed strings.Builder
	for name := range strings.SplitSeq(t["h"], ":") {
		for i := len(fields) - 1; i >= 0; i-- { // from the bottom (section 5.4.2)
			canonical := relaxedField(fields[i])
			if !used[i] && strings.HasPrefix(canonical, strings.ToLower(name)+":") {
				used[i] = true
				signed.WriteString(canonical)
				break
			}
		}
	}
	name, value, _ := strings.Cut(fields[at], ":")
	bare := relaxedField(name + ":" + bValue.ReplaceAllString(value, "$1$2"))
	signed.WriteString(strings.TrimSuffix(bare, "\r\n"))
	digest := sha256.Sum256([]byte(signed.String()))
	signature, err := base64.StdEncoding.DecodeString(t["b"])
	if err != nil {
		return t, err
	}
	return t, verifyDigest(t["a"], tags(z[t["s"]+"._domainkey."+t["d"]]), digest[:], signature)
}

func verifyDigest(algorithm string, record map[string]string, digest, signature []byte) error {
	public, err := base64.StdEncoding.DecodeString(record["p"])
	if err != nil || len(public) == 0 {
		return fmt.Errorf("the record is %v", record)
	}
	switch algorithm + " " + record["k"] {
	case "rsa-sha256 rsa":
		key, err := x509.ParsePKIXPublicKey(public)
		if err != nil {
			return err
		}
		return rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), crypto.SHA256, digest, signature)
	case "ed25519-sha256 ed25519":
		if !ed25519.Verify(public, digest, signature) {
			return errors.New("the signature is wrong")
		}
		return nil
	}
	return fmt.Errorf("the algorithm %s with the record %v", algorithm, record)
}

// verifyBoth checks the signatures of a message with the verifier above and that of go-msgauth, and returns the domains
// of the signatures, or an error if one of the two does.
func verifyBoth(message string, z zone) (domains []string, err error) {
	all, err := verify(message, z)
	if !strings.Contains(message, "\r\n\r\n") {
		message = strings.TrimSuffix(message, "\r\n") + "\r\n\r\n" // go-msgauth takes no header without the empty line
	}
	checks, failed := msgauth.VerifyWithOptions(strings.NewReader(message), &msgauth.VerifyOptions{LookupTXT: z.lookup})
	for _, c := range checks {
		if c.Err != nil {
			failed = c.Err
		}
		domains = append(domains, c.Domain)
	}
	if (err == nil) != (failed == nil) || err == nil && len(all) != len(checks) {
		return nil, fmt.Errorf("two verifiers disagree: %v (%d), %v (%d)", err, len(all), failed, len(checks))
	}
	return domains, errors.Join(err, failed)
}

// rfc8463 is the example of RFC 8463 appendix A.3.
const rfc8463 = `DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
`

var rfc8463Zone = zone{
	"brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
	"test._domainkey.football.example.com": "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6Np" +
		"P3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO" +
		"9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
}

// TestVerifier checks that what the tests verify with takes the example of RFC 8463, and nothing else.
func TestVerifier(t *testing.T) {
	message := strings.ReplaceAll(rfc8463, "\n", "\r\n")
	domains, err := verifyBoth(message, rfc8463Zone)
	if err != nil || len(domains) != 2 {
		t.Fatalf("%v %v", domains, err)
	}
	for _, change := range [][2]string{
		{"hungry", "Hungry"}, {"From: Joe", "From: Jo"}, {"Subject:", "Subject: A\r\nSubject:"}, {"Hi.", "H\r\ni."},
		{"bh=2", "bh=3"},
	} {
		changed := strings.Replace(message, change[0], change[1], 1)
		if changed == message {
			t.Fatalf("there is no %q", change[0])
		}
		if _, err := verify(changed, rfc8463Zone); err == nil {
			t.Errorf("%q in place of %q is taken", change[1], change[0])
		}
	}
}

// crlf returns text as it is transmitted.
func crlf(text string) string {
	var b bytes.Buffer
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\r' && i+1 < len(text) && text[i+1] == '\n':
		case text[i] == '\r', text[i] == '\n':
			b.WriteString("\r\n")
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}
