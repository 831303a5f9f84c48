package netsmtp

import (
	"context"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
)

// verifying returns the default extensions with a STARTTLS that is as strict as where TLS is required, if it is offered.
func verifying() []ext.Extension {
	list := ehlo.Default()
	for i := range list {
		if list[i].Keyword == ehlo.StartTLS().Keyword {
			negotiate := list[i].Negotiate
			list[i].Negotiate = func(ctx context.Context, n ext.Negotiation) error { return negotiate(ctx, strict{n}) }
		}
	}
	return list
}

// strict is a negotiation in which TLS is required.
type strict struct{ ext.Negotiation }

func (s strict) Policy() ext.Policy {
	p := s.Negotiation.Policy()
	if p.TLS == ext.TLSOpportunistic {
		p.TLS = ext.TLSRequired
	}
	return p
}
