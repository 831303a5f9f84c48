package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"strings"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
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

// status returns the exit status for an error that concerns all recipients.
func status(err error) int {
	var (
		tlsError      *ext.TLSError
		authError     *ext.AuthError
		needError     *ext.UnsupportedError
		tooLarge      *ehlo.TooLargeError
		messageError  *client.MessageError
		protocolError *client.ProtocolError
		refused       *proto.Error
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &tlsError) && tlsError.Optional:
		return exitTemporary
	case errors.As(err, &tlsError), errors.As(err, &authError):
		return exitSecurity
	case errors.As(err, &messageError), errors.As(err, &needError), errors.As(err, &tooLarge):
		return exitData
	case errors.As(err, &protocolError):
		return exitProtocol
	case errors.As(err, &refused) && !client.Temporary(err):
		return exitUnavailable
	case client.Temporary(err):
		return exitTemporary
	}
	return exitUnavailable
}

// report prints a line for each recipient and returns the exit status.
func (c *config) report(r *client.Result, err error) int {
	if r == nil {
		if err != nil {
			log.Print(err)
		}
		return status(err)
	}
	for _, rcpt := range r.Recipients {
		fmt.Fprintf(c.out, "%v: %s\n", rcpt.Address, outcome(rcpt))
	}
	switch sent := r.Sent(); {
	case sent == len(r.Recipients):
		return 0
	case sent > 0:
		return exitSome
	case client.Temporary(err):
		if code := status(err); code == exitProtocol || code == exitSecurity {
			return code
		}
		return exitTemporary
	}
	return status(err)
}

// outcome is the reply that decided, or why there is none.
func outcome(r proto.Outcome) string {
	if r.Err != nil && (r.Reply.Code == 0 || r.Reply.Code/100 == 2) {
		return strings.TrimPrefix(r.Err.Error(), "smtp: ")
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

// trace prints the dialogue to standard error.
func trace() *client.Trace {
	return &client.Trace{
		Secured: func(_ context.Context, c *client.Client, s tls.ConnectionState) {
			log.Printf("-- %s, certificate verified: %t", tls.VersionName(s.Version), c.Verified())
		},
		Command: func(_ context.Context, _ *client.Client, verb, args string) {
			log.Printf("C: %s", visible(strings.TrimSpace(verb+" "+args)))
		},
		Reply: func(_ context.Context, _ *client.Client, _ string, r proto.Reply) {
			log.Printf("S: %d %s", r.Code, visible(r.Text))
		},
		Content: func(_ context.Context, _ *client.Client, octets int64, _ proto.Reply) {
			log.Printf("-- %d octets of content", octets)
		},
	}
}
