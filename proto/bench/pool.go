package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A poolPlan is how senders with several connections are compared.
type poolPlan struct {
	rounds     int
	time       time.Duration // for each contestant in each round
	messages   int           // at most, for each contestant in each round
	conns      int
	goroutines int
	delay      time.Duration // of the replies
	without    []string      // libraries that are left out
}

// comparePools is the command "pool".
func comparePools(args []string) error {
	var p poolPlan
	flags := flag.NewFlagSet("pool", flag.ExitOnError)
	flags.IntVar(&p.rounds, "rounds", 3, "how many `rounds` of each measurement")
	flags.DurationVar(&p.time, "time", 3*time.Second, "time for each contestant in each round")
	flags.IntVar(&p.messages, "messages", 20_000, "how many `messages` a contestant sends at most in a round")
	flags.IntVar(&p.conns, "conns", 4, "how many connections each contestant has")
	flags.IntVar(&p.goroutines, "goroutines", 32, "how many callers wait for the outcome of a message each")
	flags.DurationVar(&p.delay, "delay", 50*time.Millisecond, "the round trip")
	without := flags.String("without", "", "leave out these `libraries`, separated by commas")
	limit := flags.Duration("limit", 15*time.Minute, "give up with an error after this time")
	_ = flags.Parse(args) // which exits if there is an error
	if *without != "" {
		p.without = strings.Split(*without, ",")
	}
	if flags.NArg() > 0 || min(p.rounds, p.messages, p.conns, p.goroutines) < 1 || p.time <= 0 || p.delay < 0 {
		flags.Usage()
		os.Exit(2)
	}
	time.AfterFunc(*limit, func() { exit(fmt.Errorf("not done after %v", *limit)) })
	return p.print(os.Stdout)
}

// A contestant is a library, and one of the ways in which programs send with it.
type contestant struct {
	library string
	by      string // of the role
	how     string
}

func (c contestant) title() string {
	name := c.library
	if name == nodemailer {
		name += " " + nodemailerVersion()
	}
	return strings.TrimRight(name, " ") + ", " + c.how
}

// poolContestants are the rows of the table. The others are compared with the first.
var poolContestants = []contestant{
	{"smtpkit", "Pool.Send", "`Pool.Send`"},
	{"smtpkit", "Pool.SendAll", "`Pool.SendAll`"},
	{"smtpkit", "MaxMessages", "the same with `MaxMessages: -1`"},
	{nodemailer, nodemailer, "its pool"},
	{"go-smtp", "go-smtp", "open clients in turns"},
	{"go-mail", "go-mail", "open clients in turns"},
	{"go-mail", "DialAndSend", "`DialAndSend` for each message"},
}

// contestants returns those that take part.
func (p poolPlan) contestants(all []contestant) ([]contestant, error) {
	for _, name := range p.without {
		if name == all[0].library || !slices.ContainsFunc(all, func(c contestant) bool { return c.library == name }) {
			return nil, fmt.Errorf("-without %s: it is not among the libraries that can be left out", name)
		}
	}
	out := func(c contestant) bool { return slices.Contains(p.without, c.library) }
	return slices.DeleteFunc(slices.Clone(all), out), nil
}

// print measures and writes the tables. It fails if somebody could not take part.
func (p poolPlan) print(w io.Writer) error {
	by, err := p.contestants(poolContestants)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, %s/%s, %d CPUs, %d connections, %d callers, ", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), p.conns, p.goroutines)
	fmt.Fprintf(w, "a round trip of %v, messages of 1 KB, %d rounds of %v\n", p.delay, p.rounds, p.time)
	r := role{Is: "pool", Size: 1 << 10, Rcpts: 1, Conns: p.conns, Callers: p.goroutines, Delay: p.delay}
	chunking, failed := p.measure(r, by)
	r.NoChunking = true
	data, failedData := p.measure(r, by)
	if err := errors.Join(failed, failedData); chunking == nil || data == nil {
		return err
	}
	fmt.Fprint(w, "\n| | PIPELINING and CHUNKING: messages a second | time, 1.0 = Pool.Send "+
		"| PIPELINING alone: messages a second | time, 1.0 = Pool.Send |\n|---|--:|--:|--:|--:|\n")
	for i, c := range by {
		cells := append([]string{c.title()}, rateCells(chunking[i], chunking[0])...)
		cells = append(cells, rateCells(data[i], data[0])...)
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	return errors.Join(failed, failedData, p.printSendMail(w))
}

// rateCells shows the messages a second, and the time for each as a multiple of that of base in the same round.
func rateCells(s, base score) []string {
	if s.err != nil {
		return []string{s.err.Error(), "–"}
	}
	rate := float64(time.Second) / float64(median(slices.Clone(s.wall)))
	return []string{digits(rate), multiple(s.wall, base.wall)}
}

// multiple shows the median of the ratios in each round, and the least and the largest.
func multiple(of, base []time.Duration) string {
	var ratios []float64
	for i := range of {
		ratios = append(ratios, float64(of[i])/float64(base[i]))
	}
	least, most := digits(slices.Min(ratios)), digits(slices.Max(ratios))
	if middle := digits(median(ratios)); middle != least || middle != most {
		return fmt.Sprintf("%s (%s–%s)", middle, least, most)
	}
	return least
}

// digits is a number with two digits or more.
func digits(f float64) string {
	switch {
	case f >= 10:
		return fmt.Sprintf("%.0f", f)
	case f >= 0.995:
		return fmt.Sprintf("%.1f", f)
	case f >= 0.1:
		return fmt.Sprintf("%.2f", f)
	}
	return strconv.FormatFloat(f, 'g', 2, 64)
}

// measure has the contestants take turns. The error tells who could not take part; there are no scores if that goes for
// the first.
func (p poolPlan) measure(r role, by []contestant) ([]score, error) {
	scores := make([]score, len(by))
	pairs := make([]*pair, len(by))
	defer func() {
		for _, x := range pairs {
			x.stop()
		}
	}()
	for i, c := range by {
		r.By = c.by
		x, err := startPair(r)
		if err == nil {
			pairs[i] = x
			err = p.calibrate(x)
		}
		if scores[i].err = err; err != nil && i == 0 {
			return nil, fmt.Errorf("%s: %w", c.title(), err)
		}
	}
	for range p.rounds {
		for i := range by {
			if scores[i].err == nil {
				scores[i].err = pairs[i].round(&scores[i])
			}
		}
	}
	var failed []error
	for i, c := range by {
		if err := scores[i].err; err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.title(), err))
			if !errors.Is(err, errNotInstalled) {
				scores[i].err = errors.New("failed")
			}
		}
	}
	if scores[0].err != nil {
		return nil, errors.Join(failed...)
	}
	return scores, errors.Join(failed...)
}

// calibrate finds how many messages take the time of a round: so many for each connection. It is also what makes the
// connections.
func (p poolPlan) calibrate(x *pair) error {
	for n := p.conns; ; n *= 2 {
		u, err := x.do(n)
		if err != nil {
			return err
		}
		if u.Wall >= p.time/4 || n >= p.messages {
			fit := min(int(float64(n)*float64(p.time)/float64(u.Wall)), p.messages)
			x.n = max(fit/p.conns, 1) * p.conns
			return nil
		}
	}
}
