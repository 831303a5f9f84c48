package queuehttp_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"smtpkit.example/smtp/proto"
)

// A browser reads the page as one without scripts does, and can follow its links and submit its forms.
type browser struct {
	*desk
	base *url.URL
	doc  *html.Node
	text string
}

// open opens a URL, follows a redirection, and fails the test if the answer is no page.
func (b *browser) open(target string, status int) {
	b.Helper()
	b.read(b.ask("GET", b.resolve(target), "").Result(), status)
}

func (b *browser) resolve(ref string) string {
	b.Helper()
	u, err := b.base.Parse(ref)
	if err != nil {
		b.Fatal(err)
	}
	return u.String()
}

func (b *browser) read(r *http.Response, status int) {
	b.Helper()
	if r.StatusCode == http.StatusSeeOther {
		b.open(r.Header.Get("Location"), status)
		return
	}
	if kind := r.Header.Get("Content-Type"); r.StatusCode != status || kind != "text/html; charset=utf-8" {
		b.Fatalf("%d %s, want a page", r.StatusCode, kind)
	}
	var err error
	if b.doc, err = html.Parse(r.Body); err != nil {
		b.Fatal(err)
	}
	var text strings.Builder
	for n := range b.doc.Descendants() {
		if n.Type == html.TextNode {
			text.WriteString(n.Data + " ")
		}
	}
	b.text = strings.Join(strings.Fields(text.String()), " ")
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// elements returns the elements of a name below n.
func elements(n *html.Node, name string) (list []*html.Node) {
	for e := range n.Descendants() {
		if e.Type == html.ElementNode && e.Data == name {
			list = append(list, e)
		}
	}
	return list
}

// submit presses the button of a value in the last form that has it, with what is typed into fields.
func (b *browser) submit(button string, typed map[string]string) {
	b.Helper()
	var form *html.Node
	for _, f := range elements(b.doc, "form") {
		for _, e := range elements(f, "button") {
			if attr(e, "value") == button {
				form = f
			}
		}
	}
	if form == nil {
		b.Fatalf("there is no button %s", button)
	}
	v := url.Values{}
	if button != "" {
		v.Set("op", button)
	}
	for _, in := range elements(form, "input") {
		value, ok := typed[attr(in, "name")]
		switch {
		case attr(in, "type") == "checkbox" && !ok:
		case ok:
			v.Add(attr(in, "name"), value)
		default:
			v.Add(attr(in, "name"), attr(in, "value"))
		}
	}
	target := b.resolve(attr(form, "action"))
	if attr(form, "method") == "get" {
		b.read(b.ask("GET", target+"?"+v.Encode(), "").Result(), http.StatusOK)
		return
	}
	status := http.StatusOK
	if typed["status"] == "bad" {
		status = http.StatusBadRequest
	}
	w := b.ask("POST", target, v.Encode(), "Content-Type: application/x-www-form-urlencoded",
		"Origin: "+b.base.Scheme+"://"+b.base.Host, "Sec-Fetch-Site: same-origin")
	b.read(w.Result(), status)
}

func (b *browser) want(parts ...string) {
	b.Helper()
	for _, part := range parts {
		if !strings.Contains(b.text, part) {
			b.Errorf("the page has no %q:\n%s", part, b.text)
		}
	}
}

func (d *desk) browser(base string) *browser {
	u, err := url.Parse(base)
	if err != nil {
		d.Fatal(err)
	}
	return &browser{desk: d, base: u}
}

// TestPage uses the page at the root, and below a path.
func TestPage(t *testing.T) {
	for _, base := range []string{"http://127.0.0.1:8025/", "http://localhost/ops/queue/"} {
		withDesk(t, nil, func(d *desk) {
			b := d.browser(base)
			d.h = http.StripPrefix(strings.TrimSuffix(b.base.Path, "/"), d.h)
			b.open("", http.StatusOK)
			b.want("0 messages", "Nothing is queued", "No jobs")
			d.add(1, "tenant", "a@example.org", "12345", "x@a.example", "y@b.example")
			d.add(2, "", "", strings.Repeat("x", 5000), "z@a.example")
			b.open("", http.StatusOK)
			b.want("2 messages, 4 KiB", "a.example 2 2 0s 2", "451 not now", "tenant", "<>", "z@a.example", "4.3.0 mx.example")
			b.follow()

			b.submit("", map[string]string{"destination": "a.example"})
			b.want("x@a.example", "z@a.example")
			if strings.Contains(b.text, "y@b.example") {
				t.Error("the filter shows more")
			}
			b.submit("hold", map[string]string{"why": "they asked", "route": "ignored by hold"})
			b.want("hold: 2 jobs", "held they asked")
			held := `1 a.example held "they asked" 1; 1 b.example queued "" 1; 2 a.example held "they asked" 1`
			if got := d.jobs(); got != held {
				t.Errorf("after hold: %s", got)
			}
			b.submit("", map[string]string{"destination": "", "ids": "04g6f3qv9i0000000002 04g6f3qv9i0000000009"})
			b.submit("reroute", map[string]string{"route": "backup"})
			b.submit("drop", nil)
			b.want("1 message, 5 octets", "drop: 1 job Destinations", "No jobs")
			if got := d.jobs(); got != `1 a.example held "they asked" 1; 1 b.example queued "" 1` {
				t.Errorf("after drop: %s", got)
			}
			b.open("./", http.StatusOK)
			b.submit("drop", map[string]string{"status": "bad"}) // the box is not checked
			b.want(`if all jobs are meant`)
			b.open("./", http.StatusOK)
			b.submit("release", map[string]string{"all": "true"})
			b.want("release: 2 jobs")
			b.useSites()
			b.usePages()
		})
	}
}

// useSites suspends a site, and resumes it.
func (b *browser) useSites() {
	b.Helper()
	b.submit("suspend", map[string]string{"site": "a.example", "why": "too slow", "for": "2h"})
	b.want("suspend: done", "too slow by an operator", time.Now().Add(2*time.Hour).UTC().Format("15:04:05"))
	b.submit("resume", nil)
	if strings.Contains(b.text, "too slow") {
		b.Error("the site is suspended after resume")
	}
	b.submit("suspend", map[string]string{"site": "a.example", "for": "soon", "status": "bad"})
	b.want("soon")
}

// usePages goes from one page of jobs to the next.
func (b *browser) usePages() {
	b.Helper()
	b.open("?limit=1&tag=tenant", http.StatusOK)
	b.want("x@a.example")
	for _, a := range elements(b.doc, "a") {
		if href := attr(a, "href"); strings.Contains(href, "cursor") {
			b.open(href, http.StatusOK)
			break
		}
	}
	b.want("y@b.example")
	b.open("?done=paid&jobs=3", http.StatusOK)
	if strings.Contains(b.text, "paid") {
		b.Error("the page says that something was done that cannot be")
	}
	b.open("?tga=x", http.StatusBadRequest)
	b.want(`"tga" is not known here`)
}

// follow follows all links of the page.
func (b *browser) follow() {
	b.Helper()
	n := 0
	for _, tag := range []string{"a", "link"} {
		for _, e := range elements(b.doc, tag) {
			n++
			target := b.resolve(attr(e, "href"))
			if w := b.ask("GET", target, ""); w.Code != http.StatusOK {
				b.Errorf("the link %s: %d", target, w.Code)
			}
		}
	}
	if n < 8 {
		b.Errorf("the page has %d links", n)
	}
}

// TestPageEscapes: nothing of a message, of a server or of a query becomes HTML.
func TestPageEscapes(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		evil := `"><script>alert(1)</script><img src=x onerror=alert(2)>'--!>`
		d.refusal = &proto.Error{Code: 451, Status: proto.Status{4, 0, 0}, Text: evil}
		d.add(1, evil, `"<script>a</script>"@example.org`, evil, `"<b onclick=x>"@a.example`)
		d.post("hold", `{"all": true, "why": "\"><script>alert(3)</script>"}`)
		d.post("suspend", `{"site": "\"><script>alert(4)</script>", "for": "1h", "why": "<script>alert(5)</script>"}`)
		b := d.browser("http://[::1]:8025/")
		plain := d.browser("http://[::1]:8025/")
		for target, status := range map[string]int{
			"": 200, "?tag=" + url.QueryEscape(evil): 200, "?from=" + url.QueryEscape(evil): 200,
			"?" + url.QueryEscape(evil) + "=1": 400,
			"?state=" + url.QueryEscape(evil):  400, "?done=" + url.QueryEscape(evil) + "&jobs=" + url.QueryEscape(evil): 200,
			"?done=hold&jobs=" + url.QueryEscape(evil): 200, "?limit=" + url.QueryEscape(evil): 400,
		} {
			b.open(target, status)
			for n := range b.doc.Descendants() {
				if n.Type != html.ElementNode {
					continue
				}
				switch n.Data {
				case "script", "img", "b", "style", "iframe", "object", "base":
					t.Errorf("%s: the page has an element %s", target, n.Data)
				}
				for _, a := range n.Attr {
					if strings.HasPrefix(a.Key, "on") || a.Key == "style" ||
						strings.HasPrefix(strings.TrimSpace(a.Val), "javascript:") {
						t.Errorf("%s: the page has an attribute %s=%q", target, a.Key, a.Val)
					}
				}
			}
		}
		plain.open("", 200)
		plain.want(evil, `<script>a</script>`, `<b onclick=x>`, "<script>alert(3)</script>", "<script>alert(4)</script>",
			"<script>alert(5)</script>")
	})
}

