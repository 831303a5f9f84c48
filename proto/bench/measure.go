package main

import (
	"errors"
	"runtime"
	"slices"
	"time"
)

// A figure is what one library costs for one message of a workload.
type figure struct {
	time   time.Duration
	ratio  float64 // of the time to that of the first library in the same round
	allocs float64
	bytes  float64 // allocated
	trips  float64 // round trips; zero if they were not counted
}

// A plan says how much is measured.
type plan struct {
	rounds int
	time   time.Duration // for each job in each round

	noChunking bool // the sink does not advertise CHUNKING
}

// measure runs jobs in turns. The first one is what the others are compared with. A job is run with multiples of step
// messages.
func (p plan) measure(jobs []job, step int) ([]figure, error) {
	counts := make([]int, len(jobs))
	for i, j := range jobs {
		n, err := p.count(j, step)
		if err != nil {
			return nil, err
		}
		counts[i] = n
	}
	samples := make([][]figure, len(jobs))
	for range p.rounds {
		for i, j := range jobs {
			f, err := sample(j, counts[i])
			if err != nil {
				return nil, err
			}
			samples[i] = append(samples[i], f)
		}
	}
	figures := make([]figure, len(jobs))
	for i := range jobs {
		figures[i] = summary(samples[i], samples[0])
	}
	return figures, nil
}

// count finds how many messages a job transfers in the time of a round. It is also what warms the job up.
func (p plan) count(j job, step int) (int, error) {
	for n := step; ; n *= 2 {
		start := time.Now()
		if err := j.Run(n); err != nil {
			return 0, err
		}
		if d := time.Since(start); d >= p.time/4 {
			return max(int(float64(n)*float64(p.time)/float64(d))/step, 1) * step, nil
		}
	}
}

// sample runs a job once.
func sample(j job, n int) (figure, error) {
	runtime.GC() // so that no library pays for the garbage of another
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := j.Run(n)
	d := time.Since(start)
	runtime.ReadMemStats(&after)
	return figure{
		time:   d / time.Duration(n),
		allocs: float64(after.Mallocs-before.Mallocs) / float64(n),
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
	}, err
}

// summary returns the medians of all rounds. Base has the figures of the first library in the same rounds.
func summary(samples, base []figure) figure {
	of := func(value func(round int) float64) float64 {
		values := make([]float64, len(samples))
		for round := range values {
			values[round] = value(round)
		}
		return median(values)
	}
	return figure{
		time:   time.Duration(of(func(i int) float64 { return float64(samples[i].time) })),
		ratio:  of(func(i int) float64 { return float64(samples[i].time) / float64(base[i].time) }),
		allocs: of(func(i int) float64 { return samples[i].allocs }),
		bytes:  of(func(i int) float64 { return samples[i].bytes }),
	}
}

func median[T ~int64 | ~float64](values []T) T {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// measureServers returns a figure for each of serverLibraries.
func (p plan) measureServers(load workload) ([]figure, error) {
	var jobs []job
	for _, by := range serverLibraries {
		j, err := openServe(by, load)
		if err != nil {
			return nil, errors.Join(err, closeAll(jobs))
		}
		jobs = append(jobs, j)
	}
	figures, err := p.measure(jobs, load.conns)
	return figures, errors.Join(err, closeAll(jobs))
}

// measureClients returns a figure for each of clientLibraries.
func (p plan) measureClients(load workload) ([]figure, error) {
	var jobs []job
	for _, by := range clientLibraries {
		j, err := openSend(by, load, sinkOptions{noChunking: p.noChunking})
		if err != nil {
			return nil, errors.Join(err, closeAll(jobs))
		}
		jobs = append(jobs, j)
	}
	figures, err := p.measure(jobs, load.batch)
	if err := errors.Join(err, closeAll(jobs)); err != nil {
		return nil, err
	}
	for i, by := range clientLibraries {
		if figures[i].trips, err = p.countTrips(by, load); err != nil {
			return nil, err
		}
	}
	return figures, nil
}

const (
	// quiet is how long a client sends nothing when it waits for the server. While round trips are counted, nothing is
	// timed.
	quiet = 5 * time.Millisecond
	// tripRuns is how often round trips are counted. The fewest are true: on a busy machine a client may be slow.
	tripRuns = 2
)

// countTrips returns how many round trips a library makes for a message.
func (p plan) countTrips(by clientLibrary, load workload) (trips float64, err error) {
	j, err := openSend(by, load, sinkOptions{quiet: quiet, noChunking: p.noChunking})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if err := j.Run(1); err != nil { // EHLO may come with the first message
		return 0, err
	}
	var counts []int64
	for range tripRuns {
		before := j.sink.trips.Load()
		if err := j.Run(load.batch); err != nil {
			return 0, err
		}
		counts = append(counts, j.sink.trips.Load()-before)
	}
	return float64(slices.Min(counts)) / float64(load.batch), nil
}

func closeAll(jobs []job) error {
	var errs []error
	for _, j := range jobs {
		errs = append(errs, j.Close())
	}
	return errors.Join(errs...)
}
