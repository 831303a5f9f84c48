package queuetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

var takeTests = []test{
	{"Take", testTake},
	{"TakeLanes", testTakeLanes},
	{"TakeAlarms", testTakeAlarms},
	{"TakeConcurrent", testTakeConcurrent},
	{"TakeAgain", testTakeAgain},
}

// testTake: the jobs with the lowest Due come first, each once, and those that are not due only if all are wanted.
func testTake(s *suite) {
	dues := []time.Duration{-3 * time.Second, 2 * time.Hour, -5 * time.Second, 0, time.Hour, -4 * time.Second,
		time.Millisecond}
	jobs := make([]*queue.Job, len(dues))
	for i, due := range dues {
		jobs[i] = s.addAt("a.example", due)
		s.addAt("b.example", due-time.Second)
	}
	l := s.claimOne("a.example")
	now := queue.Query{Now: s.now, Max: 2}
	s.wantTaken("of none", l, queue.Query{Now: s.now, All: true})
	s.wantTaken("the first two", l, now, jobs[2], jobs[5])
	s.wantTaken("the next two", l, now, jobs[0], jobs[3])
	s.wantTaken("nothing more is due", l, now)
	s.wantTaken("earlier", l, queue.Query{Now: s.now.Add(-time.Hour), Max: 10})
	s.wantTaken("a millisecond later", l, queue.Query{Now: s.now.Add(time.Millisecond), Max: 10}, jobs[6])
	// One that comes now is not behind those that are not due.
	late := s.addAt("a.example", -time.Minute)
	s.wantTaken("all, one", l, queue.Query{Now: s.now, Max: 1, All: true}, late)
	s.wantTaken("all", l, queue.Query{Now: s.now, Max: 10, All: true}, jobs[4], jobs[1])
	s.wantTaken("nothing is left", l, queue.Query{Now: s.now.Add(24 * time.Hour), Max: 10, All: true})
	s.wantTaken("nothing is left", l, queue.Query{Now: s.now.Add(24 * time.Hour), Max: 10, AlarmsOnly: true})
}

// testTakeLanes: jobs are taken from the lane that is asked for.
func testTakeLanes(s *suite) {
	var jobs [queue.Lanes][]*queue.Job
	for i := range 2 * queue.Lanes {
		m := s.mail("a.example")
		m.jobs[0].Lane = queue.Lane(queue.Lanes - 1 - i%queue.Lanes)
		m.jobs[0].Due = s.now.Add(time.Duration(i-2*queue.Lanes) * time.Second)
		jobs[m.jobs[0].Lane] = append(jobs[m.jobs[0].Lane], s.add(m).jobs[0])
	}
	l := s.claimOne("a.example")
	for lane, want := range jobs {
		q := queue.Query{Now: s.now, Lane: queue.Lane(lane), Max: 1}
		s.wantTaken(fmt.Sprintf("lane %d", lane), l, q, want[0])
		q.All, q.Max = true, 10
		s.wantTaken(fmt.Sprintf("lane %d, all", lane), l, q, want[1])
	}
	// A job changes lanes with Update.
	j := copyOf(jobs[2][0])
	j.Epoch, j.Lane = l.Epoch, 7
	s.update(l, queue.Change{Job: j})
	s.wantTaken("the old lane", l, queue.Query{Now: s.now, Lane: 2, Max: 10, All: true})
	s.wantTaken("the new lane", l, queue.Query{Now: s.now, Lane: 7, Max: 10}, j)
}

// testTakeAlarms: jobs are taken whose Alarm has come, of all lanes, with the lowest Alarm first.
func testTakeAlarms(s *suite) {
	alarms := []time.Duration{-time.Second, time.Second, -3 * time.Second, 0, -2 * time.Second}
	m := s.mail("a.example", "a.example", "a.example", "a.example", "a.example", "a.example")
	for i, alarm := range alarms {
		m.jobs[i].Lane, m.jobs[i].Alarm = queue.Lane(i), s.now.Add(alarm)
		m.jobs[i].Due = s.now.Add(time.Duration(i-2) * time.Hour)
	}
	m.jobs[5].State, m.jobs[5].Alarm = queue.Held, s.now.Add(-time.Hour)
	s.add(m)
	l := s.claimOne("a.example")
	q := queue.Query{Now: s.now, AlarmsOnly: true, Max: 2, Lane: 1}
	s.wantTaken("the first two", l, q, m.jobs[2], m.jobs[4])
	q.Max, q.All = 10, true
	s.wantTaken("the others", l, q, m.jobs[0], m.jobs[3])
	s.wantTaken("no others", l, q)
	// What was taken for its alarm is not taken for its due, and the other way round.
	s.wantTaken("due", l, queue.Query{Now: s.now, Max: 10})
	s.wantTaken("due", l, queue.Query{Now: s.now, Max: 10, Lane: 1}, m.jobs[1])
	q.Now = s.now.Add(time.Hour)
	s.wantTaken("taken already", l, q)
}

// testTakeConcurrent: no job is handed out twice.
func testTakeConcurrent(s *suite) {
	const all = 60
	m := s.mail(slices.Repeat([]string{"a.example"}, all)...)
	for i, j := range m.jobs {
		j.Alarm = s.now.Add(time.Duration(i%2*2-1) * time.Second) // it has come for every other one
	}
	s.add(m)
	l := s.claimOne("a.example")
	var lock sync.Mutex
	taken := map[queue.JobID]bool{}
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			for {
				jobs, err := s.store.Take(s.ctx, l, queue.Query{Now: s.now, Max: 3, AlarmsOnly: i == 0})
				if err != nil {
					s.Errorf("Take: %v", err)
				}
				if len(jobs) == 0 {
					return
				}
				lock.Lock()
				for _, j := range jobs {
					if taken[j.ID] {
						s.Errorf("job %s is handed out twice", j.ID)
					}
					taken[j.ID] = true
				}
				lock.Unlock()
			}
		})
	}
	group.Wait()
	if len(taken) != all {
		s.Errorf("%d jobs are handed out, want %d", len(taken), all)
	}
}

// testTakeAgain: a job can be taken again once it has been updated, under the same lease.
func testTakeAgain(s *suite) {
	s.addAt("a.example", 0)
	l := s.claimOne("a.example")
	for i := range 3 {
		j := s.take1(l)
		if j.Attempts != i {
			s.Errorf("the job has %d attempts, want %d", j.Attempts, i)
		}
		s.wantTaken("handed out", l, queue.Query{Now: s.now, Max: 10, All: true})
		j.Attempts++
		j.LastAttempt = s.now
		j.Due = s.now.Add(time.Hour)
		j.To[0].Last = &queue.Failure{Status: proto.Status{4, 2, 0}, Text: fmt.Sprint(i)}
		s.update(l, queue.Change{Job: j})
		s.wantTaken("not due", l, queue.Query{Now: s.now, Max: 10})
		s.wantJob("updated", j.ID, j)
	}
	s.release(l, time.Time{})
	s.wantClaim("released", 1, time.Hour)
}
