// Package mtasts knows which domains ask for verified TLS by MTA-STS (RFC 8461): it discovers, fetches, checks and
// keeps their policies.
//
//	store, err := mtasts.DirStore("/var/lib/example/mta-sts", 0)
//	if err != nil {
//		return err
//	}
//	cache, err := mtasts.New(&mtasts.Options{Resolver: resolver, Store: store})
//	if err != nil {
//		return err
//	}
//	defer cache.Close()
//	…
//	found, err := cache.Lookup(ctx, "example.org") // before mail to example.org is delivered
//	if err != nil {
//		return err
//	}
//	if p := found.Policy; p != nil && p.Mode == mtasts.Enforce && !p.Matches(host) {
//		// Do not use this MX host. The certificate of one that matches has to verify for its name.
//	}
//
// Package mx does all of this. A program that only wants to read a policy has [Parse].
//
// # What a caller does
//
// For each domain that mail goes to, ask [Cache.Lookup]. If Found.Policy is nil, deliver as if there were no MTA-STS.
// With [Enforce], use only hosts that match and whose certificate verifies for their name, over TLS. With [Testing]
// deliver in any case, and report. Where DANE applies it comes first, and MTA-STS must not override it (RFC 8461
// section 2). Before mail is returned because of a policy, ask [Cache.Refresh].
//
// [Found.Result] and [Policy.Lines] have what reports say (RFC 8460).
//
// # How long a policy applies
//
// A policy applies from its fetch until its max_age is over. In this time a host that cannot be reached, a broken
// policy or a TXT record that has vanished changes nothing: an attacker could do all that. Another policy replaces it
// at once, also one with the mode none, by which a domain gives up MTA-STS.
//
// Another id in the TXT record makes Lookup fetch the policy, the same one does not. Besides, a policy is fetched anew
// when half of its life is over, and each day, as long as its domain was asked for in the last 30 days. If that fails,
// the Logger gets a warning.
//
// A policy is that of its domain, and never that of the domain above it, nor of another one with the same MX hosts.
//
// # What is bounded
//
// A policy has 64 KiB and a fetch one minute, as RFC 8461 section 3.3 suggests. [Options] bounds how many fetches there
// are at once and how many domains are remembered, and each [Store] how many policies. If there are too many, those
// used last are kept.
//
// # What is not done
//
// Certificates are not checked for revocation, which is optional in RFC 8461 section 3.3. Policy hosts may have private
// addresses, to which the TLS handshake goes and, unless the certificate verifies, nothing else. DialContext can refuse
// them.
package mtasts
