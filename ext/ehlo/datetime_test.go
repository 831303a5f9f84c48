package ehlo

import (
	"testing"
	"time"
)

// TestParseDateTime checks the examples of RFC 3339 section 5.8, and what the grammar and section 5.7 forbid.
func TestParseDateTime(t *testing.T) {
	for s, want := range map[string]string{
		"1985-04-12T23:20:50.52Z":         "1985-04-12T23:20:50.52Z",
		"1996-12-19T16:39:57-08:00":       "1996-12-20T00:39:57Z",
		"1990-12-31T23:59:60Z":            "1991-01-01T00:00:00Z",
		"1990-12-31T15:59:60-08:00":       "1991-01-01T00:00:00Z",
		"1937-01-01T12:00:27.87+00:20":    "1937-01-01T11:40:27.87Z",
		"2024-02-29t00:00:00z":            "2024-02-29T00:00:00Z",
		"2024-01-01T00:00:00-00:00":       "2024-01-01T00:00:00Z",
		"2024-01-01T00:00:00.1234567891Z": "2024-01-01T00:00:00.123456789Z",
		"0000-01-01T00:00:00Z":            "0000-01-01T00:00:00Z",

		"2023-02-29T00:00:00Z": "", "2023-13-01T00:00:00Z": "", "2023-00-01T00:00:00Z": "", "2023-01-00T00:00:00Z": "",
		"2023-04-31T00:00:00Z": "", "2023-01-01T24:00:00Z": "", "2023-01-01T00:60:00Z": "", "2023-01-01T00:00:61Z": "",
		"2023-01-01T12:00:60Z": "", "2023-01-01T00:00:00": "", "2023-01-01T00:00:00+24:00": "", "2023-01-01T00:00:00+00:60": "",
		"2023-01-01T00:00:00+0000": "", "2023-01-01T00:00:00.Z": "", "2023-01-01T00:00:00,5Z": "", "2023-01-01 00:00:00Z": "",
		"+023-01-01T00:00:00Z": "", "2023-1-01T00:00:00Z": "", "2023-01-01T00:00Z": "", "": "", "Z": "", "2023-01-01T00:00:00ZZ": "",
		"２023-01-01T00:00:00Z": "",
	} {
		got, ok := parseDateTime(s, true)
		if !ok {
			if want != "" {
				t.Errorf("%s is refused", s)
			}
			continue
		}
		if text := got.UTC().Format(time.RFC3339Nano); text != want {
			t.Errorf("%s is %s, want %q", s, text, want)
		}
	}
	if _, ok := parseDateTime("1985-04-12T23:20:50.52Z", false); ok {
		t.Error("a fraction is accepted where there must be none")
	}
}

func FuzzDateTime(f *testing.F) {
	for _, s := range []string{"1990-12-31T23:59:60Z", "1996-12-19T16:39:57-08:00", "1985-04-12T23:20:50.52Z", "9999-12-31T23:59:59Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseDateTime(s, true)
		want, err := time.Parse(time.RFC3339, s) // is laxer, but for leap seconds and letters in lower case
		if ok && err == nil && !got.Equal(want) {
			t.Fatalf("%q is %v, and for package time %v", s, got, want)
		}
		if !ok {
			return
		}
		if year := got.UTC().Year(); year < 0 || year > 9999 {
			return // has no date-time of UTC
		}
		if again, ok := parseDateTime(formatDateTime(got), false); !ok || !again.Equal(got.Truncate(time.Second)) {
			t.Fatalf("%q is written as %q and read as %v", s, formatDateTime(got), again)
		}
	})
}
