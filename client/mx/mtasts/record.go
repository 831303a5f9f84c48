package mtasts

import (
	"errors"
	"strings"
)

// What is wrong with the TXT records at _mta-sts of a domain.
var (
	errNoRecord      = errors.New("smtp: there is no TXT record for it")
	errManyRecords   = errors.New("smtp: it has more than one TXT record v=STSv1, and must have one")
	errInvalidRecord = errors.New("smtp: its TXT record is not v=STSv1 with fields name=value")
	errInvalidID     = errors.New("smtp: its TXT record has no id of 1 to 32 letters and digits")
)

// parseRecords returns the id in the one TXT record that is for MTA-STS (RFC 8461 section 3.1). Others are ignored.
func parseRecords(records []string) (id string, err error) {
	found := 0
	var fields string
	for _, r := range records {
		if rest, ok := strings.CutPrefix(r, "v=STSv1;"); ok {
			found++
			fields = rest
		}
	}
	if found == 0 {
		// The text discards such a record, the syntax permits white space before the semicolon.
		for _, r := range records {
			rest, ok := strings.CutPrefix(r, "v=STSv1")
			if rest, semicolon := strings.CutPrefix(strings.TrimLeft(rest, " \t"), ";"); ok && semicolon {
				found++
				fields = rest
			}
		}
	}
	switch found {
	case 0:
		return "", errNoRecord
	case 1:
		return parseFields(fields)
	}
	return "", errManyRecords
}

// parseFields parses what stands behind the version, and returns the first id.
func parseFields(s string) (id string, err error) {
	fields := strings.Split(s, ";")
	if n := len(fields); n > 1 && strings.Trim(fields[n-1], " \t") == "" {
		fields = fields[:n-1] // a semicolon may end the record
	} else if strings.TrimRight(s, " \t") != s {
		return "", errInvalidRecord // there is white space beside semicolons only
	}
	known := false
	for _, f := range fields {
		name, value, _ := strings.Cut(strings.Trim(f, " \t"), "=")
		if !isName(name) || !isValue(value) {
			return "", errInvalidRecord
		}
		if name == "id" && !known {
			id, known = value, true
		}
	}
	if !isID(id) {
		return "", errInvalidID
	}
	return id, nil
}

func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7F || c == '=' || c == ';' {
			return false
		}
	}
	return s != ""
}

func isID(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 32
}
