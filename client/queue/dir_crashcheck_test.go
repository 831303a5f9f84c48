package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

// check opens a Dir on what a loss of power has left, and returns what is wrong with it.
func (c *crashTest) check(img crashfs.Image) error {
	var log errorLog
	plain := crashTest{mode: c.mode}
	d, err := plain.open(img.FS, &log)
	if err != nil {
		return fmt.Errorf("OpenDir: %w", err)
	}
	listed, _, err := d.List(context.Background(), Filter{}, JobID{}, 1<<30)
	if err != nil {
		return fmt.Errorf("List: %w", err)
	}
	found := map[JobID]string{}
	for _, l := range listed {
		found[l.Job.ID] = jobText(l.Job)
		if err := indexed(d, l.Job); err != nil {
			return err
		}
	}
	for _, cm := range c.messages {
		if err := cm.check(d, img.Moment, found); err != nil {
			return fmt.Errorf("message %s, begun at %d, accepted at %d: %w", cm.message.ID, cm.begun, cm.accepted, err)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("%v come from nowhere", found)
	}
	if log.first != "" {
		return fmt.Errorf("logged: %s", log.first)
	}
	torn := strings.Contains(img.How, "torn")
	if torn {
		if n, err := d.Edit(context.Background(), Filter{}, Edit{Op: Hold}); n != len(listed) || err != nil {
			return fmt.Errorf("Edit has found %d jobs, %v, want %d", n, err, len(listed))
		}
	}
	if err := d.Close(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	if err := tidy(img.FS, listed); err != nil {
		return err
	}
	if torn {
		return plain.held(img.FS, len(listed))
	}
	return nil
}

// indexed compares what the index knows of a job with the files.
func indexed(d *Dir, j *Job) error {
	x := d.index.find(j.ID)
	have := jobFacts{x.ID().N, x.dest.name, x.lane, x.state, nanoTime(x.due), nanoTime(x.alarm), int(x.attempts),
		int(x.recipients), int(x.edits), 0}
	if want := factsOf(j); have != want {
		return fmt.Errorf("the index has %+v of job %s, want %+v", have, j.ID, want)
	}
	return nil
}

// held opens a Dir again, and finds that all jobs are held.
func (c *crashTest) held(disk *crashfs.FS, jobs int) error {
	d, err := c.open(disk, slog.DiscardHandler)
	if err != nil {
		return err
	}
	held := Held
	listed, _, err := d.List(context.Background(), Filter{State: &held}, JobID{}, 1<<30)
	if err != nil || len(listed) != jobs {
		return fmt.Errorf("%d jobs are held at last, %v, want %d", len(listed), err, jobs)
	}
	return d.Close()
}

// tidy reports files that have no use.
func tidy(disk *crashfs.FS, listed []Listed) error {
	for name := range disk.Files() {
		id, kind, _ := strings.Cut(name, ".")
		used := slices.ContainsFunc(listed, func(l Listed) bool { return string(l.Message.ID) == id })
		if name != "lock" && (!used || kind != "msg" && kind != "state") {
			return fmt.Errorf("the file %s is left over", name)
		}
	}
	return nil
}

// check takes the jobs of a message out of found, and returns what is wrong with them at a moment.
func (cm *crashMessage) check(d *Dir, moment int, found map[JobID]string) error {
	there, lost := false, false
	for n, versions := range cm.jobs {
		id := JobID{cm.message.ID, n}
		have := found[id]
		delete(found, id)
		there = there || have != ""
		from, to := 0, -1
		for i, v := range versions {
			if v.durable <= moment {
				from = i
			}
			if v.begun <= moment {
				to = i
			}
		}
		if slices.ContainsFunc(versions[from:to+1], func(v crashVersion) bool { return v.job == have }) {
			continue
		}
		if have != "" {
			return fmt.Errorf("job %d is %s, want one of %+v", n, have, versions[from:to+1])
		}
		lost = true
	}
	if lost && (cm.accepted <= moment || there) {
		return errors.New("jobs are lost")
	}
	if !there {
		return nil
	}
	return cm.checkContent(d)
}

func (cm *crashMessage) checkContent(d *Dir) error {
	m, err := d.Message(context.Background(), cm.message.ID)
	if err != nil {
		return err
	}
	want, _ := cm.message.MarshalJSON()
	if have, _ := m.MarshalJSON(); !bytes.Equal(have, want) {
		return fmt.Errorf("it is %s, want %s", have, want)
	}
	content, err := d.Open(context.Background(), cm.message.ID)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.NewSectionReader(content, 0, content.Size()))
	if err == nil {
		err = content.Close()
	}
	if err == nil && !bytes.Equal(b, cm.content) {
		err = errors.New("the content is another one")
	}
	return err
}

// An errorLog keeps the first error that is logged.
type errorLog struct {
	slog.Handler
	mu    sync.Mutex
	first string
}

func (l *errorLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l *errorLog) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *errorLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = r.Message
		r.Attrs(func(a slog.Attr) bool {
			l.first += " " + a.String()
			return true
		})
	}
	return nil
}

// checkAll checks the images of all moments, and of what OpenDir does to every tenth of them. It returns their number.
func (c *crashTest) checkAll(random int, rng *rand.Rand) (images int, err error) {
	for img := range c.disk.Images(0, random, rng) {
		images++
		err := c.check(img)
		for again := range img.FS.Images(1, 0, rng) {
			if err != nil || images%10 != 0 {
				break
			}
			images++
			again.Moment = img.Moment
			if err = c.check(again); err != nil {
				err = fmt.Errorf("after OpenDir, power lost again, %s left: %w", again.How, err)
			}
		}
		if err != nil {
			return images, fmt.Errorf("power lost at moment %d, %s left of what was not synced: %w", img.Moment, img.How, err)
		}
	}
	return images, nil
}
