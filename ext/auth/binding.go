package auth

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"

	"smtpkit.example/smtp/ext"
)

// The types of channel binding. Each names something about a TLS connection that is the same at both ends only if
// nobody sits in between.
const (
	bindExporter = "tls-exporter"         // RFC 9266
	bindUnique   = "tls-unique"           // RFC 5929 section 3
	bindEndPoint = "tls-server-end-point" // RFC 5929 section 4
)

// clientBinding returns the type of channel binding that a client uses, and its data: the default one of the version
// of TLS (RFC 9266 section 3), or else that by the server's certificate. It is "" if there is none.
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

// serverBindings returns what the data may be of a binding of that type. There is more than one if it is not known
// which of the server's certificates the client was shown: any of them will do, since nobody else has their keys.
//
// It is not known at all on a resumed connection if the configuration makes the certificates up as it goes along
// (GetCertificate and the like). A client that insists on tls-server-end-point, as do those on .NET, cannot
// authenticate by SCRAM-PLUS then.
func serverBindings(x ext.ServerConn, kind string) [][]byte {
	s := directTLS(x)
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
	for _, c := range x.OwnCertificates() {
		if data := endPoint(c); data != nil {
			list = append(list, data)
		}
	}
	return list
}

// canBind reports whether there is a channel binding on the connection that clients can be expected to use.
func canBind(s *tls.ConnectionState) bool {
	return s != nil && (commonBinding(s, bindExporter) != nil || commonBinding(s, bindUnique) != nil)
}

// commonBinding returns the data of a binding that either end knows. Package crypto/tls has neither for connections
// on which they would prove nothing: those that were resumed without an extended master secret (RFC 7677 section 4).
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

// endPoint returns the hash of the certificate, by the hash function of its signature but no weaker one than SHA-256
// (RFC 5929 section 4.1). It is nil where the signature has none, as with Ed25519.
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
