package mtasts

import (
	"regexp"
	"strings"
	"testing"
)

func TestX01_Records(t *testing.T) {
	tests := []struct {
		name, records string // separated by |
		id            string
		err           error
	}{
		{"X01 the example of the RFC", "v=STSv1; id=20160831085700Z;", "20160831085700Z", nil},
		{"X01 no semicolon at the end", "v=STSv1; id=1", "1", nil},
		{"X01 no white space", "v=STSv1;id=1;", "1", nil},
		{"X01 white space around semicolons", "v=STSv1;\t id=1 \t; x=y ; ", "1", nil},
		{"X01 white space before the first semicolon", "v=STSv1 ; id=1", "1", nil},
		{"X01 a record with it does not count beside one without", "v=STSv1; id=1|v=STSv1 ; id=2", "1", nil},
		{"X01 an id of 32", "v=STSv1; id=" + strings.Repeat("a", 32), strings.Repeat("a", 32), nil},
		{"X01 other fields", "v=STSv1; a.b-c_d=!:<>~; id=1; e=f", "1", nil},
		{"X01 the first id counts", "v=STSv1; id=1; id=2; id=!", "1", nil},
		{"X01 other records are ignored", "v=spf1 -all|v=STSv1; id=1|v=STSv2; id=2|google-site-verification=x|", "1", nil},

		{"X01 no record", "", "", errNoRecord},
		{"X01 other records only", "v=spf1 -all|v=TLSRPTv1; rua=mailto:a@b.example", "", errNoRecord},
		{"X01 the version in another case", "v=stsv1; id=1|V=STSv1; id=1", "", errNoRecord},
		{"X01 the version not in front", " v=STSv1; id=1|id=1; v=STSv1;", "", errNoRecord},
		{"X01 white space in the version", "v= STSv1; id=1|v =STSv1; id=1", "", errNoRecord},
		{"X01 a longer version", "v=STSv10; id=1", "", errNoRecord},
		{"X01 two records", "v=STSv1; id=1|v=STSv1; id=1", "", errManyRecords},
		{"X01 two records, one of them broken", "v=STSv1; id=1|v=STSv1; x", "", errManyRecords},
		{"X01 two records with white space", "v=STSv1 ; id=1|v=STSv1 ; id=2", "", errManyRecords},
		{"X01 the version alone", "v=STSv1", "", errNoRecord},
		{"X01 no fields", "v=STSv1;", "", errInvalidRecord},
		{"X01 no id", "v=STSv1; x=y", "", errInvalidID},
		{"X01 an empty id", "v=STSv1; id=", "", errInvalidRecord},
		{"X01 an id of 33", "v=STSv1; id=" + strings.Repeat("a", 33), "", errInvalidID},
		{"X01 an id with a hyphen", "v=STSv1; id=2026-11-28", "", errInvalidID},
		{"X01 an id in other letters", "v=STSv1; id=é", "", errInvalidRecord},
		{"X01 the name of id in another case", "v=STSv1; ID=1", "", errInvalidID},
		{"X01 an empty field", "v=STSv1;; id=1", "", errInvalidRecord},
		{"X01 two semicolons at the end", "v=STSv1; id=1;;", "", errInvalidRecord},
		{"X01 a field without a value", "v=STSv1; id=1; x", "", errInvalidRecord},
		{"X01 white space at the end", "v=STSv1; id=1 ", "", errInvalidRecord},
		{"X01 white space in a field", "v=STSv1; id =1", "", errInvalidRecord},
		{"X01 an equals sign in a value", "v=STSv1; id=1; x=y=z", "", errInvalidRecord},
		{"X01 a control character", "v=STSv1; id=1; x=\x7f", "", errInvalidRecord},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id, err := parseRecords(strings.Split(test.records, "|"))
			if id != test.id || err != test.err {
				t.Errorf("%q, %v; want %q, %v", id, err, test.id, test.err)
			}
		})
	}
}

// record is sts-text-record of RFC 8461 section 3.1 as a regular expression.
var record = regexp.MustCompile(`^v=STSv1([ \t]*;[ \t]*[A-Za-z0-9][A-Za-z0-9_.-]{0,31}=[!-:<>-~]+)+([ \t]*;[ \t]*)?$`)

// The id is the first field of that name, and has to be a sts-id.
var recordID = regexp.MustCompile(`^[^;]*;(?:[ \t]*[^;]*;)*?[ \t]*id=([A-Za-z0-9]{1,32})[ \t]*(?:;|$)`)

// FuzzRecord compares parseRecords with the ABNF of the RFC.
func FuzzRecord(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Add("v=STSv1 ;id=1 ; x=y; id=!;")
	f.Add("v=STSv1;;id=1")
	f.Add("v=STSv1 ;id=1 ")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseRecords([]string{s})
		if strings.Count(strings.ReplaceAll(s, "\t", " "), "id=") > 1 {
			return // recordID does not tell the first of several
		}
		var want string
		if m := recordID.FindStringSubmatch(s); record.MatchString(s) && m != nil {
			want = m[1]
		}
		if id != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", s, id, err, want)
		}
	})
}
