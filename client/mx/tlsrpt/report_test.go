package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// appendixB is the report of RFC 8460 appendix B. A line break within a string there is left out here.
const appendixB = `{
  "organization-name": "Company-X",
  "date-range": {
    "start-datetime": "2016-04-01T00:00:00Z",
    "end-datetime": "2016-04-01T23:59:59Z"
  },
  "contact-info": "sts-reporting@company-x.example",
  "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
  "policies": [{
    "policy": {
      "policy-type": "sts",
      "policy-string": ["version: STSv1","mode: testing",
            "mx: *.mail.company-y.example","max_age: 86400"],
      "policy-domain": "company-y.example",
      "mx-host": "*.mail.company-y.example"
    },
    "summary": {
      "total-successful-session-count": 5326,
      "total-failure-session-count": 303
    },
    "failure-details": [{
      "result-type": "certificate-expired",
      "sending-mta-ip": "2001:db8:abcd:0012::1",
      "receiving-mx-hostname": "mx1.mail.company-y.example",
      "failed-session-count": 100
    }, {
      "result-type": "starttls-not-supported",
      "sending-mta-ip": "2001:db8:abcd:0013::1",
      "receiving-mx-hostname": "mx2.mail.company-y.example",
      "receiving-ip": "203.0.113.56",
      "failed-session-count": 200,
      "additional-information": "https://reports.company-x.example/report_info?id=5065427c-23d3#StarttlsNotSupported"
    }, {
      "result-type": "validation-failure",
      "sending-mta-ip": "198.51.100.62",
      "receiving-ip": "203.0.113.58",
      "receiving-mx-hostname": "mx-backup.mail.company-y.example",
      "failed-session-count": 3,
      "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"
    }]
  }]
}`

// stsPolicy is the policy in appendixB.
var stsPolicy = Policy{
	Type:    TypeSTS,
	Strings: []string{"version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"},
	MXHosts: []string{"*.mail.company-y.example"},
}

// recordAppendixB records what happened at a time, of which appendixB is the report.
func recordAppendixB(c *Collector, at time.Time) {
	times := func(n int, e Event) {
		e.Time, e.Domain, e.Policy = at, "company-y.example", stsPolicy
		for range n {
			c.Record(e)
		}
	}
	times(5326, Event{})
	times(100, Event{Result: CertificateExpired, SendingIP: ip("2001:db8:abcd:12::1"),
		MXHost: "mx1.mail.company-y.example"})
	times(200, Event{Result: StartTLSNotSupported, SendingIP: ip("2001:db8:abcd:13::1"),
		MXHost: "mx2.mail.company-y.example", ReceivingIP: ip("::ffff:203.0.113.56"),
		Info: "https://reports.company-x.example/report_info?id=5065427c-23d3#StarttlsNotSupported"})
	times(3, Event{Result: ValidationFailure, SendingIP: ip("198.51.100.62"), ReceivingIP: ip("203.0.113.58"),
		MXHost: "MX-Backup.mail.company-y.example.", Code: "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"})
}

// TestX26X27_AppendixB counts what the example of the RFC is about, and compares the JSON with that, both read
// without our types.
func TestX26X27_AppendixB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collector(t, nil)
		recordAppendixB(c, time.Now())
		reports := c.Reports(time.Now())
		if len(reports) != 1 || reports[0].Domain != "company-y.example" {
			t.Fatalf("%d reports", len(reports))
		}
		if again := c.Reports(time.Now()); again[0].ID != reports[0].ID {
			t.Errorf("the same report has the IDs %s and %s", reports[0].ID, again[0].ID)
		}
		compressed, err := reports[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		got := anyJSON(t, decompress(t, compressed)).(map[string]any)
		want := anyJSON(t, []byte(appendixB)).(map[string]any)

		id, _ := got["report-id"].(string)
		if !strings.HasSuffix(id, "@company-x.example") {
			t.Errorf("the ID is %q", id)
		}
		want["report-id"] = id
		// The bubble begins in 2000.
		want["date-range"] = map[string]any{
			"start-datetime": "2000-01-01T00:00:00Z", "end-datetime": "2000-01-01T23:59:59Z",
		}
		p := want["policies"].([]any)[0].(map[string]any)
		// Section 4.4 has a list here, and the example a string. The list is in order of numbers, and IPv6 as in RFC 5952.
		policy := p["policy"].(map[string]any)
		policy["mx-host"] = []any{policy["mx-host"]}
		d := p["failure-details"].([]any)
		d[0], d[1] = d[1], d[0]
		d[0].(map[string]any)["sending-mta-ip"] = "2001:db8:abcd:13::1"
		d[1].(map[string]any)["sending-mta-ip"] = "2001:db8:abcd:12::1"
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%v, want\n%v", got, want)
		}
	})
}

