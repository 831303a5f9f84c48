package ext

// ServerLimits are the limits that a server states. A field is 0 if the server states no such limit.
type ServerLimits struct {
	MailMax       int // MAIL commands in a session
	RcptMax       int // RCPT commands in a transaction
	RcptDomainMax int // different domains of recipients in a session
}

// Limits returns the limits that the server at the other end of c states, of which o is the offer: the strictest that
// the extensions in o return.
func (s *Set) Limits(o Offer, c ClientConn) ServerLimits {
	var l ServerLimits
	for i := range s.list {
		if o.Has(i) && s.list[i].Limits != nil {
			l = l.within(s.list[i].Limits(c))
		}
	}
	return l
}

// within returns the stricter of each limit of l and other.
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
