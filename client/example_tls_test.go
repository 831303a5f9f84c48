package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto/prototest"
)

// The client has a certificate, and the server knows it by that: EXTERNAL needs no password (RFC 4422 appendix A). To
// read the certificate anew for each connection, set GetClientCertificate.
func ExampleOptions_clientCertificate() {
	serverCert, serverRoots, err := prototest.NewCertificate("127.0.0.1")
	if err != nil {
		log.Fatal(err)
	}
	clientCert, clientRoots, err := prototest.NewCertificate("CN=alice") // from tls.LoadX509KeyPair, as a rule
	if err != nil {
		log.Fatal(err)
	}
	server := listenTLS(&tls.Config{
		Certificates: []tls.Certificate{serverCert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clientRoots,
	})
	defer server.Close()

	opt := &client.Options{
		TLS:         ext.TLSImplicit,
		TLSConfig:   &tls.Config{RootCAs: serverRoots, Certificates: []tls.Certificate{clientCert}},
		Credentials: auth.External(""), // the user whom the certificate names
	}
	fmt.Println(client.Verify(context.Background(), server.Addr().String(), opt))
	// Output:
	// the server knows alice
	// <nil>
}

// The client trusts the servers of an authority of one's own. To trust those of the system too, begin with
// x509.SystemCertPool.
func ExampleOptions_ownCA() {
	cert, _, err := prototest.NewCertificate("127.0.0.1")
	if err != nil {
		log.Fatal(err)
	}
	server := listenTLS(&tls.Config{Certificates: []tls.Certificate{cert}})
	defer server.Close()

	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}) // from os.ReadFile, as a rule
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(file) {
		log.Fatal("no certificate in the file")
	}
	opt := &client.Options{TLS: ext.TLSImplicit, TLSConfig: &tls.Config{RootCAs: roots}}
	fmt.Println(client.Verify(context.Background(), server.Addr().String(), opt))

	opt.TLSConfig = nil
	var failed *ext.TLSError
	err = client.Verify(context.Background(), server.Addr().String(), opt)
	fmt.Println("without it a TLSError:", errors.As(err, &failed))
	// Output:
	// <nil>
	// without it a TLSError: true
}

// listenTLS starts a server that speaks TLS from the first octet, and knows its clients by their certificates.
func listenTLS(config *tls.Config) net.Listener {
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		log.Fatal(err)
	}
	serve := func(conn net.Conn) {
		defer conn.Close()
		fmt.Fprint(conn, "220 mail.example.org\r\n")
		for in := bufio.NewScanner(conn); in.Scan(); {
			switch verb, _, _ := strings.Cut(in.Text(), " "); verb {
			case "EHLO":
				fmt.Fprint(conn, "250-mail.example.org\r\n250 AUTH EXTERNAL\r\n")
			case "AUTH":
				peer := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
				fmt.Println("the server knows", peer.Subject.CommonName)
				fmt.Fprint(conn, "235 OK\r\n")
			case "QUIT":
				fmt.Fprint(conn, "221 Bye\r\n")
				return
			default:
				fmt.Fprint(conn, "250 OK\r\n")
			}
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l
}
