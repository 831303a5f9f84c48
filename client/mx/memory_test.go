package mx

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// twoFamilies is a domain with one host that has two addresses of each family.
const twoFamilies = `
	d.example  MX   10 mx.example
	mx.example A    192.0.2.1
	mx.example A    192.0.2.2
	mx.example AAAA 2001:db8::1
	mx.example AAAA 2001:db8::2
`

// TestOrder checks in what order addresses are tried after what has happened at them.
func TestOrder(t *testing.T) {
	list := addrs("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2")
	refuse := func(code int, status proto.Status, text string) error { return proto.Refuse(code, status, text) }
	for _, tt := range []struct {
		name string
		do   func(*memory)
		want string
	}{
		{"nothing", func(*memory) {}, "6a 4a 6b 4b"},
		{"a dead address", func(m *memory) { m.dialled("h", list[0], false) }, "4a 6b 4b 6a"},
		{"one that came back", func(m *memory) {
			m.dialled("h", list[0], false)
			m.dialled("h", list[0], true)
		}, "6a 4a 6b 4b"},
		{"greylisted", func(m *memory) { m.answered("h", list[3], refuse(451, proto.Status{4, 7, 1}, "wait")) }, "4b 6a 4a 6b"},
		{"accepted then", func(m *memory) {
			m.answered("h", list[3], refuse(451, proto.Status{4, 7, 1}, "wait"))
			m.answered("h", list[3], nil)
		}, "6a 4a 6b 4b"},
		{"421 is no greylisting", func(m *memory) { m.answered("h", list[3], refuse(421, proto.Status{}, "busy")) },
			"6a 4a 6b 4b"},
		{"no name in the DNS", func(m *memory) { m.answered("h", list[0], refuse(550, proto.Status{5, 7, 25}, "no")) },
			"4a 4b 6a 6b"},
		{"no PTR record", func(m *memory) {
			m.answered("h", list[0], refuse(550, proto.Status{5, 7, 1}, "guidelines regarding PTR records"))
		}, "4a 4b 6a 6b"},
		{"another refusal", func(m *memory) { m.answered("h", list[0], refuse(550, proto.Status{5, 7, 1}, "spam")) },
			"6a 4a 6b 4b"},
		{"no reply", func(m *memory) { m.answered("h", list[0], &client.LostError{}) }, "6a 4a 6b 4b"},
		{"of another host", func(m *memory) { m.dialled("i", list[0], false) }, "6a 4a 6b 4b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m memory
			tt.do(&m)
			got := ""
			for _, a := range m.order("h", list, 10) {
				got += map[netip.Addr]string{list[0]: " 6a", list[1]: " 4a", list[2]: " 6b", list[3]: " 4b"}[a]
			}
			if got[1:] != tt.want {
				t.Errorf("the order is%s, want %s", got, tt.want)
			}
		})
	}
}

// TestMemoryIsBounded fills the memory with hosts, and a host with addresses.
func TestMemoryIsBounded(t *testing.T) {
	var m memory
	for i := range 3 * maxSites {
		m.dialled(fmt.Sprint("h", i), addrs("192.0.2.1")[0], false)
	}
	if len(m.sites) != maxSites || m.used.Len() != maxSites {
		t.Errorf("%d hosts are remembered", len(m.sites))
	}
	a := addrs("192.0.2.0")[0]
	for range 200 {
		m.dialled("h", a, false)
		a = a.Next()
	}
	m.site("h", func(s *site) {
		if len(s.dead) != maxDead {
			t.Errorf("%d addresses are remembered", len(s.dead))
		}
	})
}

// TestGreylisting checks that the next attempt is made at the address that has said 4yz.
func TestGreylisting(t *testing.T) {
	text := "d.example MX 10 a.example\nd.example MX 10 b.example\nd.example MX 10 c.example\n" +
		"a.example A 192.0.2.1\nb.example A 192.0.2.2\nc.example A 192.0.2.3\n"
	for range 5 { // the order of the hosts is random
		lay(t, text, func(o *Options) { o.MaxSessions = 1 }, func(t *testing.T, b *bed) {
			for i := range 3 {
				first := true
				b.add(fmt.Sprintf("192.0.2.%d", i+1), &host{rcpt: func(string) string {
					if first {
						first = false
						return "450 4.7.1 greylisted, come back"
					}
					return ""
				}})
			}
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); !client.Temporary(err) {
				t.Fatal(err)
			}
			<-time.After(5 * time.Minute) // no time in the bubble; the connection is gone by then
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
				t.Error(err)
			}
			if at := strings.Fields(b.order()); len(at) != 2 || at[0] != at[1] {
				t.Errorf("dialled %v", at)
			}
		})
	}
}

// TestRefusedFamily checks that mail which is refused because this host's IPv6 address has no name goes by IPv4, at
// once and for a day.
func TestRefusedFamily(t *testing.T) {
	lay(t, twoFamilies, nil, func(t *testing.T, b *bed) {
		refuses := &host{data: "550 5.7.25 the address has no PTR record"}
		b.add("2001:db8::1", refuses)
		b.add("2001:db8::2", refuses)
		four := b.add("192.0.2.1", &host{})
		for i := range 3 {
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
				t.Errorf("message %d: %v", i, err)
			}
			<-time.After(time.Hour)
		}
		if got, want := b.order(), "2001:db8::1 192.0.2.1 192.0.2.1 192.0.2.1"; got != want {
			t.Errorf("dialled %s, want %s", got, want)
		}
		<-time.After(24 * time.Hour)
		if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
			t.Error(err)
		}
		if got, want := b.order(), "2001:db8::1 192.0.2.1"; got != want {
			t.Errorf("a day later: dialled %s, want %s", got, want)
		}
		if n := len(four.letters()); n != 4 {
			t.Errorf("%d messages arrived", n)
		}
	})
}

// TestRefusedBothFamilies checks that the refusal counts if no family is welcome.
func TestRefusedBothFamilies(t *testing.T) {
	lay(t, twoFamilies, nil, func(t *testing.T, b *bed) {
		for _, a := range []string{"2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"} {
			b.add(a, &host{data: "550 5.7.25 the address has no PTR record"})
		}
		for range 2 {
			res, err := b.Send(t.Context(), message(t, "a@d.example"))
			if outcomes(res) != "550" || client.Temporary(err) {
				t.Error(err)
			}
			<-time.After(time.Hour)
		}
		if got, want := b.order(), "2001:db8::1 192.0.2.1 2001:db8::1"; got != want {
			t.Errorf("dialled %s, want %s", got, want)
		}
	})
}

// TestGreylistedRecipient checks that one recipient of several is enough to come back to an address.
func TestGreylistedRecipient(t *testing.T) {
	for _, to := range [][]string{{"a@d.example", "b@d.example"}, {"b@d.example", "a@d.example"}} {
		lay(t, "d.example A 192.0.2.1\nd.example A 192.0.2.2\n", nil, func(t *testing.T, b *bed) {
			refuses := func(to string) string {
				if to == "b@d.example" {
					return "450 4.7.1 greylisted"
				}
				return ""
			}
			b.add("192.0.2.1", &host{refuses: true})
			b.add("192.0.2.2", &host{rcpt: refuses})
			b.Send(t.Context(), message(t, to...))
			b.order()
			<-time.After(20 * time.Minute) // the first address is no longer taken for dead
			b.Send(t.Context(), message(t, "b@d.example"))
			if got := b.order(); got != "192.0.2.2" {
				t.Errorf("dialled %s", got)
			}
		})
	}
}
