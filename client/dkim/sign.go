package dkim

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// A KeyError means that a key failed to sign a message. Nothing has been sent. It is temporary: a module that keeps
// keys may be back later.
type KeyError struct {
	Domain, Selector string // of the key
	Err              error
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("smtp: dkim: the key %s of %s: %v", e.Selector, e.Domain, e.Err)
}

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// Status returns the status code for a delivery status notification: 4.7.5, a cryptographic failure (RFC 3463 section
// 3.8).
func (e *KeyError) Status() proto.Status { return proto.Status{4, 7, 5} }

// A content is what is read to be signed.
type content struct {
	ctx    context.Context
	wire   *wire
	lines  *bufio.Reader // over wire
	header *header
}

// openContent reads the header of r.
func openContent(ctx context.Context, r io.Reader, binary bool, maxHeader int) (*content, error) {
	t := &content{ctx: ctx, wire: newWire(&bodyReader{ctx, r}, binary)}
	t.lines = bufio.NewReaderSize(t.wire, blockSize)
	var err error
	t.header, err = readHeader(t.lines, maxHeader)
	return t, err
}

// A bodyReader reads a Body while a context lasts. Its errors say that reading the body failed.
type bodyReader struct {
	ctx context.Context
	r   io.Reader
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = &client.MessageError{What: "reading the body", Err: err}
	}
	return n, err
}

// keysFor returns the keys that sign a message, or none if it is passed on as it is.
func (c *config) keysFor(h *header) ([]Key, error) {
	names := domains(h.from)
	var keys []Key
	taken := make(map[string]bool) // domains whose keys are among them
	for _, name := range names {
		found := c.lookup(name)
		switch {
		case len(found) == 0 && c.required:
			return nil, fromError("there is no key for " + name + ": add one to Options.Keys, or clear Options.Required")
		case len(found) == 0 || taken[found[0].Domain]:
			continue
		}
		taken[found[0].Domain] = true
		if keys = append(keys, found...); len(keys) > maxKeys {
			return nil, fromError(fmt.Sprintf("it has addresses of so many domains that there would be more than %d signatures",
				maxKeys))
		}
	}
	switch n := h.count["from"]; {
	case n > 1 && (c.required || len(keys) > 0):
		return nil, fromError(fmt.Sprintf("there are %d of them: leave one (RFC 5322 section 3.6)", n))
	case len(names) == 0 && c.required && h.wrong != nil:
		return nil, h.wrong
	case len(names) == 0 && c.required:
		return nil, fromError("it has no address, or is missing: add it, with the address of the author")
	}
	return keys, nil
}

func fromError(what string) error {
	return &client.MessageError{What: "the field From", Err: errors.New(what)}
}

// sign reads t to its end, and returns the signatures as header fields, one for each key.
func (c *config) sign(t *content, keys []Key) (string, error) {
	list, err := c.list(t.header)
	if err != nil {
		return "", err
	}
	var passes passes
	defer passes.end()
	for _, k := range keys {
		if err := passes.begin(c, k, list); err != nil {
			return "", err
		}
	}
	if _, err := passes.Write(t.header.raw); err != nil {
		return "", err
	}
	if _, err := passes.Write([]byte("\r\n")); err != nil {
		return "", err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{&relaxed{w: &passes}}, struct{ io.Reader }{t.lines},
		make([]byte, blockSize)); err != nil {
		return "", err
	}
	return passes.fields(t.ctx)
}

// A pass is the signer of one key.
type pass struct {
	key    *guarded
	signer *dkim.Signer
	closed bool
}

func (p *pass) fail(err error) error { return &KeyError{p.key.Domain, p.key.Selector, err} }

// passes are signers that get the same message. Each has a goroutine until it is closed.
type passes struct {
	all []*pass
}

// begin adds the signer of k.
func (p *passes) begin(c *config, k Key, list []string) error {
	pass := &pass{key: &guarded{Key: k}}
	options := &dkim.SignOptions{
		Domain:                 k.Domain,
		Selector:               k.Selector,
		Signer:                 pass.key,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed,
		BodyCanonicalization:   dkim.CanonicalizationRelaxed,
		HeaderKeys:             list,
	}
	if c.expiry > 0 {
		options.Expiration = time.Now().Add(c.expiry)
	}
	var err error
	if pass.signer, err = dkim.NewSigner(options); err != nil {
		return pass.fail(err)
	}
	p.all = append(p.all, pass)
	return nil
}

// Write gives b to all signers.
func (p *passes) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for _, pass := range p.all {
		if _, err := pass.signer.Write(b); err != nil {
			return 0, pass.fail(err)
		}
	}
	return len(b), nil
}

// fields ends the message, has the keys sign it, one after the other, and returns the signatures.
func (p *passes) fields(ctx context.Context) (string, error) {
	var fields strings.Builder
	for _, pass := range p.all {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		pass.closed = true
		if err := pass.signer.Close(); err != nil {
			return "", pass.fail(err)
		}
		fields.WriteString(pass.signer.Signature())
	}
	return fields.String(), nil
}

// end ends the goroutines of the signers that are not closed. Their keys sign nothing.
func (p *passes) end() {
	for _, pass := range p.all {
		if !pass.closed {
			pass.closed = true
			pass.key.abandoned.Store(true)
			pass.signer.Close()
		}
	}
}

// A guarded is a key as the signer gets it, which calls it in its goroutine: a panic there would end the program, and
// the signer takes the end of what it was given for the end of the message.
type guarded struct {
	Key
	abandoned atomic.Bool
}

func (g *guarded) Public() crypto.PublicKey { return g.Signer.Public() }

func (g *guarded) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	if g.abandoned.Load() {
		return nil, errAbandoned
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panicked: %v", p)
		}
	}()
	signature, err = g.Signer.Sign(rand, digest, opts)
	if err == nil && len(signature) == 0 {
		err = errors.New("it made no signature")
	}
	return signature, err
}

var errAbandoned = errors.New("not all of the message was read")
