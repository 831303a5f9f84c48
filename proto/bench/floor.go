package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A floorPlan is how the distance to the floor is measured.
type floorPlan struct {
	rounds  int
	time    time.Duration // for each contestant in each round
	rows    *regexp.Regexp
	profile string // a directory for CPU profiles of smtpkit
}

// floor is the command "floor".
func floor(args []string) error {
	var p floorPlan
	flags := flag.NewFlagSet("floor", flag.ExitOnError)
	flags.IntVar(&p.rounds, "rounds", 3, "how many `rounds` of each measurement")
	flags.DurationVar(&p.time, "time", 300*time.Millisecond, "time for each contestant in each round")
	rows := flags.String("rows", "", "measure only rows whose title matches this `regexp`")
	flags.StringVar(&p.profile, "profile", "", "write CPU profiles of smtpkit into this `directory`")
	limit := flags.Duration("limit", 15*time.Minute, "give up with an error after this time")
	_ = flags.Parse(args) // which exits if there is an error
	var err error
	if p.rows, err = regexp.Compile(*rows); err != nil {
		return err
	}
	if flags.NArg() > 0 || p.rounds < 1 || p.time <= 0 {
		flags.Usage()
		os.Exit(2)
	}
	if runtime.GOOS != "linux" {
		return errors.New("the processor time of each end is measured on Linux only: here, use the command without \"floor\"")
	}
	time.AfterFunc(*limit, func() { exit(fmt.Errorf("not done after %v", *limit)) })
	return p.print(os.Stdout)
}

// A row is one kind of work, done by several contestants.
type row struct {
	title string
	role  role // of the contestant; By is filled in
	by    []string
	show  func(row, []score) []string // the cells; nil for CPU as multiples of the first contestant's
}

// A score is what a contestant did for one message, in each round.
type score struct {
	cpu    []time.Duration
	wall   []time.Duration
	allocs []float64
	peak   int64
	err    error // why it could not take part
}

var (
	servers     = []string{"raw", "smtpkit", "go-smtp", "smtp-sink"}
	serversTLS  = []string{"raw", "smtpkit", "go-smtp"}
	clients     = []string{"raw", "smtpkit", "go-smtp", "net/smtp", "go-mail", "smtp-source"}
	floorTables = []struct {
		title, head string
		rows        []row
	}{
		{"Servers", "processor time of the server for a message", []row{
			{"PIPELINING, 1 KB, 8 connections", role{Is: "server", Kind: "data", Size: 1 << 10, Rcpts: 1, Conns: 8}, servers, nil},
			{"the same in TLS", role{Is: "server", Kind: "data", Size: 1 << 10, Rcpts: 1, Conns: 8, TLS: true}, serversTLS, nil},
			{"PIPELINING, 50 recipients, 8 connections", role{Is: "server", Kind: "data", Size: 1 << 10, Rcpts: 50, Conns: 8}, servers, nil},
			{"BDAT, 100 KB", role{Is: "server", Kind: "bdat", Size: 100_000, Rcpts: 1, Conns: 1}, serversTLS, nil},
			{"BDAT, 10 MB", role{Is: "server", Kind: "bdat", Size: 10_000_000, Rcpts: 1, Conns: 1}, serversTLS, nil},
			{"a new connection for each message", role{Is: "server", Kind: "new", Size: 1 << 10, Rcpts: 1, Conns: 1}, servers, nil},
		}},
		{"Clients", "processor time of the client for a message", []row{
			{"one a call, 1 KB", role{Is: "client", Size: 1 << 10, Rcpts: 1}, clients, nil},
			{"one a call, 100 KB", role{Is: "client", Size: 100_000, Rcpts: 1}, clients, nil},
			{"one a call, 10 MB", role{Is: "client", Size: 10_000_000, Rcpts: 1}, clients, nil},
			{"batch of 1000, 1 KB", role{Is: "client", Size: 1 << 10, Rcpts: 1, Batch: 1000}, clients, nil},
			{"batch of 1000, 50 recipients", role{Is: "client", Size: 1 << 10, Rcpts: 50, Batch: 1000}, clients, nil},
			{"batch of 1000, 200 recipients", role{Is: "client", Size: 1 << 10, Rcpts: 200, Batch: 1000}, clients, nil},
		}},
		{"Allocations", "allocations of the client for a message", []row{
			{"allocations, 1 KB, 1 recipient", role{Is: "client", Size: 1 << 10, Rcpts: 1, Batch: 1000}, clients[1:5], showAllocs},
			{"allocations, 1 KB, 50 recipients", role{Is: "client", Size: 1 << 10, Rcpts: 50, Batch: 1000}, clients[1:5], showAllocs},
		}},
		{"A long line", "messages a second over one connection with a round trip of 50 ms", []row{
			{"long line, 1 KB", role{Is: "client", Size: 1 << 10, Rcpts: 1, Batch: 5000, Delay: 50 * time.Millisecond}, clients[1:5], showRate},
		}},
	}
)

