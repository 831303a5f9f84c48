package dkim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"
)

// A publicKey tells a public key, and signs nothing.
type publicKey struct {
	crypto.Signer
	public crypto.PublicKey
}

func (p publicKey) Public() crypto.PublicKey { return p.public }

// rsaOf is an RSA key of so many bits.
func rsaOf(bits uint) crypto.Signer {
	n := new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1)
	return publicKey{public: &rsa.PublicKey{N: n, E: 65537}}
}

// TestOptions: New names what is wrong, and takes what is right.
func TestOptions(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := func(domain, selector string, signer crypto.Signer) *Options {
		return &Options{Keys: []Key{{Domain: domain, Selector: selector, Signer: signer}}}
	}
	short := key("example.org", "s", rsaOf(1024))
	short.ShortRSA = true
	shorter := key("example.org", "s", rsaOf(1023))
	shorter.ShortRSA = true
	ed := edKey(t)
	many := &Options{}
	for i := range 9 {
		many.Keys = append(many.Keys, Key{Domain: "example.org", Selector: fmt.Sprint("s", i), Signer: ed})
	}
	for name, test := range map[string]struct {
		opt  *Options
		want string // in the error; "" for none
	}{
		"nil":             {nil, ""},
		"zero":            {&Options{}, ""},
		"Ed25519":         {key("example.org", "2026.a", ed), ""},
		"RSA 2048":        {key("example.org", "s", rsaOf(2048)), ""},
		"RSA 4096":        {key("example.org", "s", rsaOf(4096)), ""},
		"RSA 4097":        {key("example.org", "s", rsaOf(4097)), "need not take more than 4096"},
		"RSA 2047":        {key("example.org", "s", rsaOf(2047)), "or set ShortRSA"},
		"RSA 1024 short":  {short, ""},
		"RSA 1023 short":  {shorter, "do not take less than 1024"},
		"ECDSA":           {key("example.org", "s", ec), "give an RSA or an Ed25519 key"},
		"no key":          {key("example.org", "s", nil), "it has no Signer"},
		"U-label":         {key("münchen.example", "s", ed), ""},
		"no domain":       {key("", "s", ed), "the domain"},
		"literal":         {key("[192.0.2.1]", "s", ed), "address literal"},
		"bad domain":      {key("a b", "s", ed), "the domain"},
		"tags in domain":  {key("a;d=b", "s", ed), "the domain"},
		"no selector":     {key("example.org", "", ed), "Selector is empty"},
		"bad selector":    {key("example.org", "a;b", ed), "the selector"},
		"twice":           {&Options{Keys: []Key{{"a.example", "s", ed, false}, {"A.example", "S", ed, false}}}, "Keys[1]: there are two"},
		"same elsewhere":  {&Options{Keys: []Key{{"a.example", "s", ed, false}, {"b.example", "s", ed, false}}}, ""},
		"too many":        {many, "more than 8 keys"},
		"expiry":          {&Options{Expiry: time.Second}, ""},
		"short expiry":    {&Options{Expiry: time.Second - 1}, "Expiry"},
		"negative expiry": {&Options{Expiry: -1}, "Expiry"},
		"fields":          {&Options{Fields: []string{"X-A"}, IfPresent: []string{"From", "x-a"}}, ""},
		"bad field":       {&Options{Fields: []string{"A:B"}}, "no name of a header field"},
		"tags in field":   {&Options{IfPresent: []string{"a;d=x"}}, "no name of a header field"},
		"trace field":     {&Options{IfPresent: []string{"Received"}}, "mail systems change it"},
		"signature":       {&Options{Fields: []string{"DKIM-Signature"}}, "mail systems change it"},
		"negative limits": {&Options{MaxHeader: -1, MaxHeld: -1}, ""},
	} {
		s, err := New(test.opt)
		switch {
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		case err != nil && !strings.HasPrefix(err.Error(), "smtp: dkim: "):
			t.Errorf("%s: %v", name, err)
		case err == nil && (s.cfg.maxHeader != defaultMaxHeader || s.cfg.maxHeld != defaultMaxHeld):
			t.Errorf("%s: the limits are %d and %d", name, s.cfg.maxHeader, s.cfg.maxHeld)
		}
	}
}

