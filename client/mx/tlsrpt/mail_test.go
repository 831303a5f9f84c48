package tlsrpt

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

// TestX23X28X30_Mail sends a report by mail, and reads it with the standard library.
func TestX23X28X30_Mail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{}
		c := collector(t, func(o *Options) {
			sends(v, `_smtp._tls.company-y.example. TXT "v=TLSRPTv1;rua=mailto:tls%2Breports@B%C3%BCcher.example?subject=x"`)(o)
			o.From = "noreply@mail.company-x.example"
		})
		running(t, c)
		recordAppendixB(c, time.Now())
		synctestUntil(midnight.Add(5 * time.Hour))
		if len(v.mails) != 1 {
			t.Fatalf("%d mails", len(v.mails))
		}
		text := v.mails[0]
		for i, line := range strings.Split(text, "\r\n") {
			if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
				t.Errorf("line %d: %q", i+1, line)
			}
		}
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"From": "noreply@mail.company-x.example", "To": "tls+reports@xn--bcher-kva.example",
			"TLS-Report-Domain": "company-y.example", "TLS-Report-Submitter": "company-x.example",
			"TLS-Required": "No", "Auto-Submitted": "auto-generated", "MIME-Version": "1.0",
		} {
			if got := m.Header[canonical(name)]; !reflect.DeepEqual(got, []string{want}) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if d, err := m.Header.Date(); err != nil || d.Before(midnight) || d.After(time.Now()) {
			t.Errorf("Date: %v, %v", d, err)
		}
		subject := regexp.MustCompile(`^Report Domain: company-y\.example Submitter: company-x\.example ` +
			`Report-ID: (<[^<>@ ]+@[^<>@ ]+>)$`)
		parts := subject.FindStringSubmatch(m.Header.Get("Subject"))
		if parts == nil || parts[1] != m.Header.Get("Message-ID") {
			t.Fatalf("Subject: %q, Message-ID: %q", m.Header.Get("Subject"), m.Header.Get("Message-ID"))
		}
		r := readMail(t, m)
		if "<"+r.ID+">" != parts[1] || r.Policies[0].Summary != (Summary{5326, 303}) || len(r.Policies[0].Failures) != 3 {
			t.Errorf("%+v", r)
		}
		if !IsReport(v.contexts[0]) || IsReport(context.Background()) {
			t.Error("the context does not tell that this is a report")
		}
	})
}

func canonical(name string) string {
	h := mail.Header{}
	for k := range map[string]bool{name: true} {
		h[k] = nil
	}
	m, _ := mail.ReadMessage(strings.NewReader(name + ": x\r\n\r\n"))
	for k := range m.Header {
		return k
	}
	return name
}

// readMail takes the report out of a mail.
func readMail(t *testing.T, m *mail.Message) *Report {
	t.Helper()
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Fatalf("%s %v, %v", kind, params, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	first, err := parts.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(first)
	if err != nil || !strings.HasPrefix(first.Header.Get("Content-Type"), "text/plain") ||
		!strings.Contains(string(text), "Succeeded: 5326\r\nFailed:    303") {
		t.Errorf("%v: %q, %v", first.Header, text, err)
	}
	second, err := parts.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^company-x\.example!company-y\.example!946684800!946771199![0-9a-f]{16}\.json\.gz$`)
	if second.Header.Get("Content-Type") != "application/tlsrpt+gzip" ||
		second.Header.Get("Content-Transfer-Encoding") != "base64" || !name.MatchString(second.FileName()) {
		t.Errorf("%v, %q", second.Header, second.FileName())
	}
	content, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("behind the report: %v", err)
	}
	report := anyJSON(t, decompress(t, content)).(map[string]any)
	if report["organization-name"] != "Company-X" {
		t.Errorf("%v", report)
	}
	r, err := ReadReport(strings.NewReader(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMessage checks what programs get that send by themselves, and that no report can add to the header.
func TestMessage(t *testing.T) {
	c := collector(t, nil)
	c.Record(Event{Domain: "example.org"})
	good := c.Reports(time.Now())[0]
	m, err := c.Message(good, "jörg@example.org")
	if err != nil || m.Needs != ext.UTF8 || m.From.String() != "sts-reporting@company-x.example" || len(m.To) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	content, _ := io.ReadAll(m.Body)
	if !strings.Contains(string(content), "\r\nTo: jörg@example.org\r\n") {
		t.Errorf("%s", content)
	}
	for name, change := range map[string]func(*Report){
		"X: y in the domain": func(r *Report) { r.Domain = "a\r\nX: y" },
		"no domain":          func(r *Report) { r.Domain = "" },
		"X: y in the ID":     func(r *Report) { r.ID = "a\r\nX: y@b.example" },
		"X: y behind the ID": func(r *Report) { r.ID += "\r\nX: y" },
		"no ID":              func(r *Report) { r.ID = "" },
		"half an ID":         func(r *Report) { r.ID = "@b.example" },
		"a long ID":          func(r *Report) { r.ID = strings.Repeat("a", 500) + "@b.example" },
		"a date":             func(r *Report) { r.DateRange.Start = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		bad := *good
		change(&bad)
		var e *MessageError
		if _, err := c.Message(&bad, "a@b.example"); !errors.As(err, &e) || client.Temporary(err) {
			t.Errorf("%s: %v, want a MessageError", name, err)
		}
	}
	if _, err := c.Message(good, "nobody"); err == nil {
		t.Error("a recipient without a domain")
	}
}

// TestNoSender checks that a program without a Sender is told, and that HTTPS works without one.
func TestNoSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &receiver{}
		var got error
		c := collector(t, func(o *Options) {
			sends(v, `_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:a@b.example,https://c.example"`)(o)
			o.Sender = nil
			o.Trace = &Trace{Sent: func(_ context.Context, _ *Report, to string, err error) {
				if to == "mailto:a@b.example" {
					got = err
				}
			}}
		})
		running(t, c)
		c.Record(Event{Domain: "example.org"})
		synctestUntil(midnight.Add(5 * time.Hour))
		var e *DeliveryError
		if !errors.As(got, &e) || e.Err != errNoSender || client.Temporary(got) || len(v.posts) != 1 {
			t.Errorf("%v, %d posts", got, len(v.posts))
		}
	})
}
