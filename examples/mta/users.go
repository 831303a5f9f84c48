package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A user may submit mail, and has a mailbox.
type user struct {
	name, password string
	senders        []string // addresses from which he may send; nil stands for his mailboxes
	secrets        map[crypto.Hash]auth.SCRAMSecret
}

// hashes are those of SCRAM. SHA-1 is for clients that have nothing else.
var hashes = []crypto.Hash{crypto.SHA256, crypto.SHA1}

// newSecrets makes the secrets of a password, which take the place of the password for all mechanisms but CRAM-MD5.
func newSecrets(password string) (map[crypto.Hash]auth.SCRAMSecret, error) {
	secrets := make(map[crypto.Hash]auth.SCRAMSecret)
	for _, h := range hashes {
		s, err := auth.NewSCRAMSecret(h, password, 0)
		if err != nil {
			return nil, err
		}
		secrets[h] = s
	}
	return secrets, nil
}

func (c *config) addUser(s string) error {
	part := strings.SplitN(s, ":", 3)
	if len(part) < 2 || part[0] == "" || part[1] == "" {
		return errors.New("write it as joe:password, or joe:password:joe@example.org,info@example.org")
	}
	u := user{name: part[0], password: part[1]}
	if len(part) == 3 {
		for text := range strings.SplitSeq(part[2], ",") {
			if a, err := proto.ParseAddress(text); err == nil {
				text = key(a)
			} else if text != "*" {
				return err
			}
			u.senders = append(u.senders, text)
		}
	}
	var err error
	u.secrets, err = newSecrets(u.password)
	c.users = append(c.users, u)
	return err
}

func (c *config) user(name string) *user {
	if i := slices.IndexFunc(c.users, func(u user) bool { return u.name == name }); i >= 0 {
		return &c.users[i]
	}
	return nil
}

// key is what addresses are compared by, here where local parts have no case.
func key(a proto.Address) string { return strings.ToLower(a.Key()) }

// A directory knows the mailboxes and aliases of the domains.
type directory struct {
	home    proto.Domain // of postmaster without a domain
	domains []string
	boxes   map[string]bool            // mailboxes, by key
	aliases map[string][]proto.Address // what an address stands for, by key
}

func newDirectory(c *config) (*directory, error) {
	home, err := proto.ParseDomain(c.domains[0])
	if err != nil {
		return nil, err
	}
	d := &directory{home: home, domains: c.domains, boxes: map[string]bool{}, aliases: map[string][]proto.Address{}}
	for _, name := range c.domains {
		for _, u := range c.users {
			a, err := proto.ParseAddress(u.name + "@" + name)
			if err != nil {
				return nil, fmt.Errorf("-user %s: %w", u.name, err)
			}
			d.boxes[key(a)] = true
		}
	}
	for _, pair := range c.aliases {
		if err := d.addAlias(pair[0], pair[1]); err != nil {
			return nil, fmt.Errorf("-alias %s=%s: %w", pair[0], pair[1], err)
		}
	}
	// Somebody reads what is for postmaster (RFC 5321 section 4.5.1): the first user, unless there is an alias or a user.
	for _, name := range c.domains {
		at := "postmaster@" + name
		switch {
		case d.knows(at):
		case len(c.users) > 0:
			err = d.addAlias(at, c.users[0].name+"@"+name)
		default:
			d.boxes[at] = true
		}
	}
	for from, to := range d.aliases {
		for _, a := range to {
			if len(d.expand(a)) == 0 {
				return nil, fmt.Errorf("-alias %s=%v leads to nobody", from, a)
			}
		}
	}
	return d, err
}

// addAlias adds an alias. From without a domain is in each domain, and to without one is in the domain of from.
func (d *directory) addAlias(from, to string) error {
	local, at, ok := strings.Cut(from, "@")
	in := d.domains
	if ok {
		in = []string{at}
	}
	for _, name := range in {
		target := to
		if !strings.Contains(to, "@") {
			target = to + "@" + name
		}
		f, err1 := proto.ParseAddress(local + "@" + name)
		t, err2 := proto.ParseAddress(target)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !d.isOurs(f.Domain) {
			return fmt.Errorf("%v is not a -domain", f.Domain)
		}
		d.aliases[key(f)] = append(d.aliases[key(f)], t)
	}
	return nil
}

func (d *directory) isOurs(domain proto.Domain) bool { return slices.Contains(d.domains, domain.Key()) }

func (d *directory) knows(key string) bool { return d.boxes[key] || len(d.aliases[key]) > 0 }

// lookup reports whether mail for an address of ours is taken.
func (d *directory) lookup(_ context.Context, a proto.Address) (bool, error) {
	return d.knows(key(a)), nil
}

// expand returns the mailboxes, here and elsewhere, that mail for an address goes to. An alias that comes back to
// itself, as one that keeps a copy does, ends there.
func (d *directory) expand(a proto.Address) []proto.Address {
	if a.Domain.IsZero() {
		a.Domain = d.home
	}
	var to []proto.Address
	seen := map[string]bool{}
	var visit func(a proto.Address, from string)
	visit = func(a proto.Address, from string) {
		k := key(a)
		next, isAlias := d.aliases[k]
		switch {
		case k == from || seen[k] || !isAlias:
			if (!d.isOurs(a.Domain) || d.boxes[k]) && !slices.ContainsFunc(to, a.Equal) {
				to = append(to, a)
			}
		default:
			seen[k] = true
			for _, n := range next {
				visit(n, k)
			}
		}
	}
	visit(a, "")
	return to
}

// recipients returns whom mail for a recipient goes to, with the parameters of RCPT, and with ORCPT to name the
// recipient (RFC 3461 section 5.2.7). Of several, one alone notifies of success.
func (d *directory) recipients(r proto.Recipient) []proto.Recipient {
	var to []proto.Recipient
	dsn, asked := ehlo.ReadDSNRcpt(r.Params)
	for i, a := range d.expand(r.Address) {
		params := r.Params
		if asked && !a.Equal(r.Address) {
			if dsn.Original.Type == "" {
				dsn.Original = ehlo.NewOriginalRecipient(r.Address)
			}
			if i > 0 && dsn.Notify == ehlo.NotifySuccess {
				dsn.Notify = ehlo.NotifyNever
			} else if i > 0 {
				dsn.Notify &^= ehlo.NotifySuccess
			}
			params = dsn.AddTo(slices.Clone(params))
		}
		to = append(to, proto.Recipient{Address: a, Params: params})
	}
	return to
}
