package dane_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"smtpkit.example/smtp/client/mx/dane"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// resolver is in place of a dns.Stub, which asks a validating resolver.
var resolver = func() *dnstest.Resolver {
	r := dnstest.New(`
		mx.example.org.           A     192.0.2.1
		_25._tcp.mx.example.org.  TLSA  3 1 1 8cb0fc6c527506a053f4f14c8464bebbd6dede2738d11468dd953d7d6a3021f1
		old.example.org.          A     192.0.2.2
		_25._tcp.old.example.org. TLSA  1 1 1 8cb0fc6c527506a053f4f14c8464bebbd6dede2738d11468dd953d7d6a3021f1
		ill.example.org.          A     192.0.2.3
		_25._tcp.ill.example.org. TLSA  SERVFAIL
		mx.example.net.           A     192.0.2.4
	`)
	r.Secure("example.org")
	return r
}()

// What DANE says of each host of a domain decides whether the host is used, and with which TLS.
func ExampleLookup() {
	for _, host := range []string{"mx.example.org", "old.example.org", "ill.example.org", "mx.example.net"} {
		target := dane.Target{Domain: "example.org", Authentic: true, Host: host} // the MX records are authentic
		policy, err := dane.Lookup(context.Background(), resolver, target)
		switch {
		case err != nil:
			fmt.Println(host, "is not used now, report", err.(*dane.Error).Result())
		case policy == nil:
			fmt.Println(host, "has no DANE: TLS if it can be had")
		case policy.Usable():
			fmt.Println(host, "must have TLS and a certificate that matches", policy.Strings()[0][:16])
		default:
			fmt.Println(host, "must have TLS, with any certificate, report", policy.Problem().(*dane.Error).Result())
		}
	}
	// Output:
	// mx.example.org must have TLS and a certificate that matches 3 1 1 8CB0FC6C52
	// old.example.org must have TLS, with any certificate, report tlsa-invalid
	// ill.example.org is not used now, report dnssec-invalid
	// mx.example.net has no DANE: TLS if it can be had
}

// A client connects with the configuration that the policy makes of its own. The name in the handshake is the one that
// has the records.
func ExamplePolicy_Config() {
	target := dane.Target{Domain: "example.org", Authentic: true, Host: "mx.example.org"}
	policy, err := dane.Lookup(context.Background(), resolver, target)
	if err != nil || policy == nil {
		fmt.Println(policy, err)
		return
	}
	config := policy.Config(&tls.Config{MinVersion: tls.VersionTLS13})
	fmt.Println(config.ServerName, config.MinVersion == tls.VersionTLS13, config.VerifyConnection != nil)
	// client.Dial(ctx, "mx.example.org:25", &client.Options{TLS: ext.TLSRequired, TLSConfig: config})

	// Output: mx.example.org true true
}

// The owner of a mail server publishes the record of its certificate, and signs the zone with DNSSEC. For this one,
// OpenSSL makes the same digest:
//
//	openssl x509 -noout -pubkey -in cert.pem | openssl pkey -pubin -outform DER | openssl dgst -sha256
func ExampleRecord() {
	block, _ := pem.Decode(certificate) // what is in the file of the server
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		fmt.Println(err)
		return
	}
	record, err := dane.Record(cert, 3, 1, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("_25._tcp.mx.example.org. IN TLSA", record)
	// Output: _25._tcp.mx.example.org. IN TLSA 3 1 1 29059E3A6ACF9DF6960BE59405CD1CA25A165A65C997FABB72D9A27B628C1C8C
}

var certificate = []byte(`-----BEGIN CERTIFICATE-----
MIIBpDCCAUqgAwIBAgIUFDukzkQAmWpEp+506ihIrdLn3RQwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwObXguZXhhbXBsZS5vcmcwIBcNMjYxMTI5MDcwNzU5WhgPMjEy
NjExMDUwNzA3NTlaMBkxFzAVBgNVBAMMDm14LmV4YW1wbGUub3JnMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEqPQ92j/nbVYS9hqj7Gz87tC/IIJqGMHzLFUhY6dG
3VY9sYKsvtY9xBV+1sH50+D36/5/7vhQTRpvh2qLaAm/gqNuMGwwHQYDVR0OBBYE
FE1+5ZjTwdsBLEu4/tABp94QjIKFMB8GA1UdIwQYMBaAFE1+5ZjTwdsBLEu4/tAB
p94QjIKFMA8GA1UdEwEB/wQFMAMBAf8wGQYDVR0RBBIwEIIObXguZXhhbXBsZS5v
cmcwCgYIKoZIzj0EAwIDSAAwRQIhAOSgx8nmhrigd/dWidPfr2QuKwaC4giByQXF
FMrjB3/nAiB08k4y8wAvfc0dhrdMtoqro0omayf/fdHydLZhitE2lA==
-----END CERTIFICATE-----
`)
