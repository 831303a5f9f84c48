package queuehttp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/queuehttp"
)

// TestCurl runs the lines of the package comment.
func TestCurl(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	withDesk(t, nil, func(d *desk) {
		n := 0
		for _, line := range strings.Split(file.Doc.Text(), "\n") {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "curl ") {
				continue
			}
			n++
			if strings.Contains(line, "api/usage") || strings.Contains(line, "api/reroute") ||
				strings.Contains(line, "api/drop") {
				// What was done before has left nothing of this.
				d.add(2*n, "tenant7", "a@spam.example", "Subject: x\r\n\r\n", "b@example.com")
			}
			if n == 1 {
				d.add(0, "tenant7", "a@example.org", "Subject: first\r\n\r\n", "b@example.com", "c@example.com")
			}
			method, body, target := http.MethodGet, "", ""
			var headers []string
			for words := shellWords(t, line)[1:]; len(words) > 0; words = words[1:] {
				switch {
				case words[0] == "--json":
					method, body, words = http.MethodPost, words[1], words[1:]
					headers = []string{"Content-Type: application/json", "Accept: application/json"}
				case target == "" && strings.HasPrefix(words[0], "http://127.0.0.1:8025/"):
					target = words[0]
				default:
					t.Fatalf("%s: %s is not understood", line, words[0])
				}
			}
			w := d.ask(method, target, body, headers...)
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", line, w.Code, w.Body)
			}
			switch answer := strings.Join(strings.Fields(w.Body.String()), " "); {
			case answer == `{ "jobs": 0 }` || answer == `{ "jobs": [] }` || strings.Contains(answer, `"messages": 0`):
				t.Errorf("%s: it shows nothing: %s", line, answer)
			}
		}
		if n < 19 {
			t.Errorf("%d lines, want all", n)
		}
	})
}

// shellWords divides a line as a shell does, if it has no quotes but single ones.
func shellWords(t *testing.T, line string) (words []string) {
	t.Helper()
	parts := strings.Split(line, "'")
	if len(parts)%2 == 0 {
		t.Fatalf("%s: a quote is open", line)
	}
	for i, p := range parts {
		if i%2 == 1 {
			words = append(words, p)
		} else if strings.ContainsAny(p, "&;|<>$*?\"\\`()") {
			t.Fatalf("%s: %q has to be quoted", line, p)
		} else {
			words = append(words, strings.Fields(p)...)
		}
	}
	return words
}

// TestJobs tests what a job has in JSON.
func TestJobs(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		d.add(1, "tenant", "a@example.org", "12345", "x@a.example", "y@a.example")
		now := time.Now()
		want := fmt.Sprintf(`{"jobs": [{
			"id": "04g6f3qv9i0000000001.0",
			"message": {"id": "04g6f3qv9i0000000001", "arrived": %q, "from": "a@example.org", "tag": "tenant", "size": 5,
				"received_from": "client.example ([192.0.2.1])"},
			"destination": "a.example", "state": "queued", "lane": 5, "attempts": 1, "told": false,
			"due": "DUE", "alarm": "ALARM", "expires": %q, "last_attempt": %q,
			"recipients": [
				{"address": "x@a.example", "last": {"status": "4.3.0", "code": 451, "reply": "not now", "host": "mx.example"}},
				{"address": "y@a.example", "last": {"status": "4.3.0", "code": 451, "reply": "not now", "host": "mx.example"}}
			]}]}`,
			now.Format(time.RFC3339Nano), now.Add(5*24*time.Hour).Format(time.RFC3339Nano), now.Format(time.RFC3339Nano))
		var wanted map[string]any
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		got := d.get("/api/jobs")
		job := got["jobs"].([]any)[0].(map[string]any)
		for _, name := range []string{"due", "alarm"} { // they are made longer or shorter by chance
			at, err := time.Parse(time.RFC3339, job[name].(string))
			if err != nil || !at.After(now) || at.After(now.Add(5*time.Hour)) {
				t.Errorf("%s is %v", name, job[name])
			}
			job[name] = strings.ToUpper(name)
		}
		if lane := job["lane"].(float64); lane < 0 || lane >= queue.Lanes {
			t.Errorf("the lane is %v", lane)
		}
		job["lane"] = 5.0
		for _, r := range job["recipients"].([]any) {
			delete(r.(map[string]any)["last"].(map[string]any), "text")
		}
		if !reflect.DeepEqual(got, wanted) {
			t.Errorf("the jobs are\n%v, want\n%v", got, wanted)
		}
		message := d.get("/api/messages/04g6f3qv9i0000000001")
		jobs := message["jobs"].([]any)
		if message["id"] != "04g6f3qv9i0000000001" || message["from"] != "a@example.org" || len(jobs) != 1 ||
			jobs[0].(map[string]any)["id"] != "04g6f3qv9i0000000001.0" {
			t.Errorf("the message is %v", message)
		}
	})
}

