package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"strings"
	"sync"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// Exit statuses, those from 64 on of sysexits.h.
const (
	exitSome        = 1
	exitUsage       = 64
	exitData        = 65
	exitNoInput     = 66
	exitUnavailable = 69
	exitTemporary   = 75
	exitProtocol    = 76
	exitSecurity    = 77
)

// status returns the exit status for an error that concerns all recipients, or one.
func status(err error) int {
	var (
		dnsError      *dns.Error
		policyError   *mx.PolicyError
		tlsError      *ext.TLSError
		needError     *ext.UnsupportedError
		tooLarge      *ehlo.TooLargeError
		messageError  *client.MessageError
		protocolError *client.ProtocolError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &dnsError) && client.Temporary(err):
		return exitTemporary
	case errors.As(err, &policyError), errors.As(err, &tlsError):
		return exitSecurity
	case errors.As(err, &messageError), errors.As(err, &needError), errors.As(err, &tooLarge):
		return exitData
	case errors.As(err, &protocolError):
		return exitProtocol
	case client.Temporary(err):
		return exitTemporary
	}
	return exitUnavailable
}

// report prints a line for each recipient and returns the exit status.
func (c *config) report(a *attempts, r *client.Result, err error) int {
	if r == nil {
		log.Print(err)
		return status(err)
	}
	code := 0
	for _, rcpt := range r.Recipients {
		fmt.Fprintf(c.out, "%v: %s%s\n", rcpt.Address, a.way(rcpt), outcome(rcpt))
		switch one := status(rcpt.Err); {
		case code == 0:
			code = one
		case one != 0 && one != code:
			code = exitTemporary // of several reasons at least one may be gone later
			if !client.Temporary(err) {
				code = exitUnavailable
			}
		}
	}
	if sent := r.Sent(); 0 < sent && sent < len(r.Recipients) {
		return exitSome
	}
	return code
}

// outcome is the reply that decided, or why there is none.
func outcome(r proto.Outcome) string {
	if r.Err != nil && (r.Reply.Code == 0 || r.Reply.Code/100 == 2) {
		text := strings.TrimPrefix(r.Err.Error(), "smtp: ")
		var code interface{ Status() proto.Status }
		if errors.As(r.Err, &code) && !code.Status().IsZero() {
			text = code.Status().String() + " " + text
		}
		return visible(text)
	}
	text := fmt.Sprint(r.Reply.Code)
	if !r.Reply.Status.IsZero() {
		text += " " + r.Reply.Status.String()
	}
	return text + " " + visible(r.Reply.Text)
}

// visible makes text of a stranger safe for a terminal, on one line.
func visible(text string) string {
	text = strings.ReplaceAll(text, "\n", " / ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || 0x7f <= r && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}

// attempts remembers the last attempt for each recipient that got a reply.
type attempts struct {
	verbose bool
	mu      sync.Mutex
	last    map[string]*mx.Attempt // by address
}

func newAttempts(verbose bool) *attempts {
	return &attempts{verbose: verbose, last: map[string]*mx.Attempt{}}
}

// trace returns the functions that tell it.
func (a *attempts) trace() *mx.Trace {
	return &mx.Trace{
		Routed: func(_ context.Context, domain string, r *mx.Route, err error) {
			if !a.verbose {
				return
			}
			if err != nil {
				log.Printf("-- %s: %s", visible(domain), visible(err.Error()))
				return
			}
			var hosts []string
			for _, h := range r.Hosts {
				hosts = append(hosts, fmt.Sprintf("%d %s %v", h.Preference, h.Name, h.Addrs))
			}
			log.Printf("-- %s: %s", visible(domain), visible(strings.Join(hosts, ", ")))
		},
		Attempted: func(_ context.Context, one *mx.Attempt) {
			if a.verbose {
				log.Printf("-- %s: %s", visible(one.Domain), visible(describe(one)+cmp.Or(text(one.Err), "accepted")))
			}
			a.add(one)
		},
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (a *attempts) add(one *mx.Attempt) {
	if one.Result == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, rcpt := range one.Result.Recipients {
		if rcpt.Reply.Code != 0 {
			a.last[rcpt.Address.String()] = one
		}
	}
}

// way says over which connection came the reply of an outcome. What has none says itself how far it came.
func (a *attempts) way(r proto.Outcome) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one := a.last[r.Address.String()]; one != nil && r.Reply.Code != 0 {
		return describe(one)
	}
	return ""
}

// describe says which host an attempt was at, and how safely.
func describe(a *mx.Attempt) string {
	if !a.Addr.IsValid() {
		return visible(a.Host) + ": "
	}
	version := "no TLS"
	if a.TLS != nil {
		version = tls.VersionName(a.TLS.Version)
	}
	return fmt.Sprintf("%s [%s]:%d, %s, policy %v: ", visible(a.Host), a.Addr.Addr(), a.Addr.Port(), version, a.Policy)
}

// dialogue prints the dialogues to standard error. Those with several hosts are told apart by their addresses.
func dialogue() *client.Trace {
	return &client.Trace{
		Secured: func(_ context.Context, c *client.Client, s tls.ConnectionState) {
			log.Printf("%v -- %s, certificate verified: %t", c.RemoteAddr(), tls.VersionName(s.Version), c.Verified())
		},
		Command: func(_ context.Context, c *client.Client, verb, args string) {
			log.Printf("%v C: %s", c.RemoteAddr(), visible(strings.TrimSpace(verb+" "+args)))
		},
		Reply: func(_ context.Context, c *client.Client, _ string, r proto.Reply) {
			log.Printf("%v S: %d %s", c.RemoteAddr(), r.Code, visible(r.Text))
		},
		Content: func(_ context.Context, c *client.Client, octets int64, _ proto.Reply) {
			log.Printf("%v -- %d octets of content", c.RemoteAddr(), octets)
		},
	}
}
