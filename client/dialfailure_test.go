package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A forbidden is an error of DialContext that has a status code.
type forbidden proto.Status

func (e forbidden) Error() string        { return "forbidden" }
func (e forbidden) Status() proto.Status { return proto.Status(e) }

// TestDialStatus checks which status code the recipients get for errors of DialContext.
func TestDialStatus(t *testing.T) {
	wrapped := fmt.Errorf("by policy: %w", forbidden{5, 7, 1})
	for _, tt := range []struct {
		name string
		errs []error // one for each address, or without addresses
		want proto.Status
	}{
		{"none", []error{errRefused}, proto.Status{4, 4, 1}},
		{"final", []error{forbidden{5, 7, 1}}, proto.Status{5, 7, 1}},
		{"wrapped", []error{wrapped}, proto.Status{5, 7, 1}},
		{"temporary", []error{forbidden{4, 7, 0}}, proto.Status{4, 7, 0}},
		{"no failure", []error{forbidden{2, 0, 0}}, proto.Status{4, 4, 1}},
		{"final twice", []error{forbidden{5, 7, 1}, forbidden{5, 4, 6}}, proto.Status{5, 4, 6}},
		{"final and none", []error{forbidden{5, 7, 1}, errRefused}, proto.Status{4, 4, 1}},
		{"none and final", []error{errRefused, forbidden{5, 7, 1}}, proto.Status{4, 4, 1}},
		{"final and temporary", []error{forbidden{5, 7, 1}, forbidden{4, 7, 0}}, proto.Status{4, 7, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := func(opt *Options) {
				t.Helper()
				_, err := Dial(t.Context(), host, opt)
				lost, ok := asType[*LostError](err)
				if !ok || lost.Status() != tt.want || Temporary(err) != (tt.want.Class() == 4) {
					t.Errorf("%v: want %v", err, tt.want)
				}
			}
			next := 0
			dial := func(context.Context, string, string) (net.Conn, error) {
				next++
				return nil, tt.errs[next-1]
			}
			lookup := func(context.Context, string, string) (list []netip.Addr, _ error) {
				for i := range tt.errs {
					list = append(list, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
				}
				return list, nil
			}
			check(&Options{DialContext: dial, LookupNetIP: lookup})
			if next = 0; len(tt.errs) == 1 {
				check(&Options{DialContext: dial})
			}
		})
	}
}

// TestNoAddress has look-ups that lead to nothing.
func TestNoAddress(t *testing.T) {
	n := &hostNet{t: t, found: []netip.Addr{}}
	if _, err := n.client(t.Context(), nil); !Temporary(err) || err.Error() !=
		"smtp: connecting to mail.example:25: the host has no address" {
		t.Error(err)
	}
	cfg := n.config(nil)
	unknown := &net.DNSError{Err: "no such host", Name: "mail.example", IsNotFound: true}
	cfg.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, unknown }
	_, absent, err := cfg.submit(t.Context(), "mail.example", "465", ext.TLSImplicit)
	if absent || !errors.Is(err, unknown) {
		t.Errorf("%v, %v", absent, err)
	}
}

// TestLocalAddr: addresses of the other family are not looked up, and not dialled.
