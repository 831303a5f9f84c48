package main

import (
	"bytes"
	"errors"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// sendMailRows are the titles of the table of SendMail.
var sendMailRows = []string{"loopback, processor time", "loopback, time", "a round trip of 1ms, time"}

func init() {
	if runtime.GOOS != "linux" {
		sendMailRows = sendMailRows[1:]
	}
}

// smallPool is the command with as little to do as it can have.
var smallPool = poolPlan{
	rounds: 1, time: time.Millisecond, messages: 9, conns: 2, goroutines: 5, delay: time.Millisecond,
}

// tableRows returns the rows of all tables in Markdown, without their heads, and the cells of each.
func tableRows(text string) (rows [][]string) {
	body := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "|---"):
			body = true
		case line == "":
			body = false
		case body:
			rows = append(rows, strings.Split(strings.Trim(line, "| "), " | "))
		}
	}
	return rows
}

// number is what a cell has that was measured: a figure, perhaps with the least and the largest.
var number = regexp.MustCompile(`^\d+(\.\d+)?( \(\d+(\.\d+)?–\d+(\.\d+)?\)| m?s| µs)?$`)

// TestPoolPrints runs the command. Nodemailer takes part if it is installed.
func TestPoolPrints(t *testing.T) {
	var b bytes.Buffer
	err := smallPool.print(&b)
	installed := nodemailerVersion() != ""
	if installed && err != nil || !installed && !errors.Is(err, errNotInstalled) {
		t.Errorf("nodemailer is installed: %v; the error is %v", installed, err)
	}
	rows := tableRows(b.String())
	var titles []string
	for _, row := range rows {
		titles = append(titles, row[0])
		missing := strings.HasPrefix(row[0], nodemailer) && !installed
		if len(row) != 5 {
			t.Errorf("row %q", row)
		}
		for _, cell := range row[1:] {
			if !missing && !number.MatchString(cell) {
				t.Errorf("%s: %q is no number", row[0], cell)
			}
		}
	}
	var want []string
	for _, c := range poolContestants {
		want = append(want, c.title())
	}
	want = append(want, sendMailRows...)
	if !slices.Equal(titles, want) {
		t.Fatalf("rows %q, want %q:\n%s", titles, want, &b)
	}
	for _, at := range []int{2, 4} {
		if cell := rows[0][at]; cell != "1.0" {
			t.Errorf("the first is %s times itself", cell)
		}
	}
}

// TestPoolWithoutNodemailer looks for Node.js where it is not.
func TestPoolWithoutNodemailer(t *testing.T) {
	defer func(old []string) { nodePrograms = old }(nodePrograms)
	nodePrograms = []string{"/nowhere/node"}
	p := smallPool
	p.without = []string{"go-smtp", "go-mail"}
	var b bytes.Buffer
	if err := p.print(&b); !errors.Is(err, errNotInstalled) {
		t.Errorf("the error is %v", err)
	}
	want := []string{"nodemailer, its pool", "not installed", "–", "not installed", "–"}
	if rows := tableRows(b.String()); len(rows) != 4+len(sendMailRows) || !slices.Equal(rows[3], want) {
		t.Errorf("the table is\n%s", &b)
	}
	b.Reset()
	p.without = append(p.without, nodemailer)
	if err := p.print(&b); err != nil || len(tableRows(b.String())) != 3+len(sendMailRows) {
		t.Errorf("left out: %v\n%s", err, &b)
	}
	for _, name := range []string{"smtpkit", "nobody"} {
		p.without = []string{name}
		if err := p.print(&b); err == nil {
			t.Errorf("%s can be left out", name)
		}
	}
}

// TestPoolMeasuresFailure has a contestant that cannot send. The others are measured.
func TestPoolMeasuresFailure(t *testing.T) {
	r := role{Is: "pool", Size: 100, Rcpts: 1, Conns: 1, Callers: 1}
	ghost := contestant{"ghost", "ghost", "its pool"}
	scores, err := smallPool.measure(r, []contestant{poolContestants[0], ghost})
	if err == nil || !strings.Contains(err.Error(), "ghost, its pool") || len(scores) != 2 {
		t.Fatalf("%v, %v", scores, err)
	}
	if len(scores[0].wall) != 1 || strings.Join(rateCells(scores[1], scores[0]), " ") != "failed –" {
		t.Errorf("%v", scores)
	}
	if scores, err = smallPool.measure(r, []contestant{ghost, poolContestants[0]}); err == nil || scores != nil {
		t.Errorf("nothing to compare with: %v, %v", scores, err)
	}
}

// TestPoolConnections counts the connections of each contestant at the other end.
func TestPoolConnections(t *testing.T) {
	for _, c := range poolContestants {
		s, err := startSink(sinkOptions{delay: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		r := role{Is: "pool", By: c.by, Size: 100, Rcpts: 1, Conns: 2, Callers: 7, Addr: s.Addr()}
		start := spawn
		if c.library == nodemailer {
			start = spawnNode
		}
		p, err := start(r)
		if err == nil {
			_, err = p.do("run 40")
			err = errors.Join(err, p.stop())
		}
		if got := s.messages.Load(); err == nil && got != 40 {
			t.Errorf("%s: %d messages arrived of 40", c.title(), got)
		}
		if err != nil && (c.library != nodemailer || !errors.Is(err, errNotInstalled)) {
			t.Errorf("%s: %v", c.title(), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err == nil && (s.most < 1 || s.most > r.Conns) {
			t.Errorf("%s: %d connections at once, want %d", c.title(), s.most, r.Conns)
		}
	}
}

// TestMultiple compares within each round: the machine is slow in the second.
func TestMultiple(t *testing.T) {
	base := []time.Duration{1000, 10_000, 2000}
	for want, of := range map[string][]time.Duration{
		"2.5 (1.5–4.0)":        {4000, 25_000, 3000},
		"0.50 (0.10–0.75)":     {500, 1000, 1500},
		"1.0":                  base,
		"1.0 (0.95–1.0)":       {999, 9500, 1998},
		"0.0098 (0.0095–0.01)": {10, 98, 19},
		"12":                   {12_000, 120_000, 24_000},
	} {
		if got := multiple(of, base); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
