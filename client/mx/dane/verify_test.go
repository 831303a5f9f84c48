package dane

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

type list = []string

// A vector is what a server sends, what its records are, and the result type for it: "" if it is accepted.
type vector struct {
	name    string
	sent    list
	records []dns.Association
	want    string
}

func records(r ...dns.Association) []dns.Association { return r }

// cut returns r with data of n octets.
func cut(r dns.Association, n int) dns.Association {
	r.Data = slices.Clone(r.Data[:min(n, len(r.Data))])
	return r
}

func endEntity() []vector {
	return []vector{
		{"X11 the key", list{"leaf", "inter"}, records(record(3, 1, 1, "leaf")), ""},
		{"the key, SHA2-512", list{"leaf"}, records(record(3, 1, 2, "leaf")), ""},
		{"the key in full", list{"leaf"}, records(record(3, 1, 0, "leaf")), ""},
		{"the certificate", list{"leaf"}, records(record(3, 0, 1, "leaf")), ""},
		{"the certificate, SHA2-512", list{"leaf"}, records(record(3, 0, 2, "leaf")), ""},
		{"the certificate in full", list{"leaf"}, records(record(3, 0, 0, "leaf")), ""},
		{"X11 another key", list{"leaf", "inter"}, records(record(3, 1, 1, "leaf of root")), general},
		{"another certificate in full", list{"leaf"}, records(record(3, 0, 0, "leaf of root")), general},
		{"X11 a certificate that is issued by nobody", list{"leaf of nobody"},
			records(record(3, 1, 1, "leaf of nobody")), ""},
		{"X11 expired", list{"leaf expired", "inter"}, records(record(3, 1, 1, "leaf expired")), ""},
		{"X11 not yet valid", list{"leaf of the future"}, records(record(3, 0, 1, "leaf of the future")), ""},
		{"X11 another name", list{"leaf for another host"}, records(record(3, 1, 1, "leaf for another host")), ""},
		{"another purpose", list{"leaf for clients"}, records(record(3, 1, 1, "leaf for clients")), ""},
		{"an unknown extension", list{"leaf with an unknown extension"},
			records(record(3, 1, 1, "leaf with an unknown extension")), ""},
		{"a damaged signature", list{"leaf damaged"}, records(record(3, 0, 1, "leaf damaged")), ""},
		{"an authority", list{"root"}, records(record(3, 1, 1, "root")), ""},
		{"X11 not the issuer", list{"leaf", "inter"}, records(record(3, 1, 1, "inter")), general},
		{"one record of several", list{"leaf"}, records(record(3, 1, 1, "root"), record(3, 1, 1, "leaf")), ""},
		{"X11 the key under the selector of the certificate", list{"leaf"},
			records(dns.Association{Usage: 3, Matching: 1, Data: record(3, 1, 1, "leaf").Data}), general},
	}
}

