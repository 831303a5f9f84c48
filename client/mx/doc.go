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
// program that waits, and a mail queue for days. The example of Deliverer.Send shows who is to be tried again. Most
// receivers want mail from a host whose address has a name in the DNS that leads back to it, and from a network that is
// not for homes.
//
// The program examples/outbound joins a Deliverer with a resolver, DKIM, reports, Maildirs and a table of routes.
//
// # Routes
//
// [Deliverer.Route] returns the hosts of a domain by RFC 5321 section 5.1: by MX records, or without them the domain
// itself. A domain may say that it takes no mail (RFC 7505). A host that is itself in the list of a domain names itself
// in Options.Names and Options.Addrs, so that it sends no mail to itself.
//
// [Deliverer.Site] names those hosts, so that domains with the same hosts can be told from others. A queue limits by it
// what it does to a site.
//
// Send tries the hosts in their order, and the addresses of each, until one takes the message. It remembers for each
// host which addresses did not answer, which one asked to be tried again, and which family of addresses was refused.
//
// # Hosts on this machine and in private networks
//
// Send connects to whatever addresses the DNS has for a host, also to 127.0.0.1, and to those in literals such as
// bob@[10.0.0.1]. There is no option against that. If servers trust this machine or its network, give
// Options.Client.DialContext a function that refuses such addresses. The example of Options with the suffix PublicOnly,
// in example_queue_test.go, has a whole one:
//
//	at, err := netip.ParseAddrPort(addr)
//	if err != nil {
//		return nil, err
//	}
//	if a := at.Addr().Unmap(); !a.IsGlobalUnicast() || a.IsPrivate() {
//		return nil, fmt.Errorf("%v is not an address of the public Internet", a)
//	}
//	return dialer.DialContext(ctx, network, addr)
//
// The error of the function stands for a host that does not answer: the next one is tried, and the failure is
// temporary, unless the error has a method Status that returns a code of class 5. The default of Options.STS uses the
// function too. A cache of your own needs it in its DialContext.
//
// Options.Addrs is not enough for this. It names single addresses, against loops.
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
// # Which host, and which policy
//
// A refusal in a Result is the *proto.Error of [client.Client.Send], which does not name the host. Trace.Attempted is
// told of each attempt at a host: Host and Addr, the Policy that held, the state of TLS, and with Result what the host
// said of each recipient who was left. It is called before Send returns, from one goroutine for each domain. Log it,
// or keep it with ctx to find out what belongs to one Send. If no connection was good enough, the recipients have a
// [*PolicyError] with the name and the policy.
//
// # A policy that cannot be fetched
//
// A domain may announce an MTA-STS policy that cannot be fetched or is malformed. If no older one applies, mail goes
// as if there were none (RFC 8461 section 3.3): so Attempt.Policy is [PolicyNone], Facts.STS is [STSNone], and no
// outcome tells. Attempt.STSProblem says what failed: log it. It also says that the DNS did not answer for the record.
// Options.Reports is told, by a further event for each attempt without DANE: its Result is "sts-policy-fetch-error" or
// the like, and Code has the cause. A DNS that did not answer is not reported.
//
// If a policy from an earlier fetch applies it is obeyed, and the Logger of the cache gets a warning when it cannot be
// refreshed.
//
// # Tests
//
// In a test, give Options.Resolver one of package dnstest, which answers from a text. Package servertest has the hosts:
//
//	srv := servertest.NewServer(t, &servertest.Options{Memory: true})
//	d, err := mx.New(&mx.Options{
//		Resolver: dnstest.New("example.org MX 10 mx.example.org\nmx.example.org A 192.0.2.1\nexample.net A 192.0.2.2"),
//		Client:   &client.Options{DialContext: srv.DialContext},
//	})
//	…
//	srv.Inbox.Wait(servertest.To("bob@example.org"))
//
// Or let the hosts have the address 127.0.0.1, and give Options.Port that of your server there.
//
// For TLS that is verified, give the host the name for which the certificate of servertest is, and trust its authority.
// For DANE, publish the record that dane.Record makes of srv.Certificate(), and call Secure of the resolver:
//
//	Resolver: dnstest.New("example.org MX 10 mail.example\nmail.example A 192.0.2.1"),
//	Client: &client.Options{
//		DialContext: srv.DialContext,
//		TLSConfig:   &tls.Config{RootCAs: srv.ClientTLS().RootCAs},
//	},
//	RequireTLS: true,
//
// # Reports
//
// Options.Reports is told of each attempt to use TLS. Package tlsrpt makes daily reports of it for those domains that
// ask for them. Options.Trace tells of everything, for logs.
//
// The collector sends its reports by the Deliverer, and the Deliverer tells the collector. So the collector comes
// first, with a function for its Sender:
//
//	var d *mx.Deliverer
//	collector, err := tlsrpt.New(&tlsrpt.Options{
//		…
//		Sender: client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
//			return d.Send(ctx, m)
//		}),
//	})
//	…
//	d, err = mx.New(&mx.Options{Prepare: signer.Prepare, Reports: collector, STS: cache})
//	…
//	go collector.Run(ctx)
//
// Prepare has the reports signed too. In the end, stop Run and wait for it, close the Deliverer, save the collector,
// and close the cache. The program examples/outbound does all of this. Attempts to deliver the reports themselves are
// not told, by the context of tlsrpt.ReportContext.
package mx
