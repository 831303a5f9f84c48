package queuehttp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"smtpkit.example/smtp/client/queue"
)

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // if it fails, nobody is there any more
}

// failWith answers with an error of the queue.
func failWith(w http.ResponseWriter, err error) { fail(w, statusOf(err), err.Error()) }

// statusOf returns the status that an error of the queue has.
func statusOf(err error) int {
	var invalid *invalidError
	var temporary interface{ Temporary() bool }
	switch {
	case errors.As(err, &invalid):
		return http.StatusBadRequest
	case errors.Is(err, queue.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, queue.ErrClosed), errors.As(err, &temporary) && temporary.Temporary(),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	case errors.Is(err, queue.ErrRoute):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// An invalidError says what is wrong with a request.
type invalidError struct{ err error }

func (e *invalidError) Error() string { return e.err.Error() }

func invalid(text string) error { return &invalidError{errors.New(text)} }

// A jobsRequest is which jobs to list.
type jobsRequest struct {
	text   filter
	filter queue.Filter
	after  queue.JobID
	limit  int
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// jobsRequestOf reads a query. It may have the others as well.
func jobsRequestOf(v url.Values, others ...string) (q jobsRequest, err error) {
	if q.text, err = filterOf(v, append(others, "cursor", "limit")...); err != nil {
		return q, &invalidError{err}
	}
	if q.filter, err = q.text.parse(); err != nil {
		return q, &invalidError{err}
	}
	if text := v.Get("cursor"); text != "" {
		if q.after, err = parseJobID(text); err != nil {
			return q, &invalidError{err}
		}
	}
	q.limit = defaultLimit
	if text := v.Get("limit"); text != "" {
		if q.limit, err = strconv.Atoi(text); err != nil || q.limit < 1 || q.limit > maxLimit {
			return q, invalid("limit is not a number from 1 to " + strconv.Itoa(maxLimit))
		}
	}
	return q, nil
}

// list returns jobs, and the cursor of the next ones.
func (h *handler) list(ctx context.Context, q *jobsRequest) (jobs []queue.Listed, next string, err error) {
	jobs, after, err := h.queue.List(ctx, q.filter, q.after, q.limit)
	if after != (queue.JobID{}) {
		next = after.String()
	}
	return jobs, next, err
}

func (h *handler) jobs(w http.ResponseWriter, r *http.Request) {
	q, err := jobsRequestOf(r.URL.Query())
	if err != nil {
		failWith(w, err)
		return
	}
	listed, next, err := h.list(r.Context(), &q)
	if err != nil {
		failWith(w, err)
		return
	}
	views := make([]*jobView, len(listed))
	for i, l := range listed {
		views[i] = viewJob(l.Job)
		views[i].Message = viewMessage(l.Message)
	}
	writeJSON(w, http.StatusOK, struct {
		Jobs []*jobView `json:"jobs"`
		Next string     `json:"next,omitempty"`
	}{views, next})
}

// pathID returns the ID in the path. If it has not the form of one there is no such message.
func pathID(r *http.Request) (queue.ID, error) {
	id := queue.ID(r.PathValue("id"))
	if !id.Valid() {
		return "", queue.ErrNotFound
	}
	return id, nil
}

func (h *handler) message(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if err != nil {
		failWith(w, err)
		return
	}
	q, err := jobsRequestOf(r.URL.Query())
	if err != nil {
		failWith(w, err)
		return
	}
	if !q.filter.IsZero() {
		failWith(w, invalid("the jobs of a message have no filter: use /api/jobs"))
		return
	}
	q.filter.IDs = []queue.ID{id}
	listed, next, err := h.list(r.Context(), &q)
	if err == nil && len(listed) == 0 {
		err = queue.ErrNotFound
	}
	if err != nil {
		failWith(w, err)
		return
	}
	v := viewMessage(listed[0].Message)
	v.Next = next
	for _, l := range listed {
		v.Jobs = append(v.Jobs, viewJob(l.Job))
	}
	writeJSON(w, http.StatusOK, v)
}

func (h *handler) content(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if err != nil {
		failWith(w, err)
		return
	}
	c, err := h.queue.Open(r.Context(), id)
	if err != nil {
		failWith(w, err)
		return
	}
	defer c.Close()
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Disposition", `attachment; filename="`+string(id)+`.txt"`)
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(c, 0, c.Size()))
}

func (h *handler) shape(w http.ResponseWriter, r *http.Request) {
	rows, err := h.queue.Shape(r.Context())
	if err != nil {
		failWith(w, err)
		return
	}
	names := ageNames()
	views := make([]shapeView, len(rows))
	for i := range rows {
		views[i] = viewShape(&rows[i], names)
	}
	writeJSON(w, http.StatusOK, map[string]any{"destinations": views})
}

func (h *handler) sites(w http.ResponseWriter, _ *http.Request) {
	states := h.queue.Sites()
	views := make([]siteView, len(states))
	for i := range states {
		views[i] = viewSite(&states[i])
	}
	writeJSON(w, http.StatusOK, map[string]any{"sites": views})
}

func (h *handler) usage(w http.ResponseWriter, r *http.Request) {
	u, err := h.queue.Usage(r.Context())
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]int64{"messages": u.Messages, "octets": u.Octets})
}

// change is a POST of JSON.
func (h *handler) change(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "the body must be JSON, with Content-Type: application/json")
		return
	}
	var o order
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(&o)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something comes after the JSON")
		}
	}
	if err != nil {
		failWith(w, invalid("the body cannot be understood: "+err.Error()))
		return
	}
	n, err := h.do(r, r.PathValue("op"), &o)
	switch {
	case err != nil:
		failWith(w, err)
	case o.Site != "":
		writeJSON(w, http.StatusOK, map[string]string{"site": o.Site})
	default:
		writeJSON(w, http.StatusOK, map[string]int{"jobs": n})
	}
}
