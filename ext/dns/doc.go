// Package dns looks up what mail needs in the DNS: mail exchangers, addresses, policies in TXT records, TLSA records.
//
// It lives below both ends, since clients route by it and servers judge by it. Unlike package net it tells two things
// that mail depends on: whether DNSSEC has proved an answer, and for how long the answer may be used.
package dns
