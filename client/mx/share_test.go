package mx

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/client/mx/mtasts"
)

// TestSharing checks which domains share a connection to their common host: those with the same demand (K14, X13).
func TestSharing(t *testing.T) {
	const text = `
		a.example           MX  10 mx.example
		b.example           MX  10 mx.example
		strict.example      MX  10 mx.example
		also.example        MX  10 mx.example
		_mta-sts.strict.example TXT "v=STSv1; id=1;"
		_mta-sts.also.example   TXT "v=STSv1; id=7;"
		mx.example          A   192.0.2.1
	`
	good := theAuthority().issue(t, "mx.example")
	bad := aStranger().issue(t, "mx.example")
	for _, tt := range []struct {
		name  string
		host  *host
		to    string
		conns int
		want  string
	}{
		{"K14 no policy", &host{cert: bad}, "a b a", 1, "ok ok ok"},
		{"K14 the same demand", &host{cert: good}, "strict also strict", 1, "ok ok ok"},
		{"X13 strict behind lax", &host{cert: bad}, "a strict b", 2, "ok 4.7.5 ok"},
		{"X13 strict behind lax, in order", &host{cert: good}, "a strict b also", 2, "ok ok ok ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var cache *mtasts.Cache
			lay(t, text, func(o *Options) {
				var err error
				cache, err = mtasts.New(&mtasts.Options{
					Resolver: o.Resolver, RoundTripper: policies{"strict.example": enforced, "also.example": enforced},
				})
				if err != nil {
					t.Fatal(err)
				}
				o.STS, o.DisableSTS = cache, false
			}, func(t *testing.T, b *bed) {
				defer cache.Close()
				b.add("192.0.2.1", tt.host)
				var got []string
				for _, to := range strings.Fields(tt.to) {
					res, _ := b.Send(t.Context(), message(t, "x@"+to+".example"))
					got = append(got, outcomes(res))
				}
				if got := strings.Join(got, " "); got != tt.want {
					t.Errorf("the outcomes are %s, want %s", got, tt.want)
				}
				if n := len(strings.Fields(b.order())); n != tt.conns {
					t.Errorf("%d connections, want %d", n, tt.conns)
				}
			})
		})
	}
}
