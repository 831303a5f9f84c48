package dane

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"testing"

	"smtpkit.example/smtp/ext/dns"
)

func TestPresents(t *testing.T) {
	for _, test := range []struct {
		presented, name string
		want            bool
	}{
		{"mx.example.org", "mx.example.org", true},
		{"MX.Example.ORG.", "mx.example.org", true},
		{"*.example.org", "mx.example.org", true},
		{"*.example.org", "a.mx.example.org", false},
		{"*.example.org", "example.org", false},
		{"*.org", "mx.example.org", false},
		{"*", "org", false},
		{"*.", "org", false},
		{"*.*.org", "mx.example.org", false},
		{"mx.*.org", "mx.example.org", false},
		{"m*.example.org", "mx.example.org", false},
		{"mx.example.org.example.net", "mx.example.org", false},
		{"xmx.example.org", "mx.example.org", false},
		{"", "mx.example.org", false},
		{"", "", false},
	} {
		if got := presents(test.presented, test.name); got != test.want {
			t.Errorf("%q for %q: %v", test.presented, test.name, got)
		}
	}
}

// The base domain counts without being in the list.
func TestX11_BaseOnly(t *testing.T) {
	p := policyOf(record(2, 0, 1, "inter"))
	p.Names = nil
	if err := p.Verify(state("leaf", "inter")); err != nil {
		t.Error(err)
	}
	if err := p.Verify(state("leaf for the domain", "inter")); err == nil {
		t.Error("a certificate for a domain that nobody has asked for is accepted")
	}
	p.Base, p.Names = "another.example", []string{"MX.example.org."}
	if err := p.Verify(state("leaf", "inter")); err != nil {
		t.Error(err)
	}
}

// Data in full are well formed if the outermost structure is. What is inside of it is compared and no more.
func TestX12_Form(t *testing.T) {
	for _, test := range []struct {
		what     string
		selector uint8
		data     string
		usable   bool
	}{
		{"the skeleton of a key", 1, "3006 3000 03020055", true},
		{"the skeleton of a certificate", 0, "3008 3000 3000 03020055", true},
		{"a key as a certificate", 0, "3006 3000 03020055", false},
		{"a certificate as a key", 1, "3008 3000 3000 03020055", false},
		{"something behind it", 1, "3006 3000 03020055 00", false},
		{"something missing", 1, "3006 3000 030200", false},
		{"an OCTET STRING", 1, "3006 3000 04020055", false},
		{"a SET", 1, "3006 3100 03020055", false},
		{"a SEQUENCE that is not constructed", 1, "3006 1000 03020055", false},
		{"a class that is not universal", 1, "3006 b000 03020055", false},
		{"a length that is not definite", 1, "3080 3000 03020055 0000", false},
		{"nothing", 1, "", false},
		{"text", 0, "68656c6c6f", false},
	} {
		r := dns.Association{Usage: 3, Selector: test.selector, Data: unspaced(test.data)}
		if got := policyOf(r).Usable(); got != test.usable {
			t.Errorf("%s: usable %v", test.what, got)
		}
	}
}

func unspaced(s string) []byte {
	var digits []byte
	for _, c := range []byte(s) {
		if c != ' ' {
			digits = append(digits, c)
		}
	}
	data, err := hex.DecodeString(string(digits))
	if err != nil {
		panic(err)
	}
	return data
}

// An authority whose key would take long to verify with is none.
func TestVerifyLargeKey(t *testing.T) {
	key := func(bits uint) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
	}
	for _, test := range []struct {
		bits uint
		want string
	}{{8192, notTrusted}, {8193, general}} {
		root := certs()["root"]
		template := *certs()["inter"].Certificate
		raw, err := x509.CreateCertificate(rand.Reader, &template, root.Certificate, key(test.bits), root.key)
		if err != nil {
			t.Fatal(err)
		}
		large := parse(raw)
		s := state("leaf", "sub")
		s.PeerCertificates = append(s.PeerCertificates, large)
		err = policyOf(dns.Association{Usage: 2, Data: raw}).Verify(s)
		if e, ok := asType[*Error](err); !ok || e.Result() != test.want {
			t.Errorf("%d bits: %v", test.bits, err)
		}
		if modest(large.PublicKey) != (test.want == notTrusted) {
			t.Errorf("%d bits are modest: %v", test.bits, modest(large.PublicKey))
		}
	}
}
