package dane

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/dns"
)

// This file is a second implementation of the match, made for comparison: it tries every path through the certificates,
// and checks each rule by itself. It uses neither the verification of crypto/x509 nor anything of the package.

// judge reports whether a server that sends those certificates is accepted.
func judge(sent []*x509.Certificate, records []dns.Association, names []string) bool {
	records = slices.DeleteFunc(slices.Clone(records), func(r dns.Association) bool { return !sound(r) })
	if len(records) == 0 {
		return true
	}
	records = slices.DeleteFunc(slices.Clone(records), func(r dns.Association) bool {
		return r.Matching == 1 && slices.ContainsFunc(records, func(o dns.Association) bool {
			return o.Usage == r.Usage && o.Selector == r.Selector && o.Matching == 2
		})
	})
	for _, r := range records {
		if r.Usage == 3 && fits(r, sent[0]) {
			return true
		}
	}
	known := slices.Clone(sent[1:])
	for _, r := range records {
		if r.Usage == 2 && r.Selector == 0 && r.Matching == 0 {
			if cert, err := x509.ParseCertificate(r.Data); err == nil {
				known = append(known, cert)
			}
		}
	}
	return lead([]*x509.Certificate{sent[0]}, known, sent, records, names)
}

// sound reports whether a record is usable.
func sound(r dns.Association) bool {
	if r.Usage != 2 && r.Usage != 3 || r.Selector > 1 {
		return false
	}
	switch r.Matching {
	case 0:
		// A SEQUENCE of two SEQUENCEs and a BIT STRING, or of one of each.
		outer, rest := split(r.Data)
		tags, inner := "", []byte(nil)
		if len(rest) == 0 && len(outer) > 0 {
			for inner = outer[1:]; len(inner) > 0; {
				var part []byte
				if part, inner = split(inner); part == nil {
					return false
				}
				tags += hex.EncodeToString(part[:1])
			}
		}
		return len(outer) > 0 && outer[0] == 0x30 && len(r.Data) < 65533 &&
			tags == map[uint8]string{0: "303003", 1: "3003"}[r.Selector]
	case 1:
		return len(r.Data) == 32
	case 2:
		return len(r.Data) == 64
	}
	return false
}

// split divides b behind its first element, which it returns as the octet of its tag and the content. It returns nil if
// there is none in DER.
func split(b []byte) (element, rest []byte) {
	var raw asn1.RawValue
	rest, err := asn1.Unmarshal(b, &raw)
	if err != nil {
		return nil, b
	}
	return append([]byte{b[0]}, raw.Bytes...), rest
}

func fits(r dns.Association, cert *x509.Certificate) bool {
	of := map[uint8][]byte{0: cert.Raw, 1: cert.RawSubjectPublicKeyInfo}[r.Selector]
	d256, d512 := sha256.Sum256(of), sha512.Sum512(of)
	return hex.EncodeToString(r.Data) == hex.EncodeToString(map[uint8][]byte{0: of, 1: d256[:], 2: d512[:]}[r.Matching])
}

// lead reports whether path can be made longer until a trust anchor, so that all rules hold.
func lead(path, known, sent []*x509.Certificate, records []dns.Association, names []string) bool {
	last := path[len(path)-1]
	for _, r := range records {
		if r.Usage != 2 {
			continue
		}
		if len(path) > 1 && fits(r, last) && valid(path, names) {
			return true
		}
		// A key in full, whose certificate need not be there: only for certificates that the server sends.
		held := func(c *x509.Certificate) bool { return fits(r, c) } // its certificate is there, with constraints
		if r.Selector == 1 && r.Matching == 0 && !slices.ContainsFunc(sent[1:], held) &&
			slices.ContainsFunc(sent, last.Equal) {
			key, err := x509.ParsePKIXPublicKey(r.Data)
			if err == nil && signed(last, key) && valid(path, names) {
				return true
			}
		}
	}
	if len(path) > 6 {
		return false
	}
	for i, cert := range known {
		// A certificate that stands in a record only is an anchor and no link.
		if !bytes.Equal(cert.RawSubject, last.RawIssuer) || !signed(last, cert.PublicKey) {
			continue
		}
		anchor := func(r dns.Association) bool { return r.Usage == 2 && fits(r, cert) }
		if slices.ContainsFunc(path, cert.Equal) || i >= len(sent)-1 && !slices.ContainsFunc(records, anchor) {
			continue
		}
		if lead(append(slices.Clone(path), cert), known, sent, records, names) {
			return true
		}
	}
	return false
}

func signed(cert *x509.Certificate, key any) bool {
	k, ok := key.(*ecdsa.PublicKey)
	sum := sha256.Sum256(cert.RawTBSCertificate)
	return ok && cert.SignatureAlgorithm == x509.ECDSAWithSHA256 && ecdsa.VerifyASN1(k, sum[:], cert.Signature)
}