func trustAnchor() []vector {
	return []vector{
		{"X11 the root, sent", list{"leaf", "inter", "root"}, records(record(2, 0, 1, "root")), ""},
		{"the root, SHA2-512", list{"leaf", "inter", "root"}, records(record(2, 0, 2, "root")), ""},
		{"the key of the root", list{"leaf", "inter", "root"}, records(record(2, 1, 1, "root")), ""},
		{"an issuer that is no root", list{"leaf", "inter"}, records(record(2, 0, 1, "inter")), ""},
		{"an issuer that is no root, and what follows", list{"leaf", "inter", "root"}, records(record(2, 1, 1, "inter")), ""},
		{"not in order", list{"leaf of sub", "root", "sub", "inter"}, records(record(2, 0, 1, "root")), ""},
		{"with others between", list{"leaf", "foreign root", "inter", "sub", "root"}, records(record(2, 0, 1, "root")), ""},
		{"X11 the root, not sent", list{"leaf", "inter"}, records(record(2, 0, 1, "root")), general},
		{"X11 an issuer between, not sent", list{"leaf", "root"}, records(record(2, 0, 1, "root")), notTrusted},
		{"the root in full, sent", list{"leaf", "inter", "root"}, records(record(2, 0, 0, "root")), ""},
		{"X11 the root in full, not sent", list{"leaf", "inter"}, records(record(2, 0, 0, "root")), ""},
		{"an issuer in full, not sent", list{"leaf"}, records(record(2, 0, 0, "inter")), ""},
		{"another issuer in full", list{"leaf"}, records(record(2, 0, 0, "foreign root")), notTrusted},
		{"the root in full, an issuer between not sent", list{"leaf"}, records(record(2, 0, 0, "root")), notTrusted},
		{"an issuer in a record is not taken from another record as a link", list{"leaf"},
			records(record(2, 0, 0, "root"), record(3, 0, 0, "inter")), notTrusted},
		{"the key in full, sent", list{"leaf", "inter"}, records(record(2, 1, 0, "inter")), ""},
		{"the key in full of the root, not sent", list{"leaf", "inter"}, records(record(2, 1, 0, "root")), ""},
		{"the key in full of the only issuer, not sent", list{"leaf"}, records(record(2, 1, 0, "inter")), ""},
		{"the key in full, whose certificate has constraints", list{"leaf of inter for others", "inter for others"},
			records(record(2, 1, 0, "inter for others")), notTrusted},
		{"the key in full, whose certificate bounds the path", list{"leaf of sub of inter without inters",
			"sub of inter without inters", "inter without inters"},
			records(record(2, 1, 0, "inter without inters")), notTrusted},
		{"another key in full", list{"leaf", "inter"}, records(record(2, 1, 0, "foreign root")), general},
		{"the key in full, of one that may not certify", list{"leaf of inter without CA", "inter without CA"},
			records(record(2, 1, 0, "root")), general},
		{"the key in full, leaf expired", list{"leaf expired"}, records(record(2, 1, 0, "inter")), expired},
		{"the key in full, another name", list{"leaf for another host"}, records(record(2, 1, 0, "inter")), hostMismatch},
		{"the key in full, damaged", list{"leaf damaged"}, records(record(2, 1, 0, "inter")), general},
		{"the key of one that is certified twice", list{"leaf", "inter crossed"}, records(record(2, 1, 1, "inter")), ""},
		{"the certificate of one that is certified twice", list{"leaf", "inter crossed"},
			records(record(2, 0, 1, "inter")), general},

		{"X11 matched, but not the issuer", list{"leaf of nobody", "root"}, records(record(2, 0, 1, "root")), notTrusted},
		{"X11 matched, but only of the name of the issuer", list{"leaf", "inter forged"},
			records(record(2, 0, 1, "inter forged")), notTrusted},
		{"X11 a damaged signature", list{"leaf damaged", "inter"}, records(record(2, 0, 1, "inter")), notTrusted},
		{"X11 the server's own certificate", list{"leaf", "inter"}, records(record(2, 0, 1, "leaf")), general},
		{"X11 the server's own certificate, by itself", list{"leaf of nobody"},
			records(record(2, 1, 1, "leaf of nobody")), general},
		{"X11 the server's own certificate, twice", list{"leaf of nobody", "leaf of nobody"},
			records(record(2, 0, 1, "leaf of nobody")), general},
		{"X11 the server's own certificate in full", list{"leaf of nobody"},
			records(record(2, 0, 0, "leaf of nobody")), general},
		{"the key of an issuer, that another certificate has", list{"leaf with the key of inter"},
			records(record(2, 1, 1, "inter")), general},

		{"X11 expired", list{"leaf expired", "inter"}, records(record(2, 0, 1, "inter")), expired},
		{"not yet valid", list{"leaf of the future", "inter"}, records(record(2, 0, 1, "inter")), expired},
		{"an issuer between expired", list{"leaf of inter expired", "inter expired", "root"},
			records(record(2, 0, 1, "root")), expired},
		{"the trust anchor expired", list{"leaf of root expired", "root expired"},
			records(record(2, 0, 1, "root expired")), expired},
		{"for another purpose", list{"leaf for clients", "inter"}, records(record(2, 0, 1, "inter")), notTrusted},
		{"an unknown extension", list{"leaf with an unknown extension", "inter"},
			records(record(2, 0, 1, "inter")), notTrusted},
		{"X11 issued by one that is no authority", list{"leaf of leaf", "leaf that certifies", "inter"},
			records(record(2, 0, 1, "inter")), notTrusted},
		{"X11 a trust anchor that is no authority", list{"leaf of leaf", "leaf that certifies"},
			records(record(2, 0, 1, "leaf that certifies")), notTrusted},
		{"an issuer without the CA flag", list{"leaf of inter without CA", "inter without CA", "root"},
			records(record(2, 0, 1, "root")), notTrusted},
		{"an issuer that must not sign", list{"leaf of inter that signs nothing", "inter that signs nothing", "root"},
			records(record(2, 0, 1, "root")), notTrusted},
		{"a path too long", list{"leaf of sub of inter without inters", "sub of inter without inters",
			"inter without inters", "root"}, records(record(2, 0, 1, "root")), notTrusted},
		{"a path too long below the trust anchor", list{"leaf of sub of inter without inters",
			"sub of inter without inters", "inter without inters"},
			records(record(2, 0, 1, "inter without inters")), notTrusted},
		{"X11 constraints", list{"leaf of inter for others", "inter for others", "root"},
			records(record(2, 0, 1, "root")), notTrusted},
		{"constraints of the trust anchor", list{"leaf of inter for others", "inter for others"},
			records(record(2, 1, 1, "inter for others")), notTrusted},
	}
}

