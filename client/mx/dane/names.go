package dane

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext/dns"
)

// isNamed reports whether a certificate is for one of the names of the policy (RFC 7672 section 3.2.3). The common name
// counts only if there is no DNS name. The constraints of the authorities in a chain bind that one too, which
// crypto/x509 does not see to.
func (p *Policy) isNamed(leaf *x509.Certificate, chains [][]*x509.Certificate) bool {
	return slices.ContainsFunc(append([]string{p.Base}, p.Names...), func(name string) bool {
		name, ok := dns.Normal(name)
		if !ok {
			return false
		}
		if len(leaf.DNSNames) > 0 {
			return slices.ContainsFunc(leaf.DNSNames, func(presented string) bool { return presents(presented, name) })
		}
		return presents(leaf.Subject.CommonName, name) &&
			slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return permits(chain[1:], leaf, name) })
	})
}

// presents reports whether a name in a certificate matches one in the form of dns.Normal. A wildcard is the whole first
// label, and stands for one label.
func presents(presented, name string) bool {
	presented = strings.ToLower(strings.TrimSuffix(presented, "."))
	if presented == name {
		return name != ""
	}
	parent, wild := strings.CutPrefix(presented, "*.")
	first, rest, ok := strings.Cut(name, ".")
	return wild && ok && first != "" && rest == parent
}

// permits reports whether the constraints of authorities let the common name of leaf stand for name. A wildcard does
// not if there are any.
func permits(authorities []*x509.Certificate, leaf *x509.Certificate, name string) bool {
	for _, ca := range authorities {
		if len(ca.PermittedDNSDomains)+len(ca.ExcludedDNSDomains) == 0 {
			continue
		}
		within := func(constraint string) bool { return isWithin(name, constraint) }
		if strings.HasPrefix(leaf.Subject.CommonName, "*") || slices.ContainsFunc(ca.ExcludedDNSDomains, within) ||
			len(ca.PermittedDNSDomains) > 0 && !slices.ContainsFunc(ca.PermittedDNSDomains, within) {
			return false
		}
	}
	return true
}

// isWithin reports whether name is the constraint or below it (RFC 5280 section 4.2.1.10). One that begins with a dot
// is for what is below only.
func isWithin(name, constraint string) bool {
	constraint = strings.ToLower(constraint)
	if constraint == "" || name == constraint {
		return true
	}
	return strings.HasSuffix(name, "."+strings.TrimPrefix(constraint, "."))
}

// mismatch is the error for a certificate with other names.
func (p *Policy) mismatch(leaf *x509.Certificate) error {
	const most = 4
	presented := leaf.DNSNames
	if len(presented) == 0 {
		presented = []string{leaf.Subject.CommonName}
	}
	more := ""
	if n := len(presented) - most; n > 0 {
		presented, more = presented[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("its certificate is for %.100q%s, and has to be for one of %q", presented, more, p.Names)
}
