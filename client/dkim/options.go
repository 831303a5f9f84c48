package dkim

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/proto"
)

const (
	defaultMaxHeader = 1 << 20
	defaultMaxHeld   = 16 << 20

	// maxList is how long the list of header fields may be. The signer writes it in one line, and a line has 998 octets
	// at most (RFC 5322 section 2.1.1).
	maxList = 980
	// maxKeys is how many keys may sign a message. Verifiers look at few signatures.
	maxKeys = 8

	leastRSA   = 1024 // RFC 8301 section 3.2: signers must use at least that
	adviseRSA  = 2048 // and should use at least that
	longestRSA = 4096 // verifiers must take what is no longer than that
)

// Options are the options of New. They are copied; nil is the zero value, which has no keys.
type Options struct {
	// Keys are the keys to sign with. All keys of a domain sign each of its messages, in this order: give an RSA key and
	// an Ed25519 key (RFC 8463), so that verifiers that do not know the second one take the first. There may be 8 keys for
	// one domain, and any number of domains.
	Keys []Key
	// Required says that a message is refused with a [client.MessageError] if it is not signed for the domain of each
	// address in From. Default: messages of domains without keys are passed on as they are.
	Required bool
	// ShortRSA permits RSA keys of 1024 to 2047 bits. Verifiers have to take them, but they can be broken in the long run
	// (RFC 8301 section 3.2). Default: New returns an error for an RSA key of less than 2048 bits.
	ShortRSA bool
	// Expiry is for how long a signature is valid, in full seconds (tag x=). Mail that waits in queues can be 5 days old
	// when it is verified. Default: signatures do not expire. It is an error if it is shorter than a second.
	Expiry time.Duration
	// Fields are the names of header fields that are signed whether the message has them or not. Each name is listed once
	// more than there are such fields in the message: a field of that name that somebody adds breaks the signature. From
	// is always among them. Default: From, Reply-To, To, Cc, Subject, Date, Message-ID, In-Reply-To, References,
	// MIME-Version, Content-Type and Content-Transfer-Encoding.
	//
	// A server that completes messages, by adding a Date or a Message-ID, breaks the signature too: write a complete
	// header.
	Fields []string
	// IfPresent are the names of header fields that are signed if the message has them. Each name is then listed once
	// more than there are such fields, except for names that begin with Resent-: somebody who sends the message again
	// adds fields of that kind (RFC 5322 section 3.6.6). Default: Sender, Autocrypt, TLS-Required, the fields of MIME,
	// mailing lists and TLS reports that are not in Fields, and Resent-Date, -From, -Sender, -To, -Cc and -Message-ID.
	// An empty list that is not nil is none.
	IfPresent []string
	// MaxHeader is how many octets a header may have, which is held in memory. Default 1 MiB.
	MaxHeader int
	// MaxHeld is how many octets of the content are held in memory if the Body is not an [io.Seeker]; see Signer.Prepare.
	// It is not less than MaxHeader and 32 KiB. Default 16 MiB.
	MaxHeld int
}

// A Key signs for a domain.
type Key struct {
	// Domain is the domain that the key speaks for (tag d=), such as "example.org". It may have U-labels. The signature
	// has A-labels (RFC 8616 section 5).
	Domain string
	// Selector names the key among those of the domain (tag s=), such as "2026a". The record with the public key is at
	// Selector._domainkey.Domain; [Key.Record] has it. To change keys, publish a key under another selector first.
	Selector string
	// Signer is the private key: an *rsa.PrivateKey, an ed25519.PrivateKey, or a module that keeps it, whose Public
	// returns an *rsa.PublicKey or an ed25519.PublicKey. Several goroutines may call it at once. [ParsePrivateKey] reads
	// one.
	Signer crypto.Signer
	// Subdomains says that the key signs for all domains below Domain too, unless there are keys for a domain that is
	// nearer to that of From. DMARC takes such a signature with relaxed alignment, the default there.
	Subdomains bool
}

var defaultFields = []string{
	"From", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "MIME-Version",
	"Content-Type", "Content-Transfer-Encoding",
}

var defaultIfPresent = []string{
	"Sender", "Content-ID", "Content-Description", "Content-Disposition", "Autocrypt", "List-Id", "List-Help",
	"List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post", "List-Owner", "List-Archive",
	"TLS-Required", "TLS-Report-Domain", "TLS-Report-Submitter", "Resent-Date", "Resent-From", "Resent-Sender",
	"Resent-To", "Resent-Cc", "Resent-Message-ID",
}

// unsigned are fields that mail systems add, replace or remove on the way (RFC 6376 section 5.4).
var unsigned = []string{"return-path", "received", "delivered-to", "bcc", "resent-bcc", "dkim-signature"}

// config is what New makes of Options.
type config struct {
	keys      map[string][]Key // by the domain in lower case and A-labels; Domain is that too
	required  bool
	expiry    time.Duration
	fields    []string
	ifPresent []string
	maxHeader int
	maxHeld   int
}

