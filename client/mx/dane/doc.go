// Package dane finds out from the DNS that a mail server has TLS, and which certificate it must have (RFC 7672).
//
//	target := dane.Target{Domain: "example.org", Authentic: answer.Authentic, Host: "mx.example.org"}
//	policy, err := dane.Lookup(ctx, resolver, target)
//	switch {
//	case err != nil:
//		return err // do not use this host now
//	case policy != nil:
//		options.TLS = ext.TLSRequired
//		options.TLSConfig = policy.Config(options.TLSConfig)
//	}
//
// The resolver must tell what DNSSEC proves: see package dns. A [smtpkit.example/smtp/client/mx.Deliverer] does all of
// this by itself. This package is for programs that choose their hosts in another way.
//
// If a certificate does not match, the error of the client wraps an [*Error], and is temporary.
//
// # What is looked up, and what it means
//
// Steps follow each other, and the first that applies ends the look-up:
//
//	what is looked up                 answer                            meaning
//	the MX records of the domain      not proved by DNSSEC              DANE does not apply
//	  (the caller does this)          none                              the domain is the host
//	the addresses of the host         the look-up fails                 do not use the host now
//	  (A and AAAA; of one family      proved, and host is no alias      look below the host
//	  is enough)                      proved, and host is an alias      look below the end of the aliases, then the host
//	                                  not proved, and no alias          DANE does not apply; no TLSA question is asked
//	the alias itself (CNAME), if      the look-up fails                 do not use the host now
//	  the addresses are not proved    proved                            look below the host
//	                                  not proved                        DANE does not apply; no TLSA question is asked
//	TLSA at _25._tcp below a name,    the look-up fails                 do not use the host now
//	  which may be an alias           none, or not proved               look below the next name; without one, DANE
//	                                                                    does not apply
//	                                  proved, one record is usable      TLS is mandatory, the certificate must match
//	                                  proved, no record is usable       TLS is mandatory, any certificate will do
//
// An IP address or an address literal has no DANE. "Do not use the host now" is never a reason for a weaker protection:
// the message goes to the next host, or waits (RFC 7672 section 2.1.2).
//
// # What a certificate must have
//
//	usage      matches if                                   names, dates, issuers
//	3 DANE-EE  the server's own certificate or key is it    do not matter
//	2 DANE-TA  an issuer's certificate or key is it, and    matter: the TLSA base domain, the domain of the recipients
//	           there is a valid chain to that issuer        or the end of its aliases, within dates and constraints
//	0, 1       never: such records are not usable           -
//
// One matching record is enough. Of the certificates known to the system none counts. crypto/tls and crypto/x509 still
// refuse what they do not understand, such as keys of less than 1024 bits or signatures with SHA-1.
//
// # To publish a record
//
// [Record] returns the record for the certificate of a mail server of your own:
//
//	block, _ := pem.Decode(text) // of the file cert.pem
//	cert, err := x509.ParseCertificate(block.Bytes)
//	if err != nil {
//		return err
//	}
//	record, err := dane.Record(cert, 3, 1, 1)
//	if err != nil {
//		return err
//	}
//	fmt.Println("_25._tcp.mx.example.org. IN TLSA", record)
//
// # Reports
//
// [Policy.Strings] is the text of the policy for a report about TLS (RFC 8460), and [Error.Result] its result type. If
// the records are not usable, a message is delivered, and [Policy.Problem] says what to report.
package dane
