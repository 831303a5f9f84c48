package mx

import (
	"context"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/tlsrpt"
)

// report tells who reports on TLS what came of an attempt. What says nothing of TLS, such as a host that cannot be
// reached, is not told; nor is an attempt in clear behind a handshake that failed, which is told already.
func (j *job) report(ctx context.Context, v *visit, a *Attempt) {
	to := j.d.opt.Reports
	if to == nil || v.again || tlsrpt.IsReport(ctx) || strings.HasPrefix(j.route.Domain, "[") {
		return
	}
	result, ok := v.result(a)
	if !ok {
		return
	}
	e := tlsrpt.Event{
		Time: a.Began, Domain: j.route.Domain, MXHost: v.host.Name, Result: result,
		SendingIP: v.link.local, ReceivingIP: a.Addr.Addr(),
	}
	switch {
	case result == "":
	case v.denied != nil:
		e.Code = tlsrpt.CodeOf(v.denied)
	case v.facts.DANE == DANENone && (v.facts.STS == STSEnforceOther || v.facts.STS == STSTestingOther):
		e.Code = errNotNamed.Error()
	case v.link.weakness != nil:
		e.Code = tlsrpt.CodeOf(v.link.weakness)
	case isTLS(a.Err):
		e.Code = tlsrpt.CodeOf(a.Err)
	}
	switch {
	case v.facts.DANE != DANENone:
		e.Policy = tlsrpt.Policy{Type: tlsrpt.TypeTLSA}
		if v.records != nil {
			e.Policy.Domain, e.Policy.Strings = v.records.Base, v.records.Strings()
		}
	case v.facts.STS != STSNone:
		e.Policy = tlsrpt.Policy{Type: tlsrpt.TypeSTS, Strings: j.sts.Policy.Lines(), MXHosts: j.sts.Policy.MX}
	default:
		e.Policy = tlsrpt.Policy{Type: tlsrpt.TypeNone}
	}
	to.Record(e)
	if j.sts != nil && j.sts.Result() != "" && v.facts.DANE == DANENone {
		e.Policy.Type, e.Result, e.Code = tlsrpt.TypeSTS, j.sts.Result(), tlsrpt.CodeOf(j.sts.Problem)
		to.Record(e)
	}
}

// result returns the result of the attempt for TLS, as RFC 8460 section 4.3 names it: "" for success. It returns false
// if the attempt says nothing of TLS.
func (v *visit) result(a *Attempt) (string, bool) {
	f := &v.link
	switch {
	case v.denied != nil:
		return tlsrpt.ResultOf(v.denied), true
	case v.facts.STS == STSEnforceOther && v.facts.DANE == DANENone:
		return tlsrpt.ValidationFailure, true
	case f.addr.IsValid() && f.tls == nil:
		return tlsrpt.StartTLSNotSupported, true
	case f.addr.IsValid() && v.facts.STS == STSTestingOther && v.facts.DANE == DANENone:
		return tlsrpt.ValidationFailure, true
	case f.addr.IsValid() && v.facts.STS == STSTesting && v.facts.DANE == DANENone && f.weakness != nil:
		return tlsrpt.ResultOf(f.weakness), true
	case f.addr.IsValid():
		return "", true
	}
	if isTLS(a.Err) && client.SafeToRetry(a.Err) {
		return tlsrpt.ResultOf(a.Err), true
	}
	return "", false
}
