package policy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
)

// TestRecipientFileLetters checks that no letter is taken for another one, and that a byte order mark is none.
func TestRecipientFileLetters(t *testing.T) {
	r := &recipientTest{T: t, path: filepath.Join(t.TempDir(), "recipients")}
	r.write("\ufeffjoe@example.org\njack@example.org\njim@example.org\n\u212aurt@example.org\nÖzil@example.org\n", false)
	var err error
	if r.RecipientFile, err = ReadRecipients(r.path, nil); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"joe@example.org": true, "JACK@example.org": true, "jac\u212a@example.org": false, "j\u0130m@example.org": false,
		"\u212aurt@example.org": true, "kurt@example.org": false, "öZIL@example.org": true, "ozil@example.org": false,
	} {
		r.has(addr, want)
	}
}

// TestIrregularFiles checks that what is no regular file is neither opened nor replaced.
func TestIrregularFiles(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(os.DevNull, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, os.DevNull, link} {
		want := path + " is no regular file"
		if _, err := ReadRecipients(path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if path == os.DevNull {
			continue // its directory is not for us to put a lock into
		}
		g, err := OpenGreylistFile(path, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
		if err == nil {
			g.Close()
		}
		if after, err := os.Lstat(path); err != nil || after.Mode() != before.Mode() {
			t.Errorf("%s was %v, and is %v, %v", path, before.Mode(), after, err)
		}
	}
}

// TestGreylistFileLink checks that the name under which the file is written anew is no way into another file.
func TestGreylistFileLink(t *testing.T) {
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "greylist"), filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path+".new"); err != nil {
		t.Fatal(err)
	}
	g := openGreylist(t, path, nil) // which writes the file
	e := greylistEntry(1)
	mustPut(t, g, "k", e)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("the other file is %q, %v", b, err)
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the file is %v, %v", info, err)
	}
	wantEntry(t, openGreylist(t, path, nil), "k", e)
}

// TestGreylistFileTail checks that a record behind one that is torn never comes back: not at once, and not when the
// next record has just the length of the torn one.
func TestGreylistFileTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greylist")
	g := openGreylist(t, path, nil)
	begin := g.size
	stale, kept := greylistEntry(1), greylistEntry(2)
	mustPut(t, g, "torn", greylistEntry(0))
	end := g.size
	mustPut(t, g, "stale", stale)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[begin] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		g = openGreylist(t, path, nil)
		wantEntry(t, g, "torn", GreylistEntry{})
		wantEntry(t, g, "stale", GreylistEntry{})
		if info, err := os.Stat(path); err != nil || info.Size() != g.size {
			t.Errorf("the file has %d octets, want %d (%v)", info.Size(), g.size, err)
		}
		mustPut(t, g, "kept", kept)
		if g.size < end {
			t.Errorf("%d octets, which does not reach the record behind at %d", g.size, end)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	g = openGreylist(t, path, nil)
	wantEntry(t, g, "stale", GreylistEntry{})
	wantEntry(t, g, "kept", kept)
}

// TestGreylistFileLock checks that a file is opened once at a time, and again when it is closed.
func TestGreylistFileLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greylist")
	g := openGreylist(t, path, nil)
	mustPut(t, g, "k", greylistEntry(1))
	size := g.size
	_, err := OpenGreylistFile(path, nil)
	if err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("the error is %v", err)
	}
	e := greylistEntry(2)
	mustPut(t, g, "l", e)
	if g.size <= size {
		t.Errorf("%d octets", g.size)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	g = openGreylist(t, path, nil)
	wantEntry(t, g, "l", e)
}

// TestGreylistFileIsBounded checks that the file does not grow for ever where it cannot be written anew.
func TestGreylistFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greylist")
	g := openGreylist(t, path, nil)
	g.size = maxGreylistFile - 20
	err := g.Put(t.Context(), "key", greylistEntry(1))
	if err == nil || !strings.Contains(err.Error(), "it is full, and could not be written anew") {
		t.Errorf("the error is %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 100 {
		t.Errorf("the file has %d octets, %v", info.Size(), err)
	}
	if _, err := OpenGreylistFile(path, &GreylistFileOptions{Max: maxGreylistEntries + 1}); err == nil {
		t.Error("no error for more entries than the file has room for")
	}
	longest := appendGreylistRecord(nil, strings.Repeat("k", MaxGreylistKey), greylistEntry(1))
	if n := int64(len(longest)) * 2 * maxGreylistEntries; n > maxGreylistFile {
		t.Errorf("the entries may have %d octets", n)
	}
}

