package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "-child" {
		if err := beChild(os.Args[2]); err != nil {
			exit(err)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "floor" {
		if err := floor(os.Args[2:]); err != nil {
			exit(err)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "pool" {
		if err := comparePools(os.Args[2:]); err != nil {
			exit(err)
		}
		return
	}
	var p plan
	flag.IntVar(&p.rounds, "rounds", 5, "how many `rounds` of each measurement")
	flag.DurationVar(&p.time, "time", 150*time.Millisecond, "time for each library in each round")
	flag.BoolVar(&p.noChunking, "nochunking", false, "the sink does not advertise CHUNKING")
	limit := flag.Duration("limit", 2*time.Minute, "give up with an error after this time")
	flag.Parse()
	if flag.NArg() > 0 || p.rounds < 1 || p.time <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	time.AfterFunc(*limit, func() { exit(fmt.Errorf("not done after %v", *limit)) })
	if err := p.print(os.Stdout); err != nil {
		exit(err)
	}
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// print measures and writes the tables.
func (p plan) print(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s/%s, %d CPUs, %d rounds of %v", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), p.rounds, p.time)
	if p.noChunking {
		fmt.Fprint(w, ", without CHUNKING")
	}
	fmt.Fprint(w, "\n\n")
	var names []string
	for _, by := range serverLibraries {
		names = append(names, by.name)
	}
	head(w, "The server receives", names)
	for _, load := range serveLoads {
		figures, err := p.measureServers(load)
		if err != nil {
			return err
		}
		title := load.sizeTitle() + ", 1 connection"
		if load.conns > 1 {
			title = fmt.Sprintf("%s, %d connections", load.sizeTitle(), load.conns)
		}
		rows(w, title, figures)
	}
	fmt.Fprintln(w)
	names = nil
	for _, by := range clientLibraries {
		names = append(names, by.name)
	}
	head(w, "The client sends", names)
	for _, load := range sendLoads {
		figures, err := p.measureClients(load)
		if err != nil {
			return err
		}
		title := load.sizeTitle() + ", one a call"
		if load.batch > 1 {
			title = fmt.Sprintf("%s, batch of %d", load.sizeTitle(), load.batch)
		}
		rows(w, title, figures)
	}
	return nil
}

func head(w io.Writer, title string, names []string) {
	fmt.Fprintf(w, "| %s | per message | %s |\n", title, strings.Join(names, " | "))
	fmt.Fprintf(w, "|---|---|%s\n", strings.Repeat("--:|", len(names)))
}

// rows writes a row for each kind of figure.
func rows(w io.Writer, title string, figures []figure) {
	row := func(kind string, cell func(figure) string) {
		cells := []string{title, kind}
		for _, f := range figures {
			cells = append(cells, cell(f))
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		title = ""
	}
	kind := fmt.Sprintf("time, 1.0 = %s", short(figures[0].time))
	row(kind, func(f figure) string { return fmt.Sprintf("%.1f", f.ratio) })
	row("allocations", func(f figure) string { return fmt.Sprintf("%.0f (%s)", f.allocs, octets(f.bytes)) })
	if figures[0].trips > 0 {
		row("round trips", func(f figure) string { return fmt.Sprintf("%.3g", f.trips) })
	}
}

// short is a time with three digits.
func short(d time.Duration) string {
	if d >= time.Millisecond {
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3g µs", float64(d)/float64(time.Microsecond))
}

func octets(n float64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", n/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", n/(1<<10))
	}
	return fmt.Sprintf("%.0f B", n)
}

// sizeTitle is the size as a text has it.
func (w workload) sizeTitle() string {
	return strings.NewReplacer("K", " K", "M", " M").Replace(w.sizeName())
}