// TestJobsQuery tests filters, limit and cursor of a query.
func TestJobsQuery(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		d.add(1, "t", "a@example.org", "x", "x@a.example", "x@bücher.example")
		d.add(2, "", "", "x", "y@a.example")
		d.add(3, "t", "b@example.org", "x", "z@c.example")
		d.post("hold", `{"filter": {"destination": "c.example"}, "why": "w"}`)
		list := func(query string) (ids, next string) {
			v := d.get("/api/jobs?" + query)
			for _, j := range v["jobs"].([]any) {
				ids += " " + strings.TrimPrefix(j.(map[string]any)["id"].(string), "04g6f3qv9i000000000")
			}
			next, _ = v["next"].(string)
			return strings.TrimSpace(ids), next
		}
		for query, want := range map[string]string{
			"": "1.0 1.1 2.0 3.0", "ids=04g6f3qv9i0000000002": "2.0",
			"ids=04g6f3qv9i0000000002&ids=04g6f3qv9i0000000003": "2.0 3.0",
			"job=04g6f3qv9i0000000001.0":                        "1.0",
			"destination=A.Example":                             "1.0 2.0", "destination=b%C3%BCcher.example": "1.1",
			"from=%3C%3E": "2.0", "from=@example.org": "1.0 1.1 3.0", "to=Y@a.example": "2.0", "tag=t": "1.0 1.1 3.0",
			"state=held": "3.0", "state=queued&tag=t": "1.0 1.1", "before=2000-01-01T00:00:00Z": "",
			"after=2000-01-01T00:00:00%2B00:00": "1.0 1.1 2.0 3.0", "tag=&to=&limit=": "1.0 1.1 2.0 3.0",
		} {
			if got, next := list(query); got != want || next != "" {
				t.Errorf("?%s: %q, next %q, want %q", query, got, next, want)
			}
		}
		null := d.get("/api/jobs?from=%3C%3E")["jobs"].([]any)[0].(map[string]any)["message"].(map[string]any)
		if null["from"] != "<>" {
			t.Errorf("the null reverse-path is %q", null["from"])
		}
		var all string
		cursor := ""
		for range 10 {
			ids, next := list("limit=1&tag=t&cursor=" + cursor)
			all += ids + " "
			if cursor = next; next == "" {
				break
			}
		}
		if all != "1.0 1.1 3.0 " {
			t.Errorf("by pages: %q", all)
		}
		for query, part := range map[string]string{
			"destinaton=a.example": "destinaton", "tag=a&tag=b": "more than once", "state=new": "neither", "ids=x": "ID",
			"job=04g6f3qv9i0000000001": "ID of a job", "job=04g6f3qv9i0000000001.00": "ID of a job", "before=today": "form",
			"limit=0": "limit", "limit=1001": "limit", "limit=x": "limit", "cursor=x": "ID of a job", "after=2027-01-31": "form",
		} {
			d.wantError(query, d.ask("GET", "/api/jobs?"+query, ""), http.StatusBadRequest, part)
		}
		d.wantError("filter", d.ask("GET", "/api/messages/04g6f3qv9i0000000001?tag=t", ""), http.StatusBadRequest, "filter")
		if v := d.get("/api/messages/04g6f3qv9i0000000001?limit=1"); v["next"] != "04g6f3qv9i0000000001.0" {
			t.Errorf("the first job of a message: %v", v)
		}
	})
}

