package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
)

// flies reports whether an outcome was in flight at a kill: it was not long before, or what the receiver had was still
// on the wire, or a report had not arrived yet.
func (o outcome) flies(kill time.Time) bool { return !kill.Before(o.opened) && kill.Sub(o.at) < flight }

// trace returns what the logs say of a message.
func (s *siege) trace(d delivery) string {
	var lines []string
	if s.to.name[d.id] == "" {
		return "its name in the log is not known"
	}
	for i, p := range s.processes {
		for _, line := range p.grep(s.to.name[d.id]) {
			lines = append(lines, fmt.Sprintf("in round %d: %s", i, line))
		}
	}
	return strings.Join(lines, "\n")
}

// look reads what is new in the Maildirs: the mail of bob, and the reports to alice.
func (s *siege) look() {
	for _, user := range []string{"bob", "alice"} {
		box := filepath.Join(s.dir, "mail/a.example", user, "new")
		files, err := os.ReadDir(box)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.t.Fatal(err)
		}
		for _, f := range files {
			if s.read[f.Name()] {
				continue
			}
			s.read[f.Name()] = true
			text, err1 := os.ReadFile(filepath.Join(box, f.Name()))
			info, err2 := f.Info()
			if err := errors.Join(err1, err2); err != nil {
				s.t.Fatal(err)
			}
			s.letter(user, string(text), info.ModTime())
		}
	}
}

// letter records a message in a Maildir.
func (s *siege) letter(user, text string, at time.Time) {
	if user == "bob" {
		id, fault := inspect(text)
		if fault != "" {
			s.t.Error(fault)
		}
		d := delivery{id, "bob@a.example"}
		s.boxed[d] = append(s.boxed[d], outcome{at, at})
		return
	}
	r, err := report.Parse(strings.NewReader(text))
	if err != nil {
		s.t.Errorf("alice has got no report but %.500q: %v", text, err)
		return
	}
	for _, to := range r.Recipients {
		if to.Action == ehlo.Failed {
			d := delivery{r.Original.Get("Message-ID"), to.Final.Address}
			since := to.LastAttempt // the report may have arrived in a later round, and in one after that once more
			if since.IsZero() {
				since = at
			}
			s.reported[d] = append(s.reported[d], outcome{at, since})
			if m := queued.FindStringSubmatch("Received: " + r.Original.Get("Received")); m != nil {
				s.to.mu.Lock()
				s.to.name[d.id] = m[1]
				s.to.mu.Unlock()
			}
		}
	}
}

// missing returns what was accepted and has no outcome.
func (s *siege) missing() (list []delivery) {
	s.look()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	for d := range s.accepted {
		if len(s.to.got[d])+len(s.boxed[d])+len(s.reported[d]) == 0 {
			list = append(list, d)
		}
	}
	return list
}

// judge says what was lost, changed, or came twice without a reason.
func (s *siege) judge() {
	if missing := s.missing(); len(missing) > 0 {
		s.t.Errorf("of %d deliveries that were accepted, %d are lost: %v", len(s.accepted), len(missing),
			missing[:min(20, len(missing))])
	}
	for _, fault := range s.to.wrong {
		s.t.Error(fault)
	}
	twice, without := 0, 0
	outcomes := map[delivery][]outcome{}
	for _, from := range []map[delivery][]outcome{s.to.got, s.boxed, s.reported} {
		for d, at := range from {
			outcomes[d] = append(outcomes[d], at...)
		}
	}
	for d, at := range outcomes {
		twice += len(at) - 1
		// One is the outcome. Each other one was in flight at a kill, or is a report that was written before one: it may
		// arrive last.
		firm := slices.DeleteFunc(slices.Clone(at), func(o outcome) bool { return slices.ContainsFunc(s.kills, o.flies) })
		if len(firm) > 1 {
			without += len(firm) - 1
			s.t.Errorf("%v has %d outcomes, and no kill was near those of %v; the kills were at %v:\n%s", d, len(at), firm,
				s.kills, s.trace(d))
		}
	}
	queued := stored(s.t, s.flags)
	for d := range queued {
		if len(outcomes[d]) > 0 {
			s.t.Errorf("%v is done and still queued", d)
		}
	}
	s.t.Logf("%d kills: %d deliveries accepted, %d delivered, %d reported, %d queued, %d came twice, "+
		"%d of these without a reason",
		len(s.kills), len(s.accepted), len(s.to.got)+len(s.boxed), len(s.reported), len(queued), twice, without)
}
