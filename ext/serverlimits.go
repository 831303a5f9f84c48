package ext

// ServerLimits are the limits that a server states. A field is 0 if it states none.
type ServerLimits struct {
	MailMax       int // MAIL commands in a session
	RcptMax       int // RCPT commands in a transaction
	RcptDomainMax int // domains of recipients in a session
}

// within returns the stricter limits of l and other.
func (l ServerLimits) within(other ServerLimits) ServerLimits {
	stricter := func(a, b int) int {
		if a <= 0 || b > 0 && b < a {
			return b
		}
		return a
	}
	return ServerLimits{
		MailMax:       stricter(l.MailMax, other.MailMax),
		RcptMax:       stricter(l.RcptMax, other.RcptMax),
		RcptDomainMax: stricter(l.RcptDomainMax, other.RcptDomainMax),
	}
}

// Bounds returns what a server takes whose offer o is, as far as the extensions in it tell: the strictest of each limit.
func (s *Set) Limits(o Offer, d ClientConn) ServerLimits {
	var l ServerLimits
	for i := range s.list {
		if o.Has(i) && s.list[i].Limits != nil {
			l = l.within(s.list[i].Limits(d))
		}
	}
	return l
}
