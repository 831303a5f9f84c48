// Package mx delivers mail to the mail exchangers of its recipients: it finds the hosts in the DNS, protects the
// connection as far as each domain asks for, and tells the outcome for every recipient.
//
//	resolver, err := dns.New(nil)
//	if err != nil {
//		return err
//	}
//	d, err := mx.New(&mx.Options{
//		Resolver: resolver,
//		Client:   &client.Options{Hostname: "mail.example.org"},
//	})
//	if err != nil {
//		return err
//	}
//	defer d.Close(ctx)
//	…
//	result, err := d.Send(ctx, m) // recipients of any domain
//
// Send makes one attempt for each domain. What fails for a while has to be tried again: [client.Retry] does so in a
// program that waits, and a mail queue for days. Most receivers want mail from a host whose address has a name in the
// DNS that leads back to it, and from a network that is not for homes.
//
// # Routes
//
// [Deliverer.Route] returns the hosts of a domain by RFC 5321 section 5.1: by MX records, or without them the domain
// itself. A domain may say that it takes no mail (RFC 7505). A host that is itself in the list of a domain names itself
// in Options.Names and Options.Addrs, so that it sends no mail to itself.
//
// Send tries the hosts in their order, and the addresses of each, until one takes the message. It remembers for each
// host which addresses did not answer, which one asked to be tried again, and which family of addresses was refused.
//
// # Protection
//
// Without a policy TLS is opportunistic: it is used if the host offers it, with any certificate. If the handshake fails
// the message goes in clear. A domain can ask for more by TLSA records (DANE, package dane) or by MTA-STS (package
// mtasts), a sender by REQUIRETLS, and the program by Options.RequireTLS. DANE needs a resolver that can be trusted to
// have validated DNSSEC: see package dns.
//
// [Decide] says what becomes of a message. The first row that fits decides; an empty cell stands for anything, and "-"
// for no demand:
//
//	sender      program   MX        TLSA      MTA-STS                      channel    decision
//	waives      -                                                                     deliver
//	                                failed                                            defer 4.7.5
//	                                usable                                 matched    deliver
//	REQUIRETLS                      usable                                            refuse 5.7.10
//	                                usable                                            defer 4.7.5
//	                                          enforce, another host                   defer 4.7.5
//	REQUIRETLS            insecure            - or testing, another host              refuse 5.7.30
//	REQUIRETLS                                                             verified   deliver
//	REQUIRETLS                                                                        refuse 5.7.10
//	                                          enforce                      verified   deliver
//	                                          enforce                                 defer 4.7.5
//	            requires                                                   verified   deliver
//	            requires                                                              defer 4.7.5
//	                                unusable                               clear      defer 4.7.5
//	                                unusable                                          deliver
//	                                                                                  deliver
//
// A message that is deferred goes to the next host, or may be tried again later. The channel is "encrypted" with any
// certificate, "verified" if a trusted authority has issued it for the name of the host, and "matched" if it matches a
// TLSA record. A sender waives with the header field "TLS-Required: No".
//
// A connection is shared by messages of several domains only if they ask for the same protection of the same host.
//
// # Reports
//
// Options.Reports is told of each attempt to use TLS. Package tlsrpt makes daily reports of it for those domains that
// ask for them. Options.Trace tells of everything, for logs.
package mx