func names() []vector {
	inter := records(record(2, 0, 1, "inter"))
	return []vector{
		{"X11 another host", list{"leaf for another host", "inter"}, inter, hostMismatch},
		{"X11 the next-hop domain", list{"leaf for the domain", "inter"}, inter, ""},
		{"X11 the expanded next-hop domain", list{"leaf for the expanded domain", "inter"}, inter, ""},
		{"a wildcard", list{"leaf with a wildcard", "inter"}, inter, ""},
		{"a wildcard for one label more", list{"leaf with a wildcard too high", "inter"}, inter, ""}, // for example.org
		{"a wildcard that is part of a label", list{"leaf with a partial wildcard", "inter"}, inter, hostMismatch},
		{"a common name", list{"leaf with a common name", "inter"}, inter, ""},
		{"a wildcard as common name", list{"leaf with a common wildcard", "inter"}, inter, ""},
		{"a common name besides a DNS name", list{"leaf with a common name besides another", "inter"}, inter, hostMismatch},
		{"a common name outside of constraints", list{"leaf of inter for others with a common name", "inter for others"},
			records(record(2, 0, 1, "inter for others")), hostMismatch},
		{"a common name that is excluded", list{"leaf of inter not for us with a common name", "inter not for us", "root"},
			records(record(2, 0, 1, "root")), hostMismatch},
		{"a common name within constraints", list{"leaf of inter for us with a common name", "inter for us"},
			records(record(2, 0, 1, "inter for us")), ""},
		{"a wildcard as common name under constraints",
			list{"leaf of inter for us with a common wildcard", "inter for us"},
			records(record(2, 0, 1, "inter for us")), hostMismatch},
	}
}

func mixed() []vector {
	long := dns.Association{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 33)}
	return []vector{
		{"X11 usage 3 fails, usage 2 matches", list{"leaf", "inter"},
			records(record(3, 1, 1, "root"), record(2, 0, 1, "inter")), ""},
		{"X11 usage 2 fails, usage 3 matches", list{"leaf for another host", "inter"},
			records(record(2, 0, 1, "inter"), record(3, 1, 1, "leaf for another host")), ""},
		{"X11 usage 1 would match", list{"leaf", "inter"},
			records(record(1, 1, 1, "leaf"), record(3, 1, 1, "root")), general},
		{"X11 usage 0 would match", list{"leaf", "inter"},
			records(record(0, 0, 1, "inter"), record(3, 1, 1, "root")), general},
		{"X12 usages 0 and 1 only", list{"leaf"}, records(record(0, 0, 1, "root"), record(1, 1, 1, "root")), ""},
		{"X12 an unknown usage only", list{"leaf"}, records(record(255, 1, 1, "root")), ""},
		{"X12 an unknown selector only", list{"leaf"}, records(record(3, 2, 1, "root")), ""},
		{"X12 an unknown matching type only", list{"leaf"}, records(record(3, 1, 3, "root")), ""},
		{"X12 a truncated digest only", list{"leaf"}, records(cut(record(3, 1, 2, "root"), 32)), ""},
		{"X12 a truncated digest besides one that fails", list{"leaf"},
			records(cut(record(3, 1, 2, "leaf"), 32), record(3, 1, 1, "root")), general},
		{"a truncated digest that begins well", list{"leaf"},
			records(cut(record(3, 1, 1, "leaf"), 31), record(2, 0, 1, "root")), general},
		{"a digest too long", list{"leaf"}, records(long, record(3, 1, 1, "root")), general},
		{"X12 no data", list{"leaf"}, records(cut(record(3, 1, 0, "leaf"), 0), record(3, 0, 1, "root")), general},
		{"X12 no data only", list{"leaf"}, records(cut(record(2, 0, 0, "leaf"), 0)), ""},
		{"X12 one that is usable counts", list{"leaf"}, records(record(1, 1, 1, "leaf"), record(2, 0, 1, "root")), general},

		{"the stronger digest matches", list{"leaf"}, records(record(3, 1, 1, "root"), record(3, 1, 2, "leaf")), ""},
		{"the weaker digest does not count", list{"leaf"},
			records(record(3, 1, 1, "leaf"), record(3, 1, 2, "root")), general},
		{"the weaker digest counts beside an unusable one", list{"leaf"},
			records(record(3, 1, 1, "leaf"), cut(record(3, 1, 2, "root"), 63)), ""},
		{"the weaker digest counts for another selector", list{"leaf"},
			records(record(3, 0, 1, "leaf"), record(3, 1, 2, "root")), ""},
		{"the weaker digest counts for another usage", list{"leaf", "inter"},
			records(record(2, 1, 1, "inter"), record(3, 1, 2, "root")), ""},
		{"the full data count beside a digest", list{"leaf"}, records(record(3, 1, 0, "leaf"), record(3, 1, 2, "root")), ""},
		{"a digest counts beside full data", list{"leaf"}, records(record(3, 1, 1, "leaf"), record(3, 1, 0, "root")), ""},
	}
}

