package ehlo

import (
	"strconv"
	"time"

	"smtpkit.example/smtp/ext/internal/grammar"
)

// parseDateTime reads a date-time of RFC 3339 section 5.6. With fraction it permits a time-secfrac, and drops its
// digits below a nanosecond. It returns a leap second as the second after it.
func parseDateTime(s string, fraction bool) (time.Time, bool) {
	const layout = "dddd-dd-ddtdd:dd:dd"
	if len(s) < len(layout)+1 || !matchesLayout(s[:len(layout)], layout) {
		return time.Time{}, false
	}
	number := func(i, j int) int {
		n, _ := strconv.Atoi(s[i:j]) // digits, because s matches the layout
		return n
	}
	year, month, day := number(0, 4), number(5, 7), number(8, 10)
	hour, minute, second := number(11, 13), number(14, 16), number(17, 19)
	nano, rest, ok := parseSecFrac(s[len(layout):], fraction)
	if !ok || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	if time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC).Day() != day {
		return time.Time{}, false
	}
	zone, ok := parseOffset(rest)
	if !ok {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nano, zone)
	if utc := t.UTC(); second == 60 && (utc.Hour() != 0 || utc.Minute() != 0) {
		return time.Time{}, false // RFC 3339 section 5.7: a leap second ends a day of UTC
	}
	return t, true
}

// matchesLayout reports whether s has the form of layout. In layout a d stands for a digit, and a t for a T in any
// case.
func matchesLayout(s, layout string) bool {
	if len(s) != len(layout) {
		return false
	}
	for i := range len(layout) {
		switch c := s[i]; {
		case layout[i] == 'd' && ('0' > c || c > '9'):
			return false
		case layout[i] == 't' && grammar.Upper(c) != 'T':
			return false
		case layout[i] != 'd' && layout[i] != 't' && layout[i] != c:
			return false
		}
	}
	return true
}

// parseSecFrac reads the time-secfrac at the beginning of s, if there is one, and returns what follows.
func parseSecFrac(s string, allowed bool) (nano int, rest string, ok bool) {
	if s == "" || s[0] != '.' {
		return 0, s, true
	}
	i, unit := 1, int(time.Second)
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		unit /= 10
		nano += int(s[i]-'0') * unit
	}
	return nano, s[i:], allowed && i > 1
}

// parseOffset reads a time-offset: Z, or the difference from UTC.
func parseOffset(s string) (*time.Location, bool) {
	if grammar.EqualFold(s, "Z") {
		return time.UTC, true
	}
	if !matchesLayout(s, "+dd:dd") && !matchesLayout(s, "-dd:dd") {
		return nil, false
	}
	hours, _ := strconv.Atoi(s[1:3])
	minutes, _ := strconv.Atoi(s[4:6])
	if hours > 23 || minutes > 59 {
		return nil, false
	}
	seconds := hours*3600 + minutes*60
	if s[0] == '-' {
		seconds = -seconds
	}
	return time.FixedZone("", seconds), true
}

// formatDateTime writes t as a date-time of UTC without a fraction.
func formatDateTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// maxSeconds is the largest number of nine digits, which several extensions set as the limit for a time.
const maxSeconds = 999_999_999

// parseSeconds reads 1*9DIGIT.
func parseSeconds(s string) (time.Duration, bool) {
	if len(s) < 1 || len(s) > 9 {
		return 0, false
	}
	n := time.Duration(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + time.Duration(s[i]-'0')
	}
	return n * time.Second, true
}

// seconds returns d in whole seconds, rounded toward zero.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// formatSeconds writes d as parseSeconds reads it. It also writes times that parseSeconds rejects, and leaves it to
// Check to find them.
func formatSeconds(d time.Duration) string { return strconv.FormatInt(seconds(d), 10) }