// TestGreylistRecordFormat compares a record with one that is written by hand.
func TestGreylistRecordFormat(t *testing.T) {
	e := GreylistEntry{First: time.UnixMilli(0x0102), Passes: 3, Expires: time.UnixMilli(0x0405)}
	want := []byte("\x01k\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x04\x05")
	got := appendGreylistRecord(nil, "k", e)
	if !bytes.Equal(got[4:], want) || binary.BigEndian.Uint32(got) != crc32c(want) {
		t.Errorf("the record is %x", got)
	}
}

// crc32c is the checksum of RFC 3720 appendix B.4, bit by bit.
func crc32c(b []byte) uint32 {
	sum := ^uint32(0)
	for _, c := range b {
		sum ^= uint32(c)
		for range 8 {
			sum = sum>>1 ^ 0x82f63b78*(sum&1)
		}
	}
	return ^sum
}

// FuzzRecipientFile checks that each address of a file is found, and that a file with anything else is refused, with
// the number of that line.
func FuzzRecipientFile(f *testing.F) {
	for _, text := range []string{
		"joe@example.org\n@example.net", "# c\r\n\r\n \tJoe@Example.ORG \r\n", "\ufeffa@b.example",
		"nobody", "a@b.example\n\x00", "\"a b\"@c.example\n\"\"@c.example", "müller@bücher.example", "@", "\xff@b.example",
		"postmaster", "a@[192.0.2.1]\n@[IPv6:2001:db8::1]", "\u212a@b.example\nk@b.example"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 10_000 {
			return // lines that are too long, and too many of them, have other tests
		}
		known, err := parseRecipients(bytes.NewReader(b), len(b)+1)
		file := &RecipientFile{opt: RecipientFileOptions{Interval: -1}}
		file.known.Store(&known)
		found := 0
		for i, line := range strings.Split(strings.TrimPrefix(string(b), "\ufeff"), "\n") {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			found++
			text, all := line, strings.HasPrefix(line, "@")
			if all {
				text = "anybody" + line
			}
			addr, malformed := proto.ParseAddress(text)
			if all && malformed != nil { // a domain may be longer than what an address has room for
				var d proto.Domain
				d, malformed = proto.ParseDomain(line[1:])
				addr = proto.Address{Local: "anybody", Domain: d}
			}
			switch ok, _ := file.Lookup(context.Background(), addr); {
			case malformed != nil:
				if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("line %d: ", i+1)) {
					t.Fatalf("the error is %v, and line %d is malformed: %q", err, i+1, line)
				}
				return
			case err == nil && !ok:
				t.Fatalf("%q is not found", line)
			}
		}
		if (err == nil) != (found > 0) || len(known) > found {
			t.Errorf("%d recipients of %d lines, and the error is %v", len(known), found, err)
		}
	})
}

// TestHarvestExtremes checks that no options make the middleware panic.
func TestHarvestExtremes(t *testing.T) {
	const most = time.Duration(1<<63 - 1)
	for _, part := range []Harvest{{Free: -1, Delay: most}, {Free: 1<<31 - 1, Delay: 1},
		{Delay: most, MaxDelay: 2 * time.Minute}, {Free: -1, Delay: most, MaxDelay: 1}} {
		synctest.Test(t, func(t *testing.T) {
			p := newWorld(t, nil, nil, part, Recipients{Lookup: lookup}).dial("192.0.2.7")
			begin := time.Now()
			p.ask("EHLO client.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<bob@example.org>", "550")
			if took := time.Since(begin); took > 2*time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestRateDomainsOfATransaction checks that the domains of a transaction are remembered, and only so many.
func TestRateDomainsOfATransaction(t *testing.T) {
	mw := &rate{Rate: Rate{By: ByRecipientDomain, Messages: 1}, messages: newBuckets(1, time.Hour, 1<<20)}
	s := &session[struct{}, rated]{}
	for i := range 3 * maxRatedDomains {
		to := addr(t, fmt.Sprintf("a@d%d.example", i))
		for range 2 {
			err := mw.rcpt(t.Context(), s, to, nil)
			if err != nil && i < maxRatedDomains {
				t.Fatalf("domain %d: %v", i, err)
			}
			if i >= maxRatedDomains {
				break
			}
		}
	}
	if n := len(s.transaction.known.domains); n != maxRatedDomains {
		t.Errorf("%d domains are remembered", n)
	}
}