// TestReadReport reads the example of the RFC, in all the ways in which it may come.
func TestReadReport(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, appendixB)
	z.Close()
	for name, text := range map[string]string{
		"X29 plain": appendixB, "X29 compressed": zipped.String(),
		"a list of patterns": strings.Replace(appendixB, `"*.mail.company-y.example"
    }`, `["*.mail.company-y.example"]}`, 1),
		"unknown fields": strings.Replace(appendixB, "{", `{"x": [1, {"y": null}],`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ReadReport(iotest.OneByteReader(strings.NewReader(text)))
			if err != nil {
				t.Fatal(err)
			}
			if r.Organization != "Company-X" || r.Contact != "sts-reporting@company-x.example" ||
				r.ID != "5065427c-23d3-47ca-b6e0-946ea0e8c4be" || len(r.Policies) != 1 ||
				!r.DateRange.End.Equal(noon("2016-04-01").Add(12*time.Hour-time.Second)) {
				t.Errorf("%+v", r)
			}
			p := r.Policies[0]
			if !reflect.DeepEqual(p.Policy, ReportedPolicy{Type: "sts", Strings: stsPolicy.Strings,
				Domain: "company-y.example", MXHosts: stsPolicy.MXHosts}) {
				t.Errorf("%+v", p.Policy)
			}
			if p.Summary != (Summary{5326, 303}) || len(p.Failures) != 3 || p.Failures[2] != (Failure{
				Result: "validation-failure", SendingIP: "198.51.100.62", ReceivingIP: "203.0.113.58",
				MXHost: "mx-backup.mail.company-y.example", Sessions: 3, Code: "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
			}) {
				t.Errorf("%+v", p)
			}
		})
	}
	for _, text := range []string{"", "{", "[]", `{"policies":[{"policy":{"mx-host":5}}]}`, "\x1f\x8bx",
		zipped.String()[:zipped.Len()/2], appendixB + appendixB} {
		var e *ReportError
		if _, err := ReadReport(strings.NewReader(text)); !errors.As(err, &e) {
			t.Errorf("%.20q: %v, want a ReportError", text, err)
		}
	}
}

// TestReadReportBounds sends a report that is small as it comes, and large in memory.
func TestReadReportBounds(t *testing.T) {
	bomb := func(begin, each string, n int) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, begin)
		block := strings.Repeat(each, 1<<10)
		for range n >> 10 {
			io.WriteString(z, block)
		}
		z.Close()
		return b.String()
	}
	for name, tt := range map[string]struct {
		text string
		err  error
	}{
		"spaces":        {bomb("", " ", 26<<20), errLarge},
		"plain":         {strings.Repeat(" ", 26<<20), errLarge},
		"policies":      {bomb(`{"policies":[{}`, ",{}", 1<<20), errMany},
		"lists":         {bomb(`{"policies":`, "[", 1<<20), errMany},
		"quoted commas": {`{"organization-name":"` + strings.Repeat(`,\"[{`, 400000) + `"}`, nil},
		"behind quotes": {bomb(`{"organization-name":"\\","policies":[{}`, ",{}", 1<<20), errMany},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadReport(strings.NewReader(tt.text)); !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
		})
	}
}

func FuzzReadReport(f *testing.F) {
	f.Add([]byte(appendixB))
	f.Add([]byte(`{"policies":[{"policy":{"policy-string":"x","mx-host":["a","b"]}},null]}`))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xaa\xae\x05\x04\x00\x00" +
		"\xff\xff\x43\xbf\xa6\xa3\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ReadReport(bytes.NewReader(text))
		if err != nil {
			return
		}
		b, err := r.Compressed()
		if err != nil {
			if y := r.DateRange.Start.Year(); y >= 0 && y <= 9999 {
				t.Fatal(err)
			}
			return
		}
		again, err := ReadReport(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		x, _ := json.Marshal(r)
		y, _ := json.Marshal(again)
		if !bytes.Equal(x, y) {
			t.Errorf("%s is read as %s", x, y)
		}
	})
}
