package queuehttp

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// A filter is a queue.Filter as text, from JSON or a query.
type filter struct {
	IDs         []string `json:"ids"`
	Job         string   `json:"job"`
	Destination string   `json:"destination"`
	From        string   `json:"from"`
	To          string   `json:"to"`
	Tag         string   `json:"tag"`
	State       string   `json:"state"`
	Before      string   `json:"before"`
	After       string   `json:"after"`
}

// A field is one with a single value.
type field struct {
	name  string
	value *string
}

func (f *filter) fields() []field {
	return []field{{"job", &f.Job}, {"destination", &f.Destination}, {"from", &f.From}, {"to", &f.To}, {"tag", &f.Tag},
		{"state", &f.State}, {"before", &f.Before}, {"after", &f.After}}
}

// filterOf reads a filter from a query or a form. Empty values are as if they were not there, as forms send them. It
// refuses values that are neither of a filter nor among the others.
func filterOf(v url.Values, others ...string) (f filter, err error) {
	known := append(others, "ids")
	for _, field := range f.fields() {
		known = append(known, field.name)
		if len(v[field.name]) > 1 {
			return f, fmt.Errorf("%q is there more than once", field.name)
		}
		*field.value = strings.TrimSpace(v.Get(field.name))
	}
	for _, id := range v["ids"] {
		f.IDs = append(f.IDs, strings.Fields(id)...)
	}
	for name := range v {
		if !slices.Contains(known, name) {
			return f, fmt.Errorf("%q is not known here: known are %s", name, strings.Join(known, ", "))
		}
	}
	return f, nil
}

// values is the inverse of filterOf.
func (f *filter) values() url.Values {
	v := url.Values{}
	for _, field := range f.fields() {
		if *field.value != "" {
			v.Set(field.name, *field.value)
		}
	}
	for _, id := range f.IDs {
		v.Add("ids", id)
	}
	return v
}

// parse returns the filter, or says which field is wrong.
func (f *filter) parse() (p queue.Filter, err error) {
	for _, text := range f.IDs {
		id := queue.ID(text)
		if !id.Valid() {
			return p, fmt.Errorf("%q in ids is not the ID of a message", text)
		}
		p.IDs = append(p.IDs, id)
	}
	if f.IDs != nil && p.IDs == nil {
		p.IDs = []queue.ID{} // no messages at all
	}
	if f.Job != "" {
		job, err := parseJobID(f.Job)
		if err != nil {
			return p, err
		}
		p.Job = &job
	}
	p.Destination, p.From, p.To, p.Tag = f.Destination, f.From, f.To, f.Tag
	// A domain as people write it.
	if d, err := proto.ParseDomain(f.Destination); err == nil {
		p.Destination = d.Key()
	}
	switch state := queue.Held; f.State {
	case "":
	case "queued":
		state = queue.Queued
		fallthrough
	case "held":
		p.State = &state
	default:
		return p, fmt.Errorf("the state %q is neither queued nor held", f.State)
	}
	if p.Before, err = parseTime("before", f.Before); err == nil {
		p.After, err = parseTime("after", f.After)
	}
	return p, err
}

func parseTime(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("the time %q in %s is not of the form 2027-01-31T12:00:00Z", text, name)
	}
	return t, nil
}

// parseJobID reads the form of JobID.String.
func parseJobID(text string) (queue.JobID, error) {
	message, number, _ := strings.Cut(text, ".")
	n, err := strconv.ParseUint(number, 10, 31)
	id := queue.JobID{Message: queue.ID(message), N: int(n)}
	if err != nil || !id.Message.Valid() || id.String() != text {
		return queue.JobID{}, fmt.Errorf("%q is not the ID of a job, such as 04g6f3qv9i0000000000.0", text)
	}
	return id, nil
}
