package servertest

import (
	"context"
	"errors"
	"io"
	"maps"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/server"
)

// TestUntested looks at which rules are skipped, and why.
func TestUntested(t *testing.T) {
	reads := server.MessageFunc(func(_ context.Context, m *server.Message) error {
		_, err := io.Copy(io.Discard, m.Body)
		return err
	})
	noKept := map[rule]string{}
	for _, r := range []rule{ruleKept, ruleOnce, ruleOctets, ruleAnew, ruleApart} {
		noKept[r] = "not tested: BackendOptions has no Kept"
	}
	with := func(more map[rule]string) map[rule]string {
		all := maps.Clone(noKept)
		maps.Copy(all, more)
		return all
	}
	early := map[rule]string{}
	for _, r := range rules[1:] {
		early[r.name] = "not tested: the backend does not take what it should; see the rule takes"
	}
	st := &store{}
	users, err := backendOf(&Options{Users: map[string]string{"alice": "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		backend server.Backend
		opt     BackendOptions
		want    map[rule]string
	}{
		{"all but a password", st, BackendOptions{Kept: st.all, Unknown: "unknown@example.net"}, map[rule]string{
			ruleAuth: "not tested: BackendOptions has no User"}},
		{"nothing", reads, BackendOptions{}, with(map[rule]string{
			ruleAuth:     "not tested: BackendOptions has no User",
			ruleRefused:  "not tested: BackendOptions has no Unknown",
			ruleOutcomes: "not tested: no session has DataEach"})},
		{"without TLS, with a user", users, BackendOptions{
			User: "alice", Password: "secret",
			Server: server.Options{Extensions: []ext.Extension{auth.Auth()}}}, with(map[rule]string{
			ruleNull:     "not tested: BackendOptions has a User, and nobody submits bounces",
			ruleRefused:  "not tested: BackendOptions has no Unknown",
			ruleOutcomes: "not tested: no session has DataEach",
			ruleRenewed:  "not tested: the server offers no STARTTLS"})},
		{"a backend that takes nothing", server.MessageFunc(func(context.Context, *server.Message) error {
			return errors.New("no")
		}), BackendOptions{}, early},
	} {
		x, err := newExam(tt.backend, &tt.opt)
		if err != nil {
			t.Fatal(err)
		}
		x.stride = 50
		x.run()
		got := map[rule]string{}
		for _, r := range rules {
			report := &notes{}
			x.report(report, r)
			if report.skip != "" {
				got[r.name] = report.skip
			}
			if broken := report.text.String(); broken != "" && (len(tt.want) != len(early) || r.name != ruleTakes) {
				t.Errorf("%s: %s", tt.name, broken)
			}
		}
		if !maps.Equal(got, tt.want) {
			t.Errorf("%s: skipped are %q, want %q", tt.name, got, tt.want)
		}
	}
}
