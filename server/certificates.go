package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A CertificateFile is where a certificate is, in the PEM format.
type CertificateFile struct {
	// Certificate is the path of the certificate, with those of the chain behind it.
	Certificate string
	// Key is the path of the private key. If it is empty, the key is in the same file.
	Key string
}

// CertificateOptions are options of [ReadCertificates]. The zero value is usable.
type CertificateOptions struct {
	// Interval is how often the files are looked at, at most: when there is a handshake, and not otherwise. Default: 1
	// minute. A negative Interval never looks; then only Reload does.
	Interval time.Duration
	// Logger gets a record when certificates were renewed, and when that failed. Default: slog.Default.
	Logger *slog.Logger
}

// Certificates are certificates of a server in files, which are read again when they have changed. Make them with
// [ReadCertificates]. The methods may be called concurrently, and several servers can share the value.
type Certificates struct {
	opt  CertificateOptions
	list atomic.Pointer[[]tls.Certificate] // for each pair
	next atomic.Int64                      // when to look again, in nanoseconds since start
	from time.Time

	mu    sync.Mutex // held while the files are read
	pairs []pair
}

// A pair is a certificate and its key in files, as they were when they were last read.
type pair struct {
	file      CertificateFile
	cert, key os.FileInfo
	failure   string // why they could not be read; "" if they could
}

// ReadCertificates reads certificates that a server uses at once, and reads again when they are renewed:
//
//	certs, err := server.ReadCertificates(nil, server.CertificateFile{Certificate: "cert.pem", Key: "key.pem"})
//	opt.TLSConfig = &tls.Config{GetCertificate: certs.GetCertificate}
//
// With several files, each client gets the first certificate that has the name it asks for (SNI) and of which it knows
// the algorithms. The first of all is for clients that ask for no name, or for another.
//
// The error says which file cannot be used, and why. Options may be nil.
func ReadCertificates(opt *CertificateOptions, files ...CertificateFile) (*Certificates, error) {
	if len(files) == 0 {
		return nil, errors.New("smtp: ReadCertificates needs at least one CertificateFile")
	}
	c := &Certificates{from: time.Now()}
	if opt != nil {
		c.opt = *opt
	}
	if c.opt.Interval == 0 {
		c.opt.Interval = time.Minute
	}
	if c.opt.Logger == nil {
		c.opt.Logger = slog.Default()
	}
	list := make([]tls.Certificate, len(files))
	for i, file := range files {
		if file.Certificate == "" {
			return nil, fmt.Errorf("smtp: Certificate of file %d is empty: it is the path of a file in PEM", i+1)
		}
		if file.Key == "" {
			file.Key = file.Certificate
		}
		p := pair{file: file}
		cert, err := p.read()
		if err != nil {
			return nil, err
		}
		list[i] = *cert
		c.pairs = append(c.pairs, p)
	}
	c.list.Store(&list)
	c.next.Store(int64(c.opt.Interval))
	return c, nil
}

// GetCertificate returns the certificate for a client. It is for GetCertificate of tls.Config.
//
// If it is time to, it first looks whether the files have changed. If they cannot be used, such as while one of the two
// has been replaced and the other has not, the certificate from before stays in use. That is logged once, and the files
// are read again when the next interval has passed.
func (c *Certificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := time.Since(c.from)
	if next := c.next.Load(); c.opt.Interval > 0 && int64(now) >= next &&
		c.next.CompareAndSwap(next, int64(now+c.opt.Interval)) && c.mu.TryLock() {
		_ = c.reload(false)
		c.mu.Unlock()
	}
	return choose(*c.list.Load(), hello), nil
}

// Reload reads all files at once, such as after SIGHUP. A certificate that cannot be read stays as it was, and the
// error says why.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reload(true)
}

// reload reads the files that have changed or could not be read before, or all of them.
func (c *Certificates) reload(all bool) error {
	list := append([]tls.Certificate(nil), *c.list.Load()...)
	var failed error
	for i := range c.pairs {
		p := &c.pairs[i]
		if !all && p.failure == "" && !p.changed() {
			continue
		}
		cert, err := p.read()
		log := c.opt.Logger.With("certificate", p.file.Certificate, "key", p.file.Key)
		if err != nil {
			failed = errors.Join(failed, err)
			if p.failure != err.Error() {
				log.Error("smtp: a certificate cannot be read again, and the old one stays in use", "err", err,
					"expires", list[i].Leaf.NotAfter)
			}
			p.failure = err.Error()
			continue
		}
		p.failure = ""
		if !cert.Leaf.Equal(list[i].Leaf) {
			log.Info("smtp: a certificate was renewed", "expires", cert.Leaf.NotAfter)
		}
		list[i] = *cert
	}
	c.list.Store(&list)
	return failed
}

// changed reports whether a file is not the one that was read.
func (p *pair) changed() bool {
	return differs(p.cert, p.file.Certificate) || differs(p.key, p.file.Key)
}

// differs reports whether the file at path is another than it was, or cannot be found. A link may lead to another file.
func differs(was os.FileInfo, path string) bool {
	is, err := os.Stat(path)
	return err != nil || !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) || was.Size() != is.Size()
}

// read reads the certificate and its key. What the files were is noted before they are read, so that a change in
// between is found the next time.
func (p *pair) read() (*tls.Certificate, error) {
	certInfo, certPEM, err := readFile(p.file.Certificate)
	if err != nil {
		return nil, fmt.Errorf("smtp: the certificate cannot be read: %w", err)
	}
	keyInfo, keyPEM, err := readFile(p.file.Key)
	if err != nil {
		return nil, fmt.Errorf("smtp: the key of the certificate cannot be read: %w", err)
	}
	if block, _ := pem.Decode(certPEM); block == nil {
		return nil, fmt.Errorf("smtp: there is no certificate in PEM in %s", p.file.Certificate)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("smtp: the certificate in %s and the key in %s are no pair: %w",
			p.file.Certificate, p.file.Key, err)
	}
	if cert.Leaf == nil { // as with GODEBUG=x509keypairleaf=0
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, fmt.Errorf("smtp: the certificate in %s: %w", p.file.Certificate, err)
		}
	}
	p.cert, p.key = certInfo, keyInfo
	return &cert, nil
}

// maxCertificateFile is the maximum length of a file in octets. A long chain has some 10,000.
const maxCertificateFile = 1 << 20

// readFile returns the content of a file, and what the file was.
func readFile(path string) (os.FileInfo, []byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCertificateFile+1))
	if err == nil && len(b) > maxCertificateFile {
		err = fmt.Errorf("%s has more than %d octets", path, maxCertificateFile)
	}
	return info, b, err
}

// choose returns the certificate of the list for a client: one with the name that it asks for, or at least with an
// algorithm that it knows, or else the first.
func choose(list []tls.Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	nameless := *hello
	nameless.ServerName = ""
	for _, h := range []*tls.ClientHelloInfo{hello, &nameless} {
		for i := range list {
			if h.SupportsCertificate(&list[i]) == nil {
				return &list[i]
			}
		}
	}
	return &list[0]
}