func (o *Options) config() (*config, error) {
	cfg := &config{
		keys:      make(map[string][]Key),
		required:  o.Required,
		expiry:    o.Expiry,
		fields:    slices.Clone(o.Fields),
		ifPresent: slices.Clone(o.IfPresent),
		maxHeader: cmp.Or(max(0, o.MaxHeader), defaultMaxHeader),
		maxHeld:   cmp.Or(max(0, o.MaxHeld), defaultMaxHeld),
	}
	cfg.maxHeld = max(cfg.maxHeld, cfg.maxHeader+blockSize)
	if o.Fields == nil {
		cfg.fields = defaultFields
	}
	if o.IfPresent == nil {
		cfg.ifPresent = defaultIfPresent
	}
	if !slices.ContainsFunc(cfg.fields, func(name string) bool { return strings.EqualFold(name, "From") }) {
		cfg.fields = append([]string{"From"}, cfg.fields...)
	}
	if err := cfg.checkNames(); err != nil {
		return nil, err
	}
	if o.Expiry != 0 && o.Expiry < time.Second {
		return nil, optionError("Expiry is %v: give a second or more, or 0 for none", o.Expiry)
	}
	for i := range o.Keys {
		if err := cfg.add(o.Keys[i], o.ShortRSA); err != nil {
			return nil, optionError("Keys[%d]: %w", i, err)
		}
	}
	return cfg, nil
}

// checkNames checks the names of header fields, and leaves out those that come twice.
func (c *config) checkNames() error {
	seen := make(map[string]bool)
	for _, list := range []*[]string{&c.fields, &c.ifPresent} {
		var kept []string
		for _, name := range *list {
			key := strings.ToLower(name)
			switch {
			case !isFieldName(name) || strings.Contains(name, ";"):
				return optionError("%q is no name of a header field that can be signed", name)
			case slices.Contains(unsigned, key):
				return optionError("the field %s cannot be signed, since mail systems change it: leave it out", name)
			case !seen[key]:
				kept = append(kept, name)
			}
			seen[key] = true
		}
		*list = kept
	}
	return nil
}

// add adds a key.
func (c *config) add(k Key, shortRSA bool) error {
	if err := k.normalize(); err != nil {
		return err
	}
	if err := k.checkStrength(shortRSA); err != nil {
		return err
	}
	for _, other := range c.keys[k.Domain] {
		if strings.EqualFold(other.Selector, k.Selector) {
			return fmt.Errorf("there are two keys with the selector %s of %s: give each another selector", k.Selector, k.Domain)
		}
	}
	if len(c.keys[k.Domain]) == maxKeys {
		return fmt.Errorf("%s has more than %d keys: leave one RSA key and one Ed25519 key", k.Domain, maxKeys)
	}
	c.keys[k.Domain] = append(c.keys[k.Domain], k)
	return nil
}

// normalize checks the names of k, and writes its domain in lower case and A-labels.
func (k *Key) normalize() error {
	switch {
	case k.Domain == "":
		return errors.New("the Domain is empty: set it to the domain in the From fields, such as example.org")
	case k.Selector == "":
		return errors.New("the Selector is empty: give the key a name of its own, such as 2026a")
	}
	d, err := proto.ParseDomain(k.Domain)
	if err == nil && d.Addr().IsValid() {
		err = errors.New("it is an address literal: give a domain name")
	}
	if err != nil {
		return fmt.Errorf("the domain %q: %w", k.Domain, err)
	}
	s, err := proto.ParseDomain(k.Selector)
	if err == nil && s.Addr().IsValid() {
		err = errors.New("give a name such as 2026a")
	}
	if err != nil {
		return fmt.Errorf("the selector %q: %w", k.Selector, err)
	}
	k.Domain, k.Selector = d.Key(), strings.ToLower(s.ASCII())
	return nil
}

// checkStrength checks that verifiers take signatures of the kind that k makes.
func (k *Key) checkStrength(shortRSA bool) error {
	if k.Signer == nil {
		return errors.New("it has no Signer: set it to the private key")
	}
	switch public := k.Signer.Public().(type) {
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		switch bits := public.N.BitLen(); {
		case bits > longestRSA:
			return fmt.Errorf("an RSA key of %d bits: verifiers need not take more than %d, so make a shorter one",
				bits, longestRSA)
		case bits < leastRSA:
			return fmt.Errorf("an RSA key of %d bits: verifiers do not take less than %d, so make one of %d",
				bits, leastRSA, adviseRSA)
		case bits < adviseRSA && !shortRSA:
			return fmt.Errorf("an RSA key of %d bits: make one of %d, or set ShortRSA", bits, adviseRSA)
		}
		return nil
	default:
		return fmt.Errorf("a key of the type %T: give an RSA or an Ed25519 key", public)
	}
}

// lookup returns the keys that sign for a domain, which is written as config has it.
func (c *config) lookup(domain string) []Key {
	keys := c.keys[domain]
	for len(keys) == 0 {
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return nil
		}
		domain = parent
		for _, k := range c.keys[domain] {
			if k.Subdomains {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

func optionError(format string, args ...any) error { return fmt.Errorf("smtp: dkim: "+format, args...) }