// TestOptionsAreCopied: what is changed after New has no effect.
func TestOptionsAreCopied(t *testing.T) {
	opt := &Options{Keys: bothKeys(t, "example.org"), Fields: []string{"From"}, IfPresent: []string{"X"}}
	s := newSigner(t, opt)
	opt.Keys[0], opt.Fields[0], opt.IfPresent[0] = Key{}, "Y", "Y"
	if k := s.cfg.keys["example.org"][0]; k.Selector != "r" || s.cfg.fields[0] != "From" || s.cfg.ifPresent[0] != "X" {
		t.Errorf("%v %v %v", k, s.cfg.fields, s.cfg.ifPresent)
	}
}

// TestChoice: which keys sign is decided by the domains in From.
func TestChoice(t *testing.T) {
	ed := edKey(t)
	s := newSigner(t, &Options{Keys: []Key{
		{"example.org", "all", ed, true}, {"example.org", "only", ed, false},
		{"near.example.org", "near", ed, false}, {"münchen.example", "idn", ed, false},
		{"other.example", "o1", ed, true}, {"other.example", "o2", ed, true}, {"org.example", "top", ed, true},
	}})
	many := newSigner(t, &Options{Keys: func() (keys []Key) {
		for i := range 9 {
			keys = append(keys, Key{Domain: fmt.Sprintf("d%d.example", i), Selector: "s", Signer: ed})
		}
		return keys
	}()})
	for from, want := range map[string]string{
		"a@example.org":                                  "all only",
		"a@EXAMPLE.org":                                  "all only",
		"a@sub.example.org":                              "all",
		"a@deep.sub.example.org":                         "all",
		"a@near.example.org":                             "near",
		"a@sub.near.example.org":                         "all",
		"a@myexample.org":                                "",
		"a@org":                                          "",
		"a@example.org.org":                              "",
		"ä@münchen.example":                              "idn",
		"a@xn--mnchen-3ya.example":                       "idn",
		"a@MÜNCHEN.example":                              "idn",
		"a@example.org, b@other.example":                 "all only o1 o2",
		"b@other.example, a@example.org":                 "o1 o2 all only",
		"a@example.org, b@example.org":                   "all only",
		"a@s.example.org, b@example.org":                 "all",
		"Us: a@example.org, b@other.example;":            "all only o1 o2",
		"a@nobody.example, b@near.example.org":           "near",
		"undisclosed:;":                                  "",
		"a@[192.0.2.1]":                                  "",
		"\"a@near.example.org\" <a@other.example>":       "o1 o2",
		"a@other.example (a@near.example.org)":           "o1 o2",
		"a@near.example.org <a@other.example>":           "o1 o2",
		"<@near.example.org,@x.example:a@other.example>": "o1 o2",
	} {
		h := &header{from: []byte(from), count: map[string]int{"from": 1}}
		keys, err := s.cfg.keysFor(h)
		var got []string
		for _, k := range keys {
			got = append(got, k.Selector)
		}
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s: %v, %v, want %s", from, got, err, want)
		}
	}
	var all []string
	for i := range 9 {
		all = append(all, fmt.Sprintf("a@d%d.example", i))
	}
	for n := 8; n <= 9; n++ {
		h := &header{from: []byte(strings.Join(all[:n], ",")), count: map[string]int{"from": 1}}
		if keys, err := many.cfg.keysFor(h); (err == nil) != (n == 8) || err == nil && len(keys) != 8 {
			t.Errorf("%d domains: %d keys, %v", n, len(keys), err)
		}
	}
}

// addresses are the text of From fields.
var addresses = []string{
	"alice@example.org", "Alice <alice@example.org>", "Alice (a@b.example) <alice@example.org>", "<alice@example.org>",
	"\"Alice, of <x@y.example>\" <alice@example.org>", "\"a\\\"b@c.example\"@example.org", "a@b.example, c@d.example",
	"a@b.example (one, \\) two@three.example), c@d.example", "Group: a@b.example, \"C, D\" <c@d.example>;", "=?utf-8?q?a=40b?= <c@d.example>",
	"a@b.example, a@b.example", "Group:;", "\"x\" <a@example.org>, y@[192.0.2.1]", "a @ example.org", "a@\texample.org",
	"Alice <a@B.Example>", "\"\" <a@b.example>", "(a (nested@x.example) b) c@d.example", "G: a@b.example;, H: c@d.example;",
}

