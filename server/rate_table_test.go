package server

import (
	"net/netip"
	"testing"
)

// TestRatesWithoutNetwork: a client that is not connected over IP has no limits.
func TestRatesWithoutNetwork(t *testing.T) {
	r := newRates(&Limits{ConnsPerMinute: 1, MessagesPerMinute: 1, AuthFailuresPerHour: 1})
	for range 3 {
		for k := range rateKinds {
			if none := (netip.Prefix{}); !r.take(k, none) || !r.charge(k, none) || !r.has(k, none) {
				t.Errorf("a client without a network has the limit %d", k)
			}
		}
	}
	known := netip.MustParsePrefix("192.0.2.1/32")
	for k := range rateKinds {
		if !r.has(k, known) || !r.take(k, known) || r.has(k, known) || r.take(k, known) {
			t.Errorf("a network has not one token of the kind %d", k)
		}
	}
}
