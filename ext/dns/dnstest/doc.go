// Package dnstest answers questions about the DNS in tests, from a text like a zone file. Nothing leaves the process.
//
//	resolver := dnstest.New(`
//		example.org.              MX    10 mx.example.org.
//		mx.example.org.           A     192.0.2.1
//		_25._tcp.mx.example.org.  TLSA  3 1 1 8cb0fc6c527506a053f4f14c8464bebbd6dede2738d11468dd953d7d6a3021f1
//		example.net.              MX    0 .       ; accepts no mail (RFC 7505)
//		mx.example.com.           A     TIMEOUT   ; a fault
//	`)
//	resolver.Secure("example.org") // as if signed with DNSSEC
//	answer, err := resolver.Lookup(ctx, "example.org", dns.MX)
//
// # Form of the text
//
// A line has a name, a time to live in seconds (TTL) if it matters, the class IN if you like, a type, and data. All
// names are complete, with or without the dot at their end. What follows ";" is a comment. Text of a TXT record is in
// quotes; if it has several strings, each is in its own. The types are those of package dns.
//
// A name that starts with "*." is a wildcard. An alias (CNAME) is followed by all questions but those for CNAME.
//
// # Faults
//
// In place of data, a line may say how the question fails. Type ANY is for all types of a name.
//
//   - TIMEOUT: no server answers. The question fails when its context ends, or after Resolver.Timeout.
//   - SERVFAIL: the server cannot answer now.
//   - REFUSED: the server does not want to answer.
//   - BOGUS: DNSSEC proves the answer wrong, so that the error has Bogus set.
//   - NXDOMAIN: the name does not exist, though there are records. This is an answer, not an error.
//   - NODATA: the name exists and has no such records, whatever a wildcard or an alias would give it.
//
// Set changes records and faults at run time: a host goes down, and comes back.
//
// # Questions
//
// Asked and Total count the questions, to show that something is not asked, or not twice.
package dnstest
