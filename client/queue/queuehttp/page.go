package queuehttp

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
)

//go:embed page.html
var pageText string

//go:embed style.css
var styleText []byte

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"octets": octets,
	"number": number,
	"moment": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"age":    func(t time.Time) string { return shortDuration(time.Since(t)) },
	"count": func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	},
}).Parse(pageText))

// pageRows is how many destinations, and how many sites, the page shows.
const pageRows = 50

// A pageData is what the page shows.
type pageData struct {
	Error, Done string
	Usage       queue.Usage
	Shape       []queue.Shape
	MoreShape   int
	AgeNames    []string
	Sites       []queue.SiteState
	MoreSites   int
	// Fields are those of the filter, and Hidden the ones that are set. All says that none is.
	Fields, Hidden []input
	All            bool
	Jobs           []queue.Listed
	Next           template.URL // where the next jobs are
}

type input struct{ Name, Value string }

func (h *handler) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(styleText)
}

// page shows the queue, with the jobs that match the query.
func (h *handler) page(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	q, err := jobsRequestOf(query, "done", "jobs")
	data := pageData{Done: doneText(query.Get("done"), query.Get("jobs"))}
	h.show(w, r, &q, &data, err)
}

// show answers with the page. If there is an error already it is shown too, and no jobs.
func (h *handler) show(w http.ResponseWriter, r *http.Request, q *jobsRequest, data *pageData, err error) {
	if shown := h.fill(r, q, data, err == nil); err == nil {
		err = shown
	}
	status := http.StatusOK
	if err != nil {
		status = statusOf(err)
		data.Error = err.Error()
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, data); err != nil {
		failWith(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// fill fills data from the queue.
func (h *handler) fill(r *http.Request, q *jobsRequest, data *pageData, jobs bool) (err error) {
	data.AgeNames = ageNames()
	data.Sites = h.queue.Sites()
	slices.SortStableFunc(data.Sites, func(a, b queue.SiteState) int { return cmp.Compare(rank(&b), rank(&a)) })
	data.MoreSites = max(0, len(data.Sites)-pageRows)
	data.Sites = data.Sites[:len(data.Sites)-data.MoreSites]
	for _, field := range q.text.fields() {
		data.Fields = append(data.Fields, input{field.name, *field.value})
	}
	data.Fields = append(data.Fields, input{"ids", strings.Join(q.text.IDs, " ")})
	for _, in := range data.Fields {
		if in.Value != "" {
			data.Hidden = append(data.Hidden, in)
		}
	}
	data.All = len(data.Hidden) == 0
	if data.Usage, err = h.queue.Usage(r.Context()); err != nil {
		return err
	}
	if data.Shape, err = h.queue.Shape(r.Context()); err != nil {
		return err
	}
	slices.SortStableFunc(data.Shape, func(a, b queue.Shape) int { return b.Jobs - a.Jobs })
	data.MoreShape = max(0, len(data.Shape)-pageRows)
	data.Shape = data.Shape[:len(data.Shape)-data.MoreShape]
	if !jobs {
		return nil
	}
	var next string
	if data.Jobs, next, err = h.list(r.Context(), q); next != "" {
		v := q.text.values()
		v.Set("cursor", next)
		v.Set("limit", strconv.Itoa(q.limit))
		data.Next = template.URL("?" + v.Encode())
	}
	return err
}

// rank is larger for sites that an operator wants to see first.
func rank(s *queue.SiteState) int64 {
	switch {
	case s.ByOperator:
		return 1 << 40
	case s.Suspension != nil:
		return 1<<39 + int64(s.Loaded)
	}
	return int64(s.Busy + s.Loaded)
}

// form makes the change that a form of the page asks for, and has the browser read the page again.
func (h *handler) form(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		failWith(w, invalid("the form cannot be understood: "+err.Error()))
		return
	}
	var o order
	names := []string{"op", "all"}
	for name, value := range o.values() {
		names = append(names, name)
		*value = strings.TrimSpace(r.PostForm.Get(name))
	}
	o.All = r.PostForm.Get("all") == "true"
	name := r.PostForm.Get("op")
	var err error
	var n int
	if o.Filter, err = filterOf(r.PostForm, names...); err != nil {
		err = &invalidError{err}
	} else {
		o.forget(name)
		n, err = h.do(r, name, &o)
	}
	if err != nil {
		h.show(w, r, &jobsRequest{text: o.Filter}, &pageData{}, err)
		return
	}
	back := url.Values{"done": {name}}
	if o.Site == "" {
		back = o.Filter.values()
		back.Set("done", name)
		back.Set("jobs", strconv.Itoa(n))
	}
	// A relative Location, which http.Redirect does not leave so, is right below http.StripPrefix too.
	w.Header().Set("Location", "./?"+back.Encode())
	w.WriteHeader(http.StatusSeeOther)
}

// forget empties the fields that the operation does not have. All operations on jobs share one form.
func (o *order) forget(name string) {
	for field, value := range o.values() {
		if !slices.Contains(operations[name].fields, field) {
			*value = ""
		}
	}
}

// doneText says what was done, by the query to which form has sent the browser.
func doneText(name, jobs string) string {
	op, ok := operations[name]
	if !ok {
		return ""
	}
	if slices.Contains(op.fields, "site") {
		return name + ": done"
	}
	n, err := strconv.Atoi(jobs)
	if err != nil {
		return ""
	}
	return name + ": " + number(int64(n), "job")
}

// number writes how many there are of something.
func number(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// octets writes a size for people.
func octets(n int64) string {
	const k = 1024
	switch {
	case n < k:
		return number(n, "octet")
	case n < k*k:
		return fmt.Sprintf("%d KiB", n/k)
	case n < k*k*k:
		return fmt.Sprintf("%.1f MiB", float64(n)/(k*k))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(k*k*k))
}

// shortDuration writes a duration with one unit, or two.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour && d%time.Hour < time.Minute:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
