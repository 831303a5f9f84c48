package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/server"
)

// How a program ends on a signal: transactions in hand finish, and clients are told to come back.
func ExampleServer_Shutdown() {
	srv, err := server.New(server.MessageFunc(discardMessage), &server.Options{Hostname: "mail.example.org"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // and syscall.SIGTERM
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }() // or srv.ListenAndServe(":25")

	interrupt() // somebody presses Ctrl-C

	select {
	case err := <-served:
		log.Fatal(err)
	case <-ctx.Done():
	}
	stop() // a second signal ends the program at once
	patience, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	fmt.Println(srv.Shutdown(patience))
	fmt.Println(<-served)
	// Output:
	// <nil>
	// smtp: server closed
}

func discardMessage(_ context.Context, m *server.Message) error {
	_, err := io.Copy(io.Discard, m.Body)
	return err
}

func interrupt() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(os.Interrupt)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// One server takes mail on port 25, in plaintext or with STARTTLS, and on port 465, with TLS from the first octet.
func ExampleServer_ServeTLS() {
	srv, err := server.New(server.MessageFunc(func(_ context.Context, m *server.Message) error {
		fmt.Println("received with", m.Conn.With())
		return discardMessage(context.Background(), m)
	}), &server.Options{
		Hostname:  "mail.example.org",
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{clienttest.Certificate()}}, // for an example
	})
	if err != nil {
		log.Fatal(err)
	}
	smtp, stop := start(srv, srv.Serve) // or go srv.ListenAndServe(":25")
	defer stop()
	smtps, stopTLS := start(srv, srv.ServeTLS) // or go srv.ListenAndServeTLS(":465")
	defer stopTLS()

	message := []string{"EHLO client.example.com", "MAIL FROM:<jane@example.com>", "RCPT TO:<joe@example.org>", "DATA", "."}
	converse(smtp, message...)
	nc, err := tls.Dial("tcp", smtps, clienttest.TLSConfig())
	if err != nil {
		log.Fatal(err)
	}
	converseOver(nc, message...)
	// Output:
	// received with ESMTP
	// received with ESMTPS
}

// A certificate is renewed while the server runs: GetCertificate returns the one that was loaded last.
func ExampleOptions_renewCertificate() {
	var current atomic.Pointer[tls.Certificate]
	renew := func() error {
		cert, err := loadCertificate() // or tls.LoadX509KeyPair("mail.crt", "mail.key")
		if err == nil {
			current.Store(&cert)
		}
		return err
	}
	if err := renew(); err != nil {
		log.Fatal(err)
	}
	srv, err := server.New(server.MessageFunc(discardMessage), &server.Options{
		Hostname: "mail.example.org",
		TLSConfig: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return current.Load(), nil
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	addr, stop := start(srv, srv.ServeTLS)
	defer stop()

	for range 2 {
		nc, err := tls.Dial("tcp", addr, clienttest.TLSConfig())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(converseOver(nc, "QUIT")[0])
		if err := renew(); err != nil { // once a day, for instance, or on a signal
			log.Print(err) // the old one goes on
		}
	}
	// Output:
	// 221 2.0.0 Bye
	// 221 2.0.0 Bye
}

func loadCertificate() (tls.Certificate, error) { return clienttest.Certificate(), nil }
