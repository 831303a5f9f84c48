package dns

import (
	"context"
	"fmt"
)

// CheckDNSSEC reports why answers are not authentic, or nil if they can be. A program that relies on DANE calls it at
// its start, and logs what it says. It asks each server, once, about the root of the DNS, which is signed.
//
// All servers that are asked have to be trusted and to validate: if one does not, an attacker could silence the
// others. A server that does not answer is passed over, unless none does. So are those of /etc/resolv.conf that are
// never asked, since others are trusted: see [Options].
func (s *Stub) CheckDNSSEC(ctx context.Context) error {
	const soa Type = 6
	var silent error
	answered := false
	for _, srv := range s.servers {
		if !srv.trusted {
			return fmt.Errorf("smtp: what name server %v says of DNSSEC is not believed, since it is not on a loopback "+
				"address: run a validating resolver on this host, or set dns.Options.TrustAD if that one validates and the "+
				"way to it is safe", srv.addr)
		}
		r, err := s.try(ctx, srv, question{".", soa})
		switch {
		case err != nil:
			silent = &Error{Name: ".", Type: soa, Server: srv.addr.String(), Err: err}
		case !r.authentic:
			return fmt.Errorf("smtp: name server %v does not validate: turn on DNSSEC validation there, with the trust "+
				"anchor of the root", srv.addr)
		default:
			answered = true
		}
	}
	if answered {
		return nil
	}
	return silent
}
