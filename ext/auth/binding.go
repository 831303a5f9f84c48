package auth

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"

	"smtpkit.example/smtp/ext"
)

// The types of channel binding. Each names a property of a TLS connection that differs at the two ends if there is a
// man in the middle.
const (
	bindExporter = "tls-exporter"         // RFC 9266
	bindUnique   = "tls-unique"           // RFC 5929 section 3
	bindEndPoint = "tls-server-end-point" // RFC 5929 section 4
)

// clientBinding returns the type of channel binding that a client uses, and its data. It prefers the default type of
// the TLS version (RFC 9266 section 3) to tls-server-end-point. The type is "" if there is no binding.
func clientBinding(s *tls.ConnectionState) (kind string, data []byte) {
	if s == nil {
		return "", nil
	}
	kind = bindUnique
	if s.Version >= tls.VersionTLS13 {
		kind = bindExporter
	}
	if data = commonBinding(s, kind); data == nil && len(s.PeerCertificates) > 0 {
		kind, data = bindEndPoint, endPoint(s.PeerCertificates[0])
	}
	if data == nil {
		return "", nil
	}
	return kind, data
}

// serverBindings returns the data that a binding of that type may have. There are several if the server does not know
// which of its certificates the client saw. It accepts any of them, since nobody else has their keys.
//
// There are none on a resumed connection if the certificates come from GetCertificate or the like. A client that
// insists on tls-server-end-point, as clients on .NET do, then cannot authenticate by SCRAM-PLUS.
func serverBindings(conn ext.ServerConn, kind string) [][]byte {
	s := directTLS(conn)
	if s == nil {
		return nil
	}
	if kind != bindEndPoint {
		if data := commonBinding(s, kind); data != nil {
			return [][]byte{data}
		}
		return nil
	}
	var list [][]byte
	for _, c := range conn.OwnCertificates() {
		if data := endPoint(c); data != nil {
			list = append(list, data)
		}
	}
	return list
}

// canBind reports whether the connection has a channel binding that clients can be expected to know.
func canBind(s *tls.ConnectionState) bool {
	return s != nil && (commonBinding(s, bindExporter) != nil || commonBinding(s, bindUnique) != nil)
}

// commonBinding returns the data of a binding that both ends derive from the TLS connection, or nil. On a connection
// that was resumed without an extended master secret it would prove nothing (RFC 7677 section 4), and crypto/tls
// returns none.
func commonBinding(s *tls.ConnectionState, kind string) []byte {
	switch kind {
	case bindExporter:
		if !s.HandshakeComplete {
			return nil
		}
		data, err := s.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		if err == nil {
			return data
		}
	case bindUnique:
		if len(s.TLSUnique) > 0 {
			return s.TLSUnique
		}
	}
	return nil
}

// endPoint returns the hash of the certificate. The hash function is that of the certificate's signature, or SHA-256 in
// place of a weaker one (RFC 5929 section 4.1). The result is nil if the signature has no hash function, as with
// Ed25519.
func endPoint(c *x509.Certificate) []byte {
	var hash crypto.Hash
	switch c.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	}
	if !hash.Available() {
		return nil
	}
	h := hash.New()
	h.Write(c.Raw)
	return h.Sum(nil)
}