// TestDomains compares the domains that are found with those that net/mail finds.
func TestDomains(t *testing.T) {
	for _, text := range addresses {
		list, err := mail.ParseAddressList(text)
		if err != nil {
			if !strings.Contains(text, "(") && !strings.Contains(text, "Group:;") && !strings.Contains(text, " @") &&
				!strings.Contains(text, "\t") && !strings.Contains(text, "\"\"") {
				t.Errorf("net/mail does not take %s: %v", text, err)
			}
			continue
		}
		compare(t, text, list)
	}
	for text, want := range map[string]string{
		"Alice (a@b.example) <alice@example.org>": "example.org", "a@b.example (one, \\) two@three.example), c@d.example": "b.example d.example",
		"(a (nested@x.example) b) c@d.example": "d.example", "a @ example.org": "example.org", "a@ example . org": "example.org",
		"": "", "@": "", "a@": "", "a@b_c": "", "Group:;": "", "\"unended @b.example": "", "(unended @b.example": "", "<a@b.example": "b.example",
		"a@b.example\\": "", "\\": "", "\"\\": "", "a@b.example;c@d.example": "b.example d.example",
	} {
		if got := strings.Join(domains([]byte(text)), " "); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func compare(t *testing.T, text string, list []*mail.Address) {
	t.Helper()
	var want []string
	for _, a := range list {
		domain := strings.ToLower(a.Address[strings.LastIndexByte(a.Address, '@')+1:])
		if !slices.Contains(want, domain) && !strings.HasPrefix(domain, "[") {
			want = append(want, domain)
		}
	}
	if got := domains([]byte(text)); !slices.Equal(got, want) {
		t.Errorf("%q: %q, and by net/mail %q", text, got, want)
	}
}

// TestParsePrivateKey: keys of both kinds and both forms, and what is said of others.
func TestParsePrivateKey(t *testing.T) {
	ed := edKey(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	public, err := x509.MarshalPKIXPublicKey(ed.Public())
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(rsaKey())
	for name, test := range map[string]struct {
		text string
		want crypto.PublicKey
		err  string
	}{
		"PKCS 1":          {block("RSA PRIVATE KEY", pkcs1), rsaKey().Public(), ""},
		"RSA, PKCS 8":     {block("PRIVATE KEY", pkcs8(rsaKey())), rsaKey().Public(), ""},
		"Ed25519":         {"a comment\n" + block("PRIVATE KEY", pkcs8(ed)), ed.Public(), ""},
		"behind a public": {block("PUBLIC KEY", public) + block("PRIVATE KEY", pkcs8(ed)), ed.Public(), ""},
		"public":          {block("PUBLIC KEY", public), nil, "there is no private key in it"},
		"empty":           {"", nil, "there is no private key in it"},
		"ECDSA":           {block("PRIVATE KEY", pkcs8(ec)), nil, "give an RSA or an Ed25519 key"},
		"EC":              {block("EC PRIVATE KEY", []byte("x")), nil, "give an RSA or an Ed25519 key"},
		"malformed":       {block("PRIVATE KEY", []byte("secret")), nil, "is malformed"},
		"wrong form":      {block("RSA PRIVATE KEY", pkcs8(ed)), nil, "is malformed"},
		"password":        {block("ENCRYPTED PRIVATE KEY", []byte("x")), nil, "it has a password"},
		"old password": {"-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", nil,
			"it has a password"},
	} {
		got, err := ParsePrivateKey([]byte(test.text))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, want %q", name, err, test.err)
			}
			continue
		}
		if err != nil || !got.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecord: the records of RFC 8463 appendix A.2, from their private key and from a public one.
func TestRecord(t *testing.T) {
	seed := []byte("\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac" +
		"\x03\x1c\xae\x7f\x60") // RFC 8032 section 7.1
	k := Key{Domain: "Football.example.com", Selector: "Brisbane", Signer: ed25519.NewKeyFromSeed(seed)}
	r, err := k.Record()
	if err != nil || rfc8463Zone[r.Name] != r.Value {
		t.Errorf("%v, %v", r, err)
	}
	if want := r.Name + `. IN TXT ( "` + r.Value + `" )`; r.String() != want {
		t.Errorf("%s, want %s", r, want)
	}
	k = Key{Domain: "example.org", Selector: "r", Signer: rsaKey()}
	if r, err = k.Record(); err != nil {
		t.Fatal(err)
	}
	quoted := strings.Split(r.String(), `"`)
	if len(quoted) != 5 || len(quoted[1]) != 255 || quoted[1]+quoted[3] != r.Value {
		t.Errorf("%s", r)
	}
	for name, k := range map[string]Key{
		"domain": {Selector: "s", Signer: rsaKey()}, "selector": {Domain: "example.org", Signer: rsaKey()}, "key": {Domain: "a.example", Selector: "s"},
	} {
		if _, err := k.Record(); err == nil || !strings.HasPrefix(err.Error(), "smtp: dkim: ") {
			t.Errorf("no %s: %v", name, err)
		}
	}
}
