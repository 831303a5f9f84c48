package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A series is one kind of work in growing amounts. Its figures are to be flat.
type series struct {
	title string
	unit  string
	role  role
	steps []int
	set   func(r *role, n int)
	per   func(r *role) float64 // how many units a message has
	peak  bool                  // show how much memory the process had at most
}

var growth = []series{
	{"server, connections", "message", role{Is: "server", Kind: "data", Size: 1 << 10, Rcpts: 1},
		[]int{1, 10, 100, 1000}, func(r *role, n int) { r.Conns = n }, func(*role) float64 { return 1 }, false},
	{"server, recipients", "recipient", role{Is: "server", Kind: "data", Size: 1 << 10, Conns: 1},
		[]int{1, 10, 100, 1000}, func(r *role, n int) { r.Rcpts = n }, func(r *role) float64 { return float64(r.Rcpts) }, false},
	{"server, octets by BDAT", "KB", role{Is: "server", Kind: "bdat", Rcpts: 1, Conns: 1},
		[]int{1000, 100_000, 10_000_000, 100_000_000}, setSize, perKB, true},
	{"client, recipients", "recipient", role{Is: "client", Size: 1 << 10, Batch: 100},
		[]int{1, 10, 100, 1000}, func(r *role, n int) { r.Rcpts = n }, func(r *role) float64 { return float64(r.Rcpts) }, false},
	{"client, messages in a batch", "message", role{Is: "client", Size: 1 << 10, Rcpts: 1},
		[]int{1, 10, 100, 1000}, func(r *role, n int) { r.Batch = n }, func(*role) float64 { return 1 }, false},
	{"client, octets", "KB", role{Is: "client", Rcpts: 1},
		[]int{1000, 100_000, 10_000_000, 50_000_000}, setSize, perKB, true},
}

func setSize(r *role, n int) { r.Size = n }

func perKB(r *role) float64 { return float64(r.Size) / 1000 }

// printGrowth writes a table of what smtpkit costs for growing amounts of work, beside the floor.
func (p floorPlan) printGrowth(w io.Writer) error {
	begun := false
	for _, s := range growth {
		if !p.rows.MatchString("growth of " + s.title) {
			continue
		}
		cells := []string{"growth of " + s.title + ", processor time for a " + s.unit}
		for _, n := range s.steps {
			r := row{title: s.title, role: s.role, by: []string{"raw", "smtpkit"}}
			s.set(&r.role, n)
			scores, err := p.measure(r)
			if err != nil {
				return fmt.Errorf("growth of %s, %d: %w", s.title, n, err)
			}
			raw, ours := median(scores[0].cpu), median(scores[1].cpu)
			cpu := time.Duration(float64(ours) / s.per(&r.role))
			cell := fmt.Sprintf("%d: %s, %.1f × raw", n, short(cpu), float64(ours)/float64(raw))
			if s.peak {
				cell += ", " + octets(float64(scores[1].peak))
			}
			cells = append(cells, cell)
		}
		if !begun {
			fmt.Fprint(w, "\n| Growth of smtpkit | | | | |\n|---|--:|--:|--:|--:|\n")
			begun = true
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	return nil
}

// printIdle writes a table of what a connection holds that waits behind EHLO.
func (p floorPlan) printIdle(w io.Writer) error {
	begun := false
	for _, row := range []struct {
		title string
		conns int
		tls   bool
	}{
		{"idle, plain, 2,000 connections", 2000, false},
		{"idle, TLS, 2,000 connections", 2000, true},
		{"idle, plain, 15,000 connections", 15_000, false},
	} {
		if !p.rows.MatchString(row.title) {
			continue
		}
		cells := []string{row.title}
		for _, by := range serversTLS {
			n, err := idle(role{Is: "server", By: by, Kind: "idle", Conns: row.conns, TLS: row.tls})
			if err != nil {
				return fmt.Errorf("%s: %s: %w", row.title, by, err)
			}
			cells = append(cells, fmt.Sprint(n))
		}
		if !begun {
			fmt.Fprint(w, "\n| Memory: resident octets for an idle connection | raw | smtpkit | go-smtp |\n|---|--:|--:|--:|\n")
			begun = true
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	return nil
}

// idle returns how many octets a connection holds.
func idle(r role) (int64, error) {
	test, err := spawn(r)
	if err != nil {
		return 0, err
	}
	defer test.stop()
	before, err := test.do("idle")
	if err != nil {
		return 0, err
	}
	l := r
	l.Is, l.Core, l.Addr = "load", 1, test.addr
	peer, err := spawn(l)
	if err != nil {
		return 0, err
	}
	defer peer.stop()
	time.Sleep(2 * time.Second) // a server may let go of buffers only when a client has been silent for a while
	after, err := test.do("idle")
	return (after.Resident - before.Resident) / int64(r.Conns), err
}
