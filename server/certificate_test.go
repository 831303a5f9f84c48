package server_test

import (
	"crypto/tls"
	"testing"

	"smtpkit.example/smtp/proto/prototest"
)

// tlsPair returns a server's configuration of TLS, with a certificate of its own making, and that of a client which
// trusts it.
func tlsPair(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	cert, pool := prototest.Certificate(t, "mail.example")
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: pool, ServerName: "mail.example"}
}