// valid reports whether a path is in order, and its first certificate is for one of names.
func valid(path []*x509.Certificate, names []string) bool {
	for i, cert := range path {
		usage := len(cert.ExtKeyUsage) == 0 || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		if noon.Before(cert.NotBefore) || noon.After(cert.NotAfter) || len(cert.UnhandledCriticalExtensions) > 0 || !usage {
			return false
		}
		if i > 0 && (!cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0) {
			return false
		}
		if i > 0 && cert.MaxPathLen >= 0 && (cert.MaxPathLen > 0 || cert.MaxPathLenZero) && i-1 > cert.MaxPathLen {
			return false
		}
	}
	leaf := path[0]
	presented := leaf.DNSNames
	if len(presented) == 0 {
		presented = []string{leaf.Subject.CommonName}
	}
	for _, p := range presented {
		for _, ca := range path[1:] {
			if len(leaf.DNSNames) > 0 && !allowed(ca, strings.TrimPrefix(strings.ToLower(p), "*.")) {
				return false // one name outside of the constraints makes the certificate invalid
			}
		}
	}
	for _, p := range presented {
		pattern := regexp.QuoteMeta(strings.TrimSuffix(strings.ToLower(p), "."))
		if wild, ok := strings.CutPrefix(pattern, `\*\.`); ok {
			pattern = `[^.]+\.` + wild
		}
		for _, name := range names {
			if regexp.MustCompile("^" + pattern + "$").MatchString(name) {
				if len(leaf.DNSNames) > 0 || !slices.ContainsFunc(path[1:], func(ca *x509.Certificate) bool {
					return !allowed(ca, name) ||
						strings.Contains(p, "*") && len(ca.PermittedDNSDomains)+len(ca.ExcludedDNSDomains) > 0
				}) {
					return true
				}
			}
		}
	}
	return false
}

func allowed(ca *x509.Certificate, name string) bool {
	under := func(domain string) bool { return strings.HasSuffix("."+name, "."+domain) }
	return !slices.ContainsFunc(ca.ExcludedDNSDomains, under) &&
		(len(ca.PermittedDNSDomains) == 0 || slices.ContainsFunc(ca.PermittedDNSDomains, under))
}

// draw returns what a server sends and its records, drawn with r.
func draw(r *rand.Rand) (sent list, records []dns.Association) {
	all := slices.Sorted(maps.Keys(certs()))
	var leaves, authorities list
	for _, name := range all {
		if strings.HasPrefix(name, "leaf") {
			leaves = append(leaves, name)
		} else {
			authorities = append(authorities, name)
		}
	}
	one := func(l list) string { return l[r.IntN(len(l))] }
	sent = list{one(leaves)}
	// Mostly the true issuers, in any order, with some left out and some put in.
	for cert := certs()[sent[0]]; ; {
		i := slices.IndexFunc(all, func(n string) bool { return bytes.Equal(certs()[n].RawSubject, cert.RawIssuer) })
		if i < 0 || slices.Contains(sent, all[i]) {
			break
		}
		cert = certs()[all[i]]
		if r.IntN(5) > 0 {
			sent = append(sent, all[i])
		}
	}
	for r.IntN(3) == 0 {
		sent = append(sent, one(authorities))
	}
	rest := sent[1:]
	r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	for len(records) == 0 || r.IntN(3) == 0 {
		about := one(all)
		if r.IntN(4) > 0 {
			about = one(sent)
		}
		usage := []uint8{2, 2, 2, 2, 2, 3, 3, 0, 1, 4}[r.IntN(10)]
		a := record(usage, uint8(r.IntN(20)/9), uint8(r.IntN(20)/6), about)
		switch r.IntN(12) {
		case 0:
			a = cut(a, r.IntN(len(a.Data)+1))
		case 1:
			a.Data = append(slices.Clone(a.Data), 0)
		case 2:
			a.Data = slices.Clone(a.Data)
			a.Data[r.IntN(len(a.Data))] ^= 1 << r.IntN(8)
		}
		records = append(records, a)
	}
	return sent, records
}

// TestX11_SecondImplementation compares Verify with judge.
func TestX11_SecondImplementation(t *testing.T) {
	for _, v := range vectors() {
		if got := judge(chain(v.sent...), v.records, policyOf().Names); got != (v.want == "") {
			t.Errorf("%s: the second implementation accepts it: %v", v.name, got)
		}
	}
	var accepted, refused int
	r := rand.New(rand.NewPCG(7672, 6698))
	for range 3000 {
		sent, records := draw(r)
		p := policyOf(records...)
		got, want := p.Verify(state(sent...)), judge(chain(sent...), records, p.Names)
		if (got == nil) != want {
			t.Fatalf("%q with %q: %v, the second implementation accepts it: %v", sent, abridge(records), got, want)
		}
		if !p.Usable() {
			continue
		}
		if want {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 300 || refused < 300 {
		t.Errorf("%d accepted, %d refused: the draw is no test", accepted, refused)
	}
}

// FuzzVerify compares Verify with judge for any record beside drawn ones.
func FuzzVerify(f *testing.F) {
	for i, v := range vectors() {
		for _, r := range v.records {
			f.Add(uint64(i), r.Usage, r.Selector, r.Matching, r.Data)
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64, usage, selector, matching uint8, data []byte) {
		sent, records := draw(rand.New(rand.NewPCG(seed, 1)))
		records = append(records, dns.Association{Usage: usage, Selector: selector, Matching: matching, Data: data})
		p := policyOf(records...)
		got, want := p.Verify(state(sent...)), judge(chain(sent...), records, p.Names)
		if (got == nil) != want {
			t.Fatalf("%q with %q: %v, the second implementation accepts it: %v", sent, p.Strings(), got, want)
		}
		if (p.Problem() == nil) != p.Usable() || len(p.Strings()) != len(records) {
			t.Error("the policy contradicts itself")
		}
	})
}