// print measures and writes the tables.
func (p floorPlan) print(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s/%s, %d CPUs, %d rounds of %v\n", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), p.rounds, p.time)
	for _, t := range floorTables {
		var columns []string
		for _, r := range t.rows {
			if !p.rows.MatchString(r.title) {
				continue
			}
			scores, err := p.measure(r)
			if err != nil {
				return fmt.Errorf("%s: %w", r.title, err)
			}
			if columns == nil {
				columns = r.by
				fmt.Fprintf(w, "\n| %s: %s | %s |\n|---|%s\n", t.title, t.head, strings.Join(columns, " | "),
					strings.Repeat("--:|", len(columns)))
			}
			show := r.show
			if show == nil {
				show = showRatios
			}
			cells := show(r, scores)
			for len(cells) < len(columns) {
				cells = append(cells, "–")
			}
			fmt.Fprintf(w, "| %s | %s |\n", r.title, strings.Join(cells, " | "))
		}
	}
	if err := p.printGrowth(w); err != nil {
		return err
	}
	return p.printIdle(w)
}

// measure has the contestants of a row take turns.
func (p floorPlan) measure(r row) ([]score, error) {
	scores := make([]score, len(r.by))
	pairs := make([]*pair, len(r.by))
	defer func() {
		for _, x := range pairs {
			x.stop()
		}
	}()
	for i, by := range r.by {
		who := r.role
		who.By = by
		if p.profile != "" && by == "smtpkit" {
			who.Profile = filepath.Join(p.profile, strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(r.title)+".prof")
		}
		x, err := startPair(who)
		if err == nil {
			pairs[i] = x
			err = x.calibrate(p.time)
		}
		if err := failure(r, i, err); err != nil {
			if scores[i].err = err; by == "raw" || by == "smtpkit" {
				return nil, err
			}
		}
	}
	for range p.rounds {
		for i := range scores {
			if scores[i].err != nil {
				continue
			}
			if err := failure(r, i, pairs[i].round(&scores[i])); err != nil {
				if scores[i].err = err; r.by[i] == "raw" || r.by[i] == "smtpkit" {
					return nil, err
				}
			}
		}
	}
	return scores, nil
}

// failure reports that a contestant has failed, and returns what stands in the table for it.
func failure(r row, i int, err error) error {
	if err == nil || errors.Is(err, errNotInstalled) {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: %s: %v\n", r.title, r.by[i], err)
	return errors.New("failed")
}

// showRatios shows CPU as multiples of that of the first contestant in the same round.
func showRatios(_ row, scores []score) []string {
	cells := []string{short(median(slices.Clone(scores[0].cpu)))}
	for _, s := range scores[1:] {
		if s.err != nil {
			cells = append(cells, s.err.Error())
			continue
		}
		var ratios []float64
		for i := range s.cpu {
			ratios = append(ratios, float64(s.cpu[i])/float64(scores[0].cpu[i]))
		}
		cells = append(cells, fmt.Sprintf("**%.2f** (%.2f–%.2f), %s", median(slices.Clone(ratios)), slices.Min(ratios),
			slices.Max(ratios), short(median(slices.Clone(s.cpu)))))
	}
	return cells
}

func showAllocs(_ row, scores []score) []string {
	var cells []string
	for _, s := range scores {
		if s.err != nil {
			cells = append(cells, s.err.Error())
			continue
		}
		cells = append(cells, fmt.Sprintf("%.1f", median(slices.Clone(s.allocs))))
	}
	return cells
}

func showRate(_ row, scores []score) []string {
	var cells []string
	for _, s := range scores {
		if s.err != nil {
			cells = append(cells, s.err.Error())
			continue
		}
		cells = append(cells, fmt.Sprintf("%.0f", float64(time.Second)/float64(median(slices.Clone(s.wall)))))
	}
	return cells
}