func TestOverview(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		d.add(1, "", "a@example.org", "12345", "x@a.example", "y@a.example", "z@b.example")
		d.add(2, "", "a@example.org", "12345", "x@a.example")
		d.post("hold", `{"filter": {"destination": "b.example"}}`)
		d.post("suspend", `{"site": "s.example", "for": "1h30m", "why": "w"}`)
		if v := d.get("/api/usage"); v["messages"] != 2.0 || v["octets"] != 10.0 {
			t.Errorf("usage is %v", v)
		}
		v := d.get("/api/shape")["destinations"].([]any)
		a := v[0].(map[string]any)
		want := map[string]any{"destination": "a.example", "jobs": 2.0, "held": 0.0, "recipients": 3.0,
			"oldest": time.Now().Format(time.RFC3339Nano), "ages": map[string]any{"under 5m": 2.0}}
		if b := v[1].(map[string]any); len(v) != 2 || !reflect.DeepEqual(a, want) || b["held"] != 1.0 {
			t.Errorf("shape is %v", v)
		}
		var found bool
		for _, s := range d.get("/api/sites")["sites"].([]any) {
			site := s.(map[string]any)
			if site["site"] == "s.example" {
				suspended := site["suspended"].(map[string]any)
				until := time.Now().Add(90 * time.Minute).Format(time.RFC3339Nano)
				found = site["by_operator"] == true && suspended["until"] == until && suspended["why"] == "w"
			}
		}
		if !found {
			t.Errorf("sites are %v", d.get("/api/sites"))
		}
		d.post("resume", `{"site": "s.example"}`)
		if v := d.get("/api/sites"); strings.Contains(fmt.Sprint(v), "s.example") {
			t.Errorf("after resume the sites are %v", v)
		}
	})
}

// TestChanges makes each change once, and looks at the queue.
func TestChanges(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		d.add(1, "t", "a@example.org", "x", "x@a.example", "x@b.example")
		d.add(2, "", "b@example.org", "x", "y@a.example")
		for _, step := range []struct{ op, body, jobs, want string }{
			{"hold", `{"filter": {"destination": "a.example"}, "why": "w"}`, "2",
				`1 a.example held "w" 1; 1 b.example queued "" 1; 2 a.example held "w" 1`},
			{"retry", `{"filter": {"to": "@b.example"}}`, "1",
				`1 a.example held "w" 1; 1 b.example queued "" 2; 2 a.example held "w" 1`},
			{"release", `{"filter": {"ids": ["04g6f3qv9i0000000002"]}}`, "1",
				`1 a.example held "w" 1; 1 b.example queued "" 2; 2 a.example queued "" 2`},
			{"reroute", `{"filter": {"state": "held"}, "domain": "Bücher.example"}`, "1",
				`1 xn--bcher-kva.example held "w" 1; 1 b.example queued "" 2; 2 a.example queued "" 2`},
			{"reroute", `{"filter": {"job": "04g6f3qv9i0000000001.1"}, "route": "backup"}`, "1",
				`1 xn--bcher-kva.example held "w" 1; 1 =backup queued "" 2; 2 a.example queued "" 2`},
			{"drop", `{"filter": {"tag": "t", "state": "held"}}`, "1", `1 =backup queued "" 2; 2 a.example queued "" 2`},
			{"drop", `{"filter": {"ids": []}}`, "0", `1 =backup queued "" 2; 2 a.example queued "" 2`},
			{"hold", `{"all": true}`, "2", `1 =backup held "" 2; 2 a.example held "" 2`},
			{"hold", `{"all": true, "filter": {}}`, "2", `1 =backup held "" 2; 2 a.example held "" 2`},
			{"drop", `{"all": true}`, "2", ""},
		} {
			got := d.post(step.op, step.body)
			if fmt.Sprint(got["jobs"]) != step.jobs || d.jobs() != step.want {
				t.Fatalf("%s %s: %v, and the queue is\n%s, want\n%s", step.op, step.body, got, d.jobs(), step.want)
			}
		}
		// Expire reports to the sender, which is a job of its own.
		d.add(3, "", "b@example.org", "x", "y@a.example")
		d.post("expire", `{"filter": {"to": "y@a.example"}}`)
		if jobs := d.jobs(); !strings.Contains(jobs, "example.org queued") || strings.Contains(jobs, "a.example") {
			t.Errorf("after expire the queue is %s", jobs)
		}
		for _, part := range []string{"operation=hold", "destination=a.example", "why=w", "jobs=2", "remote=127.0.0.1:54321",
			"operation=drop", "all=true", "operation=expire"} {
			if !strings.Contains(d.log.String(), part) {
				t.Errorf("the log has no %s:\n%s", part, d.log.String())
			}
		}
	})
}

