package client_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"golang.org/x/net/proxy"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
)

// The connection goes through a SOCKS5 proxy, by a dialer of golang.org/x/net/proxy.
func ExampleOptions_socks5() {
	addr, stop := socks5(pretend(nil))
	defer stop()

	dialer, err := proxy.SOCKS5("tcp", addr, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	opt := &client.Options{
		TLS:         ext.TLSInsecureNone, // leave this out
		DialContext: dialer.(proxy.ContextDialer).DialContext,
	}
	fmt.Println(client.Verify(context.Background(), "mail.example.org:25", opt))
	// Output: <nil>
}

// socks5 starts a SOCKS5 proxy (RFC 1928) whose connections dial makes, and returns its address.
func socks5(dial func(context.Context, string, string) (net.Conn, error)) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		head := make([]byte, 5)
		io.ReadFull(c, head[:3])                        // version, one method, none
		c.Write([]byte{5, 0})                           // no authentication
		io.ReadFull(c, head)                            // version, CONNECT, 0, a name, its length
		io.ReadFull(c, make([]byte, int(head[4])+2))    // the name and the port
		c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 0}) // connected
		s, err := dial(context.Background(), "tcp", "")
		if err != nil {
			return
		}
		defer s.Close()
		go io.Copy(s, c)
		io.Copy(c, s)
	}()
	return l.Addr().String(), func() {
		l.Close()
		<-done
	}
}

// The connection goes through an HTTP proxy.
func ExampleHTTPProxy() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.Host)
		far, err := pretend(nil)(r.Context(), "tcp", r.Host)
		if err != nil {
			return
		}
		defer far.Close()
		w.WriteHeader(http.StatusOK)
		near, in, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer near.Close()
		go io.Copy(far, in)
		io.Copy(near, far)
	}))
	defer srv.Close()

	p := &client.HTTPProxy{Addr: srv.Listener.Addr().String()}
	opt := &client.Options{TLS: ext.TLSInsecureNone, DialContext: p.DialContext} // leave TLS out
	fmt.Println(client.Verify(context.Background(), "mail.example.org:587", opt))
	// Output:
	// CONNECT mail.example.org:587
	// <nil>
}

// The connection begins with a PROXY header, which names the client on whose behalf a proxy sends. AppendV1 of package
// server/proxyproto makes one.
func ExampleProxyHeader() {
	header := func(conn net.Conn) []byte {
		return []byte("PROXY TCP4 192.0.2.1 198.51.100.1 4242 25\r\n")
	}
	first := make(chan string, 1)
	dial := func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close() // this server hangs up
			octets := make([]byte, 256)
			n, _ := there.Read(octets)
			first <- string(octets[:n])
		}()
		return here, nil
	}
	opt := &client.Options{TLS: ext.TLSInsecureNone, DialContext: client.ProxyHeader(dial, header)}
	_, err := client.Dial(context.Background(), "mail.example.org:25", opt)
	fmt.Println(err != nil)
	fmt.Print(<-first)
	// Output:
	// true
	// PROXY TCP4 192.0.2.1 198.51.100.1 4242 25
}

// A machine with several addresses sends from one of them.
func ExampleOptions_localAddr() {
	opt := &client.Options{LocalAddr: netip.MustParseAddr("192.0.2.25")}
	fmt.Println(opt.Check())
	// Output: <nil>
}

// The server has to have a key that is known, whoever has signed its certificate.
func ExampleOptions_pinning() {
	cert := clienttest.Certificate() // of the server of this example
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		log.Fatal(err)
	}
	known := base64.StdEncoding.EncodeToString(pin(leaf.RawSubjectPublicKeyInfo))

	config := &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			got := base64.StdEncoding.EncodeToString(pin(s.PeerCertificates[0].RawSubjectPublicKeyInfo))
			if got != known {
				return errors.New("the server has another key: " + got)
			}
			return nil
		},
	}
	opt := &client.Options{TLS: ext.TLSImplicit, TLSConfig: config, DialContext: secured(cert)}
	c, err := client.Dial(context.Background(), "mail.example:465", opt)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Verified()) // a password may be sent
	// Output: true
}

func pin(key []byte) []byte {
	sum := sha256.Sum256(key)
	return sum[:]
}

// secured returns a DialContext for a server that speaks TLS from the first octet.
func secured(cert tls.Certificate) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		far, err := pretend(nil)(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		here, there := net.Pipe()
		server := tls.Server(there, &tls.Config{Certificates: []tls.Certificate{cert}})
		go func() {
			defer server.Close()
			go func() {
				defer far.Close()
				io.Copy(far, server)
			}()
			io.Copy(server, far)
		}()
		return here, nil
	}
}

// What the certificate has to be, beyond what crypto/tls verifies.
func ExampleOptions_verifyConnection() {
	config := clienttest.TLSConfig() // RootCAs for the server of this example
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if s.Version < tls.VersionTLS13 {
			return errors.New("only TLS 1.3 will do")
		}
		return nil
	}
	opt := &client.Options{TLS: ext.TLSImplicit, TLSConfig: config, DialContext: secured(clienttest.Certificate())}
	err := client.Verify(context.Background(), "mail.example:465", opt)
	fmt.Println(err, strings.Contains(fmt.Sprint(err), "TLS 1.3"))
	// Output: <nil> false
}
