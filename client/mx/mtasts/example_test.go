package mtasts_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"

	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto/prototest"
)

// A program asks for the policy of each domain that it has mail for.
func Example() {
	host := servePolicy("version: STSv1\nmode: enforce\nmx: *.mail.example.org\nmax_age: 604800\n")
	defer host.Close()
	dir, err := os.MkdirTemp("", "mta-sts")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := mtasts.DirStore(dir, 0) // so that the policies outlive the program
	if err != nil {
		log.Fatal(err)
	}
	cache, err := mtasts.New(&mtasts.Options{
		Resolver: dnstest.New(`
			_mta-sts.example.org.  TXT  "v=STSv1; id=20261128T1000;"
			mta-sts.example.org.   A    192.0.2.1
		`), // from dns.New in a program
		Store:       store,
		TLSConfig:   host.roots, // not set in a program, which trusts the authorities of the system
		DialContext: host.dial,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()

	for _, domain := range []string{"example.org", "example.net"} {
		found, err := cache.Lookup(context.Background(), domain)
		if err != nil {
			log.Fatal(err)
		}
		if found.Policy == nil {
			fmt.Println(domain, "has no policy")
			continue
		}
		fmt.Println(domain, found.Policy.Mode, found.ID)
		for _, mx := range []string{"mx1.mail.example.org", "mx.evil.example"} {
			fmt.Println(mx, found.Policy.Matches(mx))
		}
	}
	// Output:
	// example.org enforce 20261128T1000
	// mx1.mail.example.org true
	// mx.evil.example false
	// example.net has no policy
}

// A report has the result type of what went wrong (RFC 8460 section 4.3).
func ExampleFound_Result() {
	host := servePolicy("<html>no such page</html>")
	defer host.Close()
	cache, err := mtasts.New(&mtasts.Options{
		Resolver:    dnstest.New("_mta-sts.example.org. TXT \"v=STSv1; id=1;\"\nmta-sts.example.org. A 192.0.2.1"),
		TLSConfig:   host.roots,
		DialContext: host.dial,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()

	found, err := cache.Lookup(context.Background(), "example.org")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Policy == nil, found.Result())
	fmt.Println(found.Problem)
	// Output:
	// true sts-policy-invalid
	// smtp: MTA-STS policy of example.org: line 1 of the MTA-STS policy: it is not a name, a colon and a value
}

// A program that checks a policy before it is published needs no Cache.
func ExampleParse() {
	policy, err := mtasts.Parse([]byte("version: STSv1\nmode: testing\nmx: mx.Bücher.example\nmax_age: 86400\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(policy.Mode, policy.MaxAge, policy.MX)

	_, err = mtasts.Parse([]byte("version: STSv1\nmode: testing\nmx: mx.example.org:25\nmax_age: 86400\n"))
	fmt.Println(err)
	// Output:
	// testing 24h0m0s [mx.xn--bcher-kva.example]
	// smtp: line 3 of the MTA-STS policy: mx "mx.example.org:25" is not a host, nor a wildcard such as *.example.com
}

// A policyHost stands for the host mta-sts.example.org.
type policyHost struct {
	*httptest.Server
	roots *tls.Config
}

func servePolicy(text string) *policyHost {
	cert, roots, err := prototest.NewCertificate("mta-sts.example.org")
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, text)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	return &policyHost{server, &tls.Config{RootCAs: roots}}
}

func (h *policyHost) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, h.Listener.Addr().String())
}