func vectors() []vector { return slices.Concat(endEntity(), trustAnchor(), names(), mixed()) }

func TestVerify(t *testing.T) {
	for _, group := range []struct {
		name    string
		vectors []vector
	}{
		{"end entity", endEntity()}, {"trust anchor", trustAnchor()}, {"names", names()}, {"mixed", mixed()},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, v := range group.vectors {
				t.Run(v.name, func(t *testing.T) {
					p := policyOf(v.records...)
					err := p.Verify(state(v.sent...))
					if v.want == "" {
						if err != nil {
							t.Error(err)
						}
						return
					}
					e, ok := err.(*Error)
					if !ok || e.Result() != v.want || e.Status() != (proto.Status{4, 7, 5}) || !client.Temporary(err) {
						t.Fatalf("got %v, want a temporary error of type %s", err, v.want)
					}
					if e.Host != p.Base || len(e.Records) != len(v.records) ||
						!strings.HasPrefix(err.Error(), "smtp: DANE: mx.example.org: its certificate ") &&
							!strings.HasPrefix(err.Error(), "smtp: DANE: mx.example.org: none of the certificates ") {
						t.Errorf("the error is %q", err)
					}
				})
			}
		})
	}
}

// What matches is not enough for a policy that has too much of it, and nothing is accepted for want of records.
func TestVerifyBounds(t *testing.T) {
	good, other := record(3, 1, 1, "leaf"), record(3, 1, 1, "root")
	p := policyOf(append(slices.Repeat(records(other), maxRecords-1), good)...)
	if err := p.Verify(state("leaf")); err != nil {
		t.Errorf("%d records: %v", maxRecords, err)
	}
	p = policyOf(append(slices.Repeat(records(other), maxRecords), good)...)
	if err := p.Verify(state("leaf")); !errors.Is(err, errMany) || !p.Usable() {
		t.Errorf("%d records: %v", maxRecords+1, err)
	}
	// Records that are not usable take no room.
	p = policyOf(append(slices.Repeat(records(record(1, 1, 1, "root")), 1000), good)...)
	if err := p.Verify(state("leaf")); err != nil {
		t.Errorf("with records of usage 1: %v", err)
	}
	if err := policyOf().Verify(state("leaf")); !errors.Is(err, errNone) {
		t.Errorf("without records: %v", err)
	}
	if err := policyOf(good).Verify(state()); !errors.Is(err, errCertificate) {
		t.Errorf("without a certificate: %v", err)
	}

	p = policyOf(record(2, 0, 1, "inter"))
	filler := slices.Repeat(list{"foreign root"}, maxSent-2)
	if err := p.Verify(state(append(append(list{"leaf"}, filler...), "inter")...)); err != nil {
		t.Errorf("%d certificates: %v", maxSent, err)
	}
	filler = append(filler, "foreign root")
	if err := p.Verify(state(append(append(list{"leaf"}, filler...), "inter")...)); !errors.Is(err, errNoAnchor) {
		t.Errorf("%d certificates: %v", maxSent+1, err)
	}

	foreign := make([]dns.Association, 0, maxKeys)
	for len(foreign) < maxKeys-1 {
		foreign = append(foreign, record(2, 1, 0, "foreign root"))
	}
	if err := policyOf(append(foreign, record(2, 1, 0, "inter"))...).Verify(state("leaf")); err != nil {
		t.Errorf("%d keys: %v", maxKeys, err)
	}
	foreign = append(foreign, record(2, 1, 0, "foreign root"))
	if err := policyOf(append(foreign, record(2, 1, 0, "inter"))...).Verify(state("leaf")); !errors.Is(err, errNoAnchor) {
		t.Errorf("%d keys: %v", maxKeys+1, err)
	}
}

// An error message stays short, whatever the records and the certificate have.
func TestErrorLength(t *testing.T) {
	var many []dns.Association
	for range maxRecords {
		many = append(many, record(2, 0, 0, "inter"))
	}
	err := policyOf(many...).Verify(state("leaf for another host"))
	if err == nil || len(err.Error()) > 500 || !strings.Contains(err.Error(), "and 60 more") {
		t.Errorf("%d octets: %v", len(err.Error()), err)
	}
	problem := policyOf(slices.Repeat(records(record(0, 0, 0, "root"), record(7, 0, 0, "root")), 500)...).Problem()
	if len(problem.Error()) > 500 || !strings.Contains(problem.Error(), "usages 0 and 1") {
		t.Errorf("%d octets: %v", len(problem.Error()), problem)
	}
}
