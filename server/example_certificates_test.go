package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// A server shows a new certificate as soon as it is in the file. A program calls Reload when it gets a SIGHUP, or
// leaves that to the server, which looks at the files once a minute.
func ExampleReadCertificates() {
	dir, err := os.MkdirTemp("", "certificates")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	files := server.CertificateFile{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	issue(files, "mail.example")

	certs, err := server.ReadCertificates(nil, files)
	if err != nil {
		panic(err)
	}
	backend := server.MessageFunc(func(context.Context, *server.Message) error { return nil })
	_, err = server.New(backend, &server.Options{TLSConfig: &tls.Config{GetCertificate: certs.GetCertificate}})
	fmt.Println(err)

	issue(files, "mail.example", "mx.example")
	fmt.Println(certs.Reload())
	cert, err := certs.GetCertificate(&tls.ClientHelloInfo{ServerName: "mx.example"})
	fmt.Println(cert.Leaf.DNSNames, err)
	// Output:
	// <nil>
	// <nil>
	// [mail.example mx.example] <nil>
}

// issue does what a certification authority does.
func issue(files server.CertificateFile, names ...string) {
	cert, _, err := prototest.NewCertificate(names...)
	if err != nil {
		panic(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		panic(err)
	}
	for path, block := range map[string]*pem.Block{
		files.Certificate: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		files.Key:         {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			panic(err)
		}
	}
}