// TestChangeRefused: what is not clear is not done.
func TestChangeRefused(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		d.add(1, "t", "a@example.org", "x", "x@a.example", "x@b.example")
		before := d.jobs()
		for _, test := range []struct {
			op, body string
			status   int
			part     string
		}{
			{"drop", `{}`, 400, `"all": true`},
			{"drop", `{"filter": {}}`, 400, `"all": true`},
			{"drop", `{"filter": {"destination": "", "to": ""}}`, 400, `"all": true`},
			{"drop", `{"filter": null}`, 400, `"all": true`},
			{"drop", `{"all": true, "filter": {"tag": "t"}}`, 400, "contradict"},
			{"drop", `{"filter": {"destinaton": "a.example"}}`, 400, "destinaton"},
			{"drop", `{"filters": {"tag": "t"}, "all": true}`, 400, "filters"},
			{"drop", `{"filter": {"tag": "t"}, "why": "x"}`, 400, "why"},
			{"drop", `{"filter": {"state": "Held"}}`, 400, "state"},
			{"drop", `{"filter": {"ids": ["x"]}}`, 400, "ID"},
			{"drop", `{"filter": {"job": "x"}}`, 400, "ID"},
			{"drop", `{"filter": {"before": "yesterday"}}`, 400, "yesterday"},
			{"drop", `{"filter": {"tag": "t"}} {}`, 400, "after"},
			{"drop", `{"filter": {"tag": "t"}}]`, 400, "after"},
			{"drop", `{"filter": {"tag": ["t"]}}`, 400, "understood"},
			{"drop", ``, 400, "understood"},
			{"drop", `"` + strings.Repeat("x", 2<<20) + `"`, 400, "too large"},
			{"hold", `{"filter": {"tag": "t"}, "site": "x"}`, 400, "site"},
			{"reroute", `{"filter": {"tag": "t"}}`, 400, "route or a domain"},
			{"reroute", `{"filter": {"tag": "t"}, "route": "x", "domain": "y.example"}`, 400, "not both"},
			{"reroute", `{"filter": {"tag": "t"}, "domain": "y..example"}`, 400, "y..example"},
			{"reroute", `{"filter": {"tag": "t"}, "route": "none"}`, 422, "none"},
			{"suspend", `{"for": "1h"}`, 400, "site"},
			{"suspend", `{"site": "x"}`, 400, "until or for"},
			{"suspend", `{"site": "x", "for": "1h", "until": "2099-01-01T00:00:00Z"}`, 400, "not both"},
			{"suspend", `{"site": "x", "for": "-1h"}`, 400, "2h30m"},
			{"suspend", `{"site": "x", "for": "1 hour"}`, 400, "2h30m"},
			{"suspend", `{"site": "x", "until": "tomorrow"}`, 400, "tomorrow"},
			{"suspend", `{"site": "x", "for": "1h", "all": true}`, 400, "filter"},
			{"suspend", `{"site": "x", "for": "1h", "filter": {"tag": "t"}}`, 400, "filter"},
			{"resume", `{}`, 400, "site"},
			{"resume", `{"site": "x", "for": "1h"}`, 400, "for"},
			{"delete", `{"all": true}`, 400, "delete"},
		} {
			what := test.op + " " + test.body[:min(len(test.body), 60)]
			w := d.ask("POST", "/api/"+test.op, test.body, "Content-Type: application/json")
			d.wantError(what, w, test.status, test.part)
		}
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "", "application/json, x"} {
			w := d.ask("POST", "/api/drop", `{"all": true}`, "Content-Type: "+kind)
			d.wantError("Content-Type "+kind, w, http.StatusUnsupportedMediaType, "JSON")
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			w := d.ask(method, "/api/drop", `{"all": true}`, "Content-Type: application/json")
			if w.Code != http.StatusNotFound {
				t.Errorf("%s /api/drop: %d", method, w.Code)
			}
		}
		if after := d.jobs(); after != before {
			t.Errorf("the queue is %s, before %s", after, before)
		}
		if sites := d.q.Sites(); strings.Contains(fmt.Sprint(sites), "x ") {
			t.Errorf("the sites are %v", sites)
		}
	})
}

