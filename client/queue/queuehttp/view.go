package queuehttp

import (
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// A messageView is a message in JSON.
type messageView struct {
	ID           queue.ID   `json:"id"`
	Arrived      time.Time  `json:"arrived"`
	From         string     `json:"from"`
	Params       []string   `json:"params,omitempty"`
	ReceivedFrom string     `json:"received_from,omitempty"`
	Tag          string     `json:"tag,omitempty"`
	Size         int64      `json:"size"`
	Jobs         []*jobView `json:"jobs,omitempty"`
	Next         string     `json:"next,omitempty"`
}

// A jobView is a job in JSON.
type jobView struct {
	ID          string          `json:"id"`
	Message     *messageView    `json:"message,omitempty"`
	Destination string          `json:"destination"`
	State       string          `json:"state"`
	Why         string          `json:"why,omitempty"`
	Lane        queue.Lane      `json:"lane"`
	Due         time.Time       `json:"due"`
	Alarm       time.Time       `json:"alarm"`
	Expires     time.Time       `json:"expires"`
	Attempts    int             `json:"attempts"`
	LastAttempt *time.Time      `json:"last_attempt,omitempty"`
	Told        bool            `json:"told"`
	Recipients  []recipientView `json:"recipients"`
}

// A recipientView is a recipient in JSON.
type recipientView struct {
	Address string       `json:"address"`
	Params  []string     `json:"params,omitempty"`
	Last    *failureView `json:"last,omitempty"`
}

// A failureView says in JSON what happened at the last attempt.
type failureView struct {
	Status string `json:"status"`
	Code   int    `json:"code,omitempty"`
	Reply  string `json:"reply,omitempty"`
	Host   string `json:"host,omitempty"`
	Text   string `json:"text,omitempty"`
}

// A shapeView is a row of Shape in JSON. The key of Ages is the age below which the jobs are.
type shapeView struct {
	Destination string         `json:"destination"`
	Jobs        int            `json:"jobs"`
	Held        int            `json:"held"`
	Recipients  int            `json:"recipients"`
	Oldest      time.Time      `json:"oldest"`
	Ages        map[string]int `json:"ages"`
}

// A siteView is a SiteState in JSON.
type siteView struct {
	Site       string          `json:"site"`
	Window     float64         `json:"window"`
	Busy       int             `json:"busy"`
	Loaded     int             `json:"loaded"`
	Suspended  *suspensionView `json:"suspended,omitempty"`
	ByOperator bool            `json:"by_operator"`
	LastError  string          `json:"last_error,omitempty"`
}

type suspensionView struct {
	Until time.Time `json:"until"`
	Why   string    `json:"why,omitempty"`
}

func viewMessage(m *queue.Message) *messageView {
	v := &messageView{ID: m.ID, Arrived: m.Arrived, From: m.From.String(), Tag: m.Tag, Size: m.Size}
	if v.From == "" {
		v.From = "<>"
	}
	v.Params = viewParams(m.Params)
	v.ReceivedFrom = m.ReceivedFrom.Name
	if c := m.ReceivedFrom.Comment; c != "" {
		v.ReceivedFrom += " (" + c + ")"
	}
	return v
}

func viewParams(params proto.Params) []string {
	var list []string
	for _, p := range params {
		text := p.Key
		if p.HasValue {
			text += "=" + p.Value
		}
		list = append(list, text)
	}
	return list
}

func viewJob(j *queue.Job) *jobView {
	v := &jobView{
		ID: j.ID.String(), Destination: j.Destination, State: j.State.String(), Why: j.Why, Lane: j.Lane,
		Due: j.Due, Alarm: j.Alarm, Expires: j.Expires, Attempts: j.Attempts, Told: j.Told,
	}
	if !j.LastAttempt.IsZero() {
		v.LastAttempt = &j.LastAttempt
	}
	for _, r := range j.To {
		rv := recipientView{Address: r.Address.String(), Params: viewParams(r.Params)}
		if f := r.Last; f != nil {
			rv.Last = &failureView{Status: f.Status.String(), Code: f.Reply.Code, Reply: f.Reply.Text, Host: f.Host,
				Text: f.Text}
		}
		v.Recipients = append(v.Recipients, rv)
	}
	return v
}

// ageNames are the keys of shapeView.Ages.
func ageNames() []string {
	var names []string
	for _, limit := range queue.ShapeAges {
		names = append(names, "under "+shortDuration(limit))
	}
	return append(names, "older")
}

func viewShape(s *queue.Shape, names []string) shapeView {
	v := shapeView{Destination: s.Destination, Jobs: s.Jobs, Held: s.Held, Recipients: s.Recipients, Oldest: s.Oldest,
		Ages: map[string]int{}}
	for i, n := range s.Ages {
		if n > 0 {
			v.Ages[names[i]] = n
		}
	}
	return v
}

func viewSite(s *queue.SiteState) siteView {
	v := siteView{Site: s.Site, Window: s.Window, Busy: s.Busy, Loaded: s.Loaded, ByOperator: s.ByOperator,
		LastError: s.LastError}
	if s.Suspension != nil {
		v.Suspended = &suspensionView{s.Suspension.Until, s.Suspension.Why}
	}
	return v
}
