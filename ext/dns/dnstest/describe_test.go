package dnstest_test

import (
	"encoding/hex"
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext/dns"
)

// describe writes an answer in one line.
func describe(a *dns.Answer) string {
	words := []string{a.Name}
	if a.NoName {
		words = append(words, "NXDOMAIN")
	}
	if a.Authentic {
		words = append(words, "secure")
	}
	words = append(words, a.TTL.String())
	for _, addr := range a.Addrs {
		words = append(words, addr.String())
	}
	for i, mx := range a.MX {
		words = append(words, fmt.Sprintf("%s%d %s", []string{"MX ", ""}[min(i, 1)], mx.Preference, mx.Host))
		if i < len(a.MX)-1 {
			words[len(words)-1] += ","
		}
	}
	for _, text := range a.TXT {
		words = append(words, fmt.Sprintf("%q", text))
	}
	for _, r := range a.TLSA {
		words = append(words, fmt.Sprintf("TLSA %d %d %d %s", r.Usage, r.Selector, r.Matching, hex.EncodeToString(r.Data)))
	}
	if len(a.Names) > 0 {
		words = append(words, "names")
	}
	return strings.Join(append(words, a.Names...), " ")
}