// TestContent: the content of a message is text to be saved, and nothing else.
func TestContent(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		content := "Content-Type: text/html\r\n\r\n<script>alert(1)</script>\xff\x00"
		id := d.add(1, "", "", content, "x@a.example")
		path := "/api/messages/" + string(id) + "/content"
		w := d.ask("GET", path, "")
		if w.Code != 200 || w.Body.String() != content {
			t.Errorf("%d %q, want %q", w.Code, w.Body, content)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/plain", "Content-Disposition": `attachment; filename="` + string(id) + `.txt"`,
			"Content-Length": fmt.Sprint(len(content)), "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		if w := d.ask("HEAD", path, ""); w.Code != 200 || w.Body.Len() > 0 {
			t.Errorf("HEAD: %d %q", w.Code, w.Body)
		}
		if w := d.ask("GET", path, "", "Range: bytes=8-11"); w.Code != 206 || w.Body.String() != content[8:12] {
			t.Errorf("a range: %d %q", w.Code, w.Body)
		}
		for _, id := range []string{"04g6f3qv9i0000000009", "x", "..", "%2e%2e%2f%2e%2e%2fpasswd", "04g6f3qv9i000000000%00"} {
			for _, path := range []string{"/api/messages/" + id, "/api/messages/" + id + "/content"} {
				if w := d.ask("GET", path, ""); w.Code != http.StatusNotFound && w.Code/100 != 3 {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			}
		}
		d.post("drop", `{"all": true}`)
		d.wantError("dropped", d.ask("GET", path, ""), http.StatusNotFound, "no such message")
	})
}

// TestErrors: what fails in the queue is said, with a status that fits.
func TestErrors(t *testing.T) {
	withDesk(t, nil, func(d *desk) {
		for _, test := range []struct {
			err    error
			status int
		}{
			{errDisk, 500}, {errTemporary, 503}, {queue.ErrClosed, 503}, {context.DeadlineExceeded, 503},
			{queue.ErrNotFound, 404}, {queue.ErrRoute, 422},
		} {
			d.h = queuehttp.New(broken{err: test.err}, &queuehttp.Options{Logger: slog.New(slog.DiscardHandler)})
			for _, path := range []string{"/api/jobs", "/api/shape", "/api/usage", "/api/messages/" + string(testID(1)),
				"/api/messages/" + string(testID(1)) + "/content"} {
				d.wantError(path, d.ask("GET", path, ""), test.status, test.err.Error())
			}
			for op, body := range map[string]string{"drop": `{"all": true}`, "resume": `{"site": "x"}`,
				"reroute": `{"all": true, "route": "x"}`} {
				w := d.ask("POST", "/api/"+op, body, "Content-Type: application/json")
				d.wantError(op, w, test.status, test.err.Error())
			}
			if w := d.ask("GET", "/", ""); w.Code != test.status || !strings.Contains(w.Body.String(), test.err.Error()) {
				t.Errorf("the page: %d %s", w.Code, w.Body)
			}
		}
	})
}
