package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// ParsePrivateKey returns the first private key in a PEM file: an RSA key as PKCS #1 (RSA PRIVATE KEY) or PKCS #8
// (PRIVATE KEY), or an Ed25519 key as PKCS #8. These commands of OpenSSL make one:
//
//	openssl genrsa -out rsa.pem 2048
//	openssl genpkey -algorithm ed25519 -out ed25519.pem
//
// The error does not contain the key.
func ParsePrivateKey(text []byte) (crypto.Signer, error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, keyFileError("there is no private key in it: give a PEM file with \"-----BEGIN PRIVATE KEY-----\"")
		}
		var key any
		var err error
		switch _, encrypted := block.Headers["DEK-Info"]; {
		case encrypted || block.Type == "ENCRYPTED PRIVATE KEY":
			return nil, keyFileError("it has a password: remove it with openssl pkcs8 -in FILE, and protect the file otherwise")
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, keyFileError("the key is of the kind " + block.Type + ": give an RSA or an Ed25519 key")
		default:
			continue // a public key or a certificate beside it
		}
		if err != nil {
			return nil, keyFileError("the " + block.Type + " in it is malformed")
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, nil
		case ed25519.PrivateKey:
			return key, nil
		}
		return nil, keyFileError(fmt.Sprintf("the key is of the type %T: give an RSA or an Ed25519 key", key))
	}
}

func keyFileError(what string) error { return errors.New("smtp: dkim: the file of the key: " + what) }

// A Record is the TXT record of the DNS that has the public key of a [Key] (RFC 6376 section 3.6).
type Record struct {
	Name  string // without the dot at the end, such as "2026a._domainkey.example.org"
	Value string // such as "v=DKIM1; k=rsa; p=MIIB…"
}

// Record returns the record to publish for k. Without it, nobody can verify what k has signed. It does not need the
// private key: Signer has only to tell the public one.
func (k Key) Record() (Record, error) {
	if err := k.normalize(); err != nil {
		return Record{}, fmt.Errorf("smtp: dkim: %w", err)
	}
	if err := k.checkStrength(true); err != nil {
		return Record{}, fmt.Errorf("smtp: dkim: %w", err)
	}
	r := Record{Name: k.Selector + "._domainkey." + k.Domain}
	switch public := k.Signer.Public().(type) {
	case ed25519.PublicKey: // as it is (RFC 8463 section 4.2)
		r.Value = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	default:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return Record{}, fmt.Errorf("smtp: dkim: the public key: %w", err)
		}
		r.Value = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	}
	return r, nil
}

// String returns the record as a line of a zone file. A value of more than 255 octets is cut into several strings,
// which resolvers put together (RFC 6376 section 3.6.2.2).
func (r Record) String() string {
	const longest = 255
	line := r.Name + ". IN TXT ("
	for v := r.Value; v != ""; {
		n := min(len(v), longest)
		line += ` "` + v[:n] + `"`
		v = v[n:]
	}
	return line + " )"
}