// TestPageForms: a form that is not ours to the letter changes nothing.
func TestPageForms(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		d.add(1, "t", "a@example.org", "x", "x@a.example")
		before := d.jobs()
		for _, body := range []string{"op=drop", "op=drop&tga=t", "op=drop&all=yes", "op=delete&all=true", "all=true", "",
			"op=drop&tag=t&tag=u", "op=drop&all=true&tag=t", "op=suspend&for=1h", "op=drop&%zz", "op=drop&all=true&state=x",
			"op=drop&all=true;" + strings.Repeat("x", 2<<20)} {
			w := d.ask("POST", "/", body, "Content-Type: application/x-www-form-urlencoded")
			if w.Code != http.StatusBadRequest {
				t.Errorf("%s: %d", body[:min(len(body), 40)], w.Code)
			}
		}
		// Fields in the query are not those of the form.
		for query, body := range map[string]string{"op=drop&all=true": "", "op=drop": "all=true", "tag=t": "op=drop",
			"all=true": "op=drop"} {
			w := d.ask("POST", "/?"+query, body, "Content-Type: application/x-www-form-urlencoded")
			if w.Code != http.StatusBadRequest || d.jobs() != before {
				t.Errorf("?%s with the form %s: %d, and the queue is %s", query, body, w.Code, d.jobs())
			}
		}
		if w := d.ask("POST", "/", "op=drop&all=true", "Content-Type: text/plain"); w.Code != http.StatusBadRequest {
			t.Errorf("a form as text: %d", w.Code)
		}
	})
}

// TestPageMany keeps the page small enough to be read with many destinations.
func TestPageMany(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		for i := range 60 {
			name := string(rune('a'+i/26)) + string(rune('a'+i%26)) + ".example"
			d.add(i, "", "", "x", "x@"+name)
		}
		d.add(100, "", "", "x", "y@zz.example")
		d.add(101, "", "", "x", "y@zz.example")
		synctest.Wait()
		b := d.browser("http://127.0.0.1/")
		b.open("", 200)
		b.want("11 more have fewer jobs", "zz.example 2")
		if n := len(elements(b.doc, "tr")); n > 170 {
			t.Errorf("the page has %d rows", n)
		}
	})
}
