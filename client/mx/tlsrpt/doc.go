// Package tlsrpt reports on TLS with mail exchangers (SMTP TLS Reporting, RFC 8460). It counts how sessions with the
// mail exchangers of each domain went. Once a day it sends a report to those domains that ask for it.
//
// Count and report:
//
//	collector, err := tlsrpt.New(&tlsrpt.Options{
//		Organization: "Example Ltd",
//		Contact:      "tls-reports@example.org",
//		Resolver:     resolver,
//		Sender:       signed, // a client.Sender that signs with DKIM
//		Store:        tlsrpt.FileStore("/var/lib/example/tlsrpt"),
//	})
//	if err != nil {
//		return err
//	}
//	go collector.Run(ctx) // sends the reports on each day that is over
//	…
//	collector.Record(tlsrpt.Event{Domain: "example.net", Policy: policy, MXHost: "mx.example.net"}) // a success
//	collector.Record(tlsrpt.Event{
//		Domain: "example.net", Policy: policy, MXHost: "mx.example.net",
//		Result: tlsrpt.ResultOf(err), Code: tlsrpt.CodeOf(err),
//	})
//
// Package mx records the events of its attempts by itself: give the collector to Options.Reports there.
//
// Read the report of somebody else with [ReadReport], after you have taken it out of the mail.
//
// # What a program has to do
//
//   - Record one [Event] for each session, with the policy that was applied, and no event for a policy that was only
//     looked up.
//   - Give a Sender that signs mail with DKIM, for the domain of Options.Contact and without the tag l=. The TXT record
//     of the key should have s=tlsrpt or s=*. A receiver must ignore reports without a signature (RFC 8460 section 3).
//   - Deliver a report even if TLS fails on the way. It has the header field "TLS-Required: No" (RFC 8689) to say so.
//   - Record no events of sessions that carry reports. [IsReport] tells them apart by their context; where a queue lies
//     in between, the header field TLS-Report-Domain does.
//   - Wait for Run to return before the program ends, so that the Store has everything. What is recorded after that is
//     saved by [Collector.Save].
//
// A program that sends the reports by itself calls [Collector.Reports], [LookupRecord] and [Collector.Message] in place
// of Run, and [Collector.Forget] when that is done. It gives the context of [ReportContext] to the Sender.
//
// # Who gets a report
//
// A domain asks by a TXT record at _smtp._tls and its name; see [LookupRecord]. It is looked up when the report is due.
// Nothing is sent to a domain without one, and its events are forgotten. A domain below or above it counts for nothing.
// All destinations that the record names are tried, ten at most. A report that one of them has accepted is done.
//
// With DANE, the policy is one of the mail exchanger: so policy-domain is the TLSA base domain there, while the report
// goes to the domain of the recipients (RFC 8460 section 1.1).
//
// # Bounds
//
// Events are counted by day, domain, policy and failure, so memory does not grow with their number. All bounds are in
// [Options], and hold for each of three days: today, yesterday, and the day before, for which the last attempts are
// made. Beyond them:
//
//   - a failure is counted by its result type alone, and the code says so;
//   - a policy is counted by its type alone, without its text;
//   - the events of a further domain are dropped, and [Collector.Stats] has their number.
//
// So the totals of each domain that is counted are true, whatever happens. Texts from strangers are cut: names at 255
// octets, codes at 256, URIs at 1024, and policies at 16 KiB.
//
// # What strangers decide
//
// Whoever controls a domain decides where reports on it go, and may name the hosts of others. By HTTPS nothing is sent
// to private addresses, and no redirect is followed. The certificate of the host has to verify, though RFC 8460 would
// permit to ignore it. Errors of HTTP with a status of 5yz, 408, 425 and 429 are temporary, and others are permanent.
package tlsrpt
