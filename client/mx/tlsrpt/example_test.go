package tlsrpt_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/tlsrpt"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// Count what happens, and send the reports on each day.
func Example() {
	// In production it is made by dns.New.
	resolver := dnstest.New(`_smtp._tls.example.net. TXT "v=TLSRPTv1; rua=mailto:reports@example.net"`)
	signed := client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
		return &client.Result{}, nil // signs m with DKIM, and sends it on
	})
	dir, err := os.MkdirTemp("", "tlsrpt")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	collector, err := tlsrpt.New(&tlsrpt.Options{
		Organization: "Example Ltd", Contact: "tls-reports@example.org",
		Resolver: resolver, Sender: signed, Store: tlsrpt.FileStore(filepath.Join(dir, "tlsrpt")),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- collector.Run(ctx) }() // sends what is due, until the program ends

	collector.Record(tlsrpt.Event{Domain: "example.net", MXHost: "mx.example.net"})
	stop()
	if err := <-ended; err != nil {
		fmt.Println(err)
	}
	fmt.Println(collector.Stats().Domains, "domain")
	// Output: 1 domain
}

// Record a session that failed.
func ExampleCollector_Record() {
	collector, err := tlsrpt.New(&tlsrpt.Options{Organization: "Example Ltd", Contact: "tls-reports@example.org"})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = x509.UnknownAuthorityError{} // what client.Dial has returned, wrapped
	collector.Record(tlsrpt.Event{
		Domain: "example.net",
		Policy: tlsrpt.Policy{
			Type:    tlsrpt.TypeSTS,
			Strings: []string{"version: STSv1", "mode: enforce", "mx: *.example.net", "max_age: 604800"},
			MXHosts: []string{"*.example.net"},
		},
		MXHost:      "mx.example.net",
		ReceivingIP: netip.MustParseAddr("192.0.2.1"),
		Result:      tlsrpt.ResultOf(err),
		Code:        tlsrpt.CodeOf(err),
	})
	for _, r := range collector.Reports(time.Now()) {
		f := r.Policies[0].Failures[0]
		fmt.Println(r.Domain, f.Sessions, f.Result, f.MXHost)
	}
	// Output: example.net 1 certificate-not-trusted mx.example.net
}

// Send the reports by yourself, in place of Run.
func ExampleCollector_Reports() {
	ctx := context.Background()
	resolver := dnstest.New(`_smtp._tls.example.net. TXT "v=TLSRPTv1; rua=mailto:reports@example.net"`)
	collector, err := tlsrpt.New(&tlsrpt.Options{Organization: "Example Ltd", Contact: "tls-reports@example.org"})
	if err != nil {
		fmt.Println(err)
		return
	}
	collector.Record(tlsrpt.Event{Domain: "example.net"})
	collector.Record(tlsrpt.Event{Domain: "example.com"}) // does not ask for reports

	day := time.Now() // yesterday, in a program that runs after midnight
	for _, r := range collector.Reports(day) {
		record, err := tlsrpt.LookupRecord(ctx, resolver, r.Domain)
		if err != nil || record == nil {
			continue
		}
		m, err := collector.Message(r, strings.TrimPrefix(record.RUA[0].String(), "mailto:"))
		if err != nil {
			fmt.Println(err)
			continue
		}
		content, _ := io.ReadAll(m.Body) // sign m and send it
		fmt.Println(m.To[0].Address, strings.Contains(string(content), "TLS-Report-Domain: example.net"))
	}
	collector.Forget(day)
	// Output: reports@example.net true
}

// Read the report of somebody else.
func ExampleReadReport() {
	attachment := strings.NewReader(`{"organization-name":"Example Ltd","policies":[{
		"policy":{"policy-type":"no-policy-found","policy-domain":"example.net"},
		"summary":{"total-successful-session-count":12,"total-failure-session-count":1}}]}`)
	report, err := tlsrpt.ReadReport(attachment) // gzip or not
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range report.Policies {
		fmt.Println(report.Organization, p.Policy.Domain, p.Summary.Successful, p.Summary.Failed)
	}
	// Output: Example Ltd example.net 12 1
}
