// Package dns looks up what mail needs in the DNS: mail exchangers, addresses, policies in TXT records, TLSA records.
//
//	resolver, err := dns.New(nil) // asks the name servers of /etc/resolv.conf
//	if err != nil {
//		return err
//	}
//	answer, err := resolver.Lookup(ctx, "example.org", dns.MX)
//	if err != nil {
//		return err // there is no answer now
//	}
//	for _, mx := range answer.MX {
//		fmt.Println(mx.Preference, mx.Host, answer.Authentic)
//	}
//
// It lives below both ends, since clients route by it and servers judge by it. Unlike package net it tells two things
// that mail depends on: whether DNSSEC has proved an answer, and for how long the answer may be used.
//
// # Which resolver
//
// All that looks something up takes a [Resolver], an interface with one method.
//
//   - [New] makes a [Stub], for production. It asks recursive name servers and has a cache.
//   - [FromNet] makes one of a net.Resolver, which knows /etc/hosts, and nothing of DNSSEC.
//   - Package dnstest has one for tests, which answers from a text.
//
// [LookupAddrs] asks any of them for the addresses of a host, of both families.
//
// # How to have DNSSEC
//
// A Stub does not validate. A recursive name server does, and says so with the AD bit. The Stub believes that bit if
// the server is on a loopback address, where nobody can change it on the way. So run a validating resolver on the host
// that sends mail, such as Unbound, and name it in /etc/resolv.conf or Options.Servers.
//
// A server elsewhere is believed with Options.TrustAD, or with "options trust-ad" in resolv.conf. Set it only if that
// server validates, and the way to it is safe, such as a private network of your own.
//
// Trusted servers and others are not mixed. Where resolv.conf has a server on a loopback address and one elsewhere,
// only the first is asked: if it fails, the look-up fails, and mail waits. Otherwise whoever can make that one fail, by
// a slow zone or a bogus answer, would have the question put to one whose answers prove nothing. To have a second
// server, take one that validates, and trust it. Options.Servers with such a mix is an error.
//
// [Stub.CheckDNSSEC] tells whether it works, and what is wrong if it does not. Call it when the program starts:
// without it, DANE is silently off, since no answer is authentic. To learn of a failure that DNSSEC is the cause, the
// server has to send extended errors (RFC 8914): "ede: yes" in Unbound.
//
// # What is done for you
//
//   - Answers go into a cache for as long as their TTL says, the absence of records by RFC 2308, failures for 5
//     seconds to 1 minute (RFC 9520).
//   - Those who ask the same at the same time share one query.
//   - A question that has waited for a second or more gives way to others if 2048 are under way.
//   - An answer that is cut short is asked for again over TCP.
//   - A server that is silent about several domains, one after the other, is asked last for a while.
//   - An answer must have the id, the port and the question of the query. Records that the question does not lead to
//     are not believed, and not kept.
//   - Octets that no host name has are written as \DDD, so that names can go into logs and replies. TXT records are as
//     they are.
package dns
