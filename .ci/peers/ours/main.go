// Ours is the two ends of this library with every extension, for real mail software to talk to.
//
//	ours serve [flags]          receives, and writes what it saw of each connection as a line of JSON
//	ours send [flags] [FILE]    sends, and prints what came of it as JSON
package main

import (
	"crypto/x509"
	"fmt"
	"log"
	"os"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("ours: ")
	if len(os.Args) < 2 {
		log.Fatal("say serve or send")
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2:])
	case "send":
		err = send(os.Args[2:])
	default:
		err = fmt.Errorf("say serve or send, not %q", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}

// withAll returns the extensions of Default and those that are not among them.
func withAll(more ...ext.Extension) []ext.Extension {
	return append(append(ehlo.Default(), ehlo.PRDR(), ehlo.ETRN(), ehlo.ATRN()), more...)
}

// authority returns the certificates in a file.
func authority(file string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if file == "" {
		return pool, nil
	}
	pem, err := os.ReadFile(file)
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s has no certificate", file)
	}
	return pool, err
}
