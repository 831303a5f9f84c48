package mx

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"smtpkit.example/smtp/proto"
)

// maxSite is how many octets the name of a site has at most.
const maxSite = 200

// Site returns a name for the hosts that take the mail of a domain, such as "mx1.example.org,mx2.example.org". Domains
// whose mail goes to the same hosts have the same site. So a queue that limits what it does to a site (package queue)
// counts connections to those hosts, however many domains they serve.
//
// The name is made of the names in the MX records: in A-labels and lower case, each once, sorted, and joined with ",".
// Preferences do not count. If this host is in the list by one of Options.Names, only hosts that are preferred to it
// are named. Without MX records the site is the domain at the end of the aliases. That of an address literal is the
// literal in lower case with its brackets.
//
// In a name from the DNS, octets other than letters, digits, ".", "-", "_" and "~" are written as in URLs, "%2C" for a
// comma: no domain can pretend to have the site of another. A name has at most 200 octets. Of a longer one the first
// 135 octets are left, then come "#" and a hash of the whole in hexadecimal digits.
//
// Site asks for MX records only. It keeps no answers: Options.Resolver may. The error is a [*RouteError] as that of
// Route. There is none if the hosts have no address, or if Options.Addrs alone tells that one of them is this host.
func (d *Deliverer) Site(ctx context.Context, domain proto.Domain) (string, error) {
	return d.router.site(ctx, domain)
}

func (r *Router) site(ctx context.Context, domain proto.Domain) (string, error) {
	if domain.Addr().IsValid() {
		route, err := r.literal(domain)
		if err != nil {
			return "", err
		}
		return route.Domain, nil
	}
	route, err := r.listed(ctx, domain)
	if err != nil {
		return "", err
	}
	hosts, err := r.others(route.Hosts)
	if err != nil {
		return "", routeError(route.Domain, err)
	}
	if route.Implicit {
		return bounded(url.QueryEscape(route.Expanded)), nil
	}
	names := make([]string, len(hosts))
	for i := range hosts {
		names[i] = url.QueryEscape(hosts[i].Name)
	}
	slices.Sort(names)
	return bounded(strings.Join(names, ",")), nil
}

// bounded returns site, or the beginning of a long one and a hash of it.
func bounded(site string) string {
	if len(site) <= maxSite {
		return site
	}
	sum := sha256.Sum256([]byte(site))
	hash := "#" + hex.EncodeToString(sum[:])
	return site[:maxSite-len(hash)] + hash
}
