// Throughput measures how many messages a second a mail server takes and relays: Postfix, as Debian has it, and
// examples/mta with each of its stores, in one run, in turn, on the same disk, under the same load.
//
//	go run ./.ci/throughput
//
// It runs in the root of a checkout, from which it builds examples/mta. It needs the packages postfix and strace, and
// root, since Postfix starts only as root: sudo env PATH="$PATH" go run ./.ci/throughput. Nothing of the configuration
// of the machine is read or changed. It takes ten minutes; -seconds, -loads and -systems make it shorter.
//
// A load is a size of the content, a number of recipients for each message, all at one domain, and a number of senders,
// each with one connection. The senders pipeline, and the sink keeps nothing: both are in this program, cost the
// processors little, and are the same for all systems. Each measurement begins with a second of the same load that does
// not count.
//
//	accepted   messages that got 250 for their content, a second, while nothing listens where they should be relayed to
//	meanwhile  the same, while messages are relayed to the sink
//	delivered  messages that the sink got, from the first 250 to the last message
//	µs to accept, µs to deliver   time of the processors that the system takes for a message, in these two measurements
//	others                        share of the processors that other programs had meanwhile: it should be near 0 %
//	idle                          share that nobody had, for instance since all waited for the disk
//
// Each figure is the median of -rounds; the systems take turns. The first column of figures is what the source can send
// directly to the sink: no system under test can do more.
//
// All systems are durable: the 250 comes after a sync. The run counts the system calls for this with strace, and fails
// if there are fewer than messages when one sender sends them one after the other.
//
// "Hold" is Postfix with all mail put on hold, so that it does nothing but accept. Without that it tries to relay each
// message and writes why it could not, as the others do for a site, not for a message.
//
// On a machine with neighbours look at the times of the processors, not at the rates. Files are made slowly for some
// minutes after others were removed if the file system is ext4 without a journal, which few machines have: name another
// with -dir.
//
// Postfix logs to a file, as it does when it is installed, looks up no names, and is not slowed by in_flow_delay.
// Otherwise it has its defaults, as have the others.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const maxRcpts = 50

// What is measured of a system under a load.
const (
	accepted    = iota // messages a second, with no sink
	meanwhile          // the same, with a sink
	delivered          // messages a second
	cpuAccept          // microseconds of a processor for each message
	cpuDeliver         // likewise
	others             // the largest share of the processors that others had, of 100
	idleAccept         // share of the processors that nobody had, of 100
	idleDeliver        // likewise
	figures            // how many there are
)

var figureNames = [figures]string{"accepted", "meanwhile", "delivered", "µs to accept", "µs to deliver", "others, %",
	"idle while accepting, %", "idle while delivering, %"}

type figure [figures]float64

type harness struct {
	dir      string
	seconds  time.Duration
	patience time.Duration
	rounds   int

	mu      sync.Mutex
	running *server
}

func main() {
	h := &harness{}
	mta := flag.String("mta", "", "the `program` (default: built from examples/mta)")
	names := flag.String("systems", "postfix,hold,dir,sqlite", "which to measure, a `list`")
	only := flag.String("loads", ".", "which loads, a regular `expression`, such as '^1 KB.*32 senders'")
	noSync := flag.Bool("no-strace", false, "do not count syncs")
	flag.StringVar(&h.dir, "dir", ".", "`directory` on the disk that is measured")
	flag.DurationVar(&h.seconds, "seconds", 5*time.Second, "how `long` the senders send")
	flag.DurationVar(&h.patience, "patience", 30*time.Second, "how `long` to wait for a sink that gets nothing")
	flag.IntVar(&h.rounds, "rounds", 1, "how `often` to measure everything")
	flag.Parse()
	err := h.run(*mta, *names, regexp.MustCompile(*only), !*noSync)
	if err != nil {
		fmt.Fprintln(os.Stderr, "throughput:", err)
		os.Exit(1)
	}
}

func (h *harness) run(mta, names string, only *regexp.Regexp, syncs bool) (err error) {
	if os.Getuid() != 0 {
		return errors.New("only root can start Postfix: run this as root")
	}
	if h.dir, err = workDir(h.dir); err != nil {
		return err
	}
	defer os.RemoveAll(h.dir)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		h.mu.Lock() // nothing else is started
		if h.running != nil {
			_ = h.running.stop()
		}
		os.RemoveAll(h.dir)
		os.Exit(130)
	}()
	if mta == "" && regexp.MustCompile("dir|sqlite").MatchString(names) {
		mta = filepath.Join(h.dir, "mta")
		build := exec.Command("go", "build", "-buildvcs=false", "-o", mta, ".")
		build.Dir, build.Env = "examples/mta", append(os.Environ(), "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("examples/mta: %w\n%s", err, out)
		}
	}
	all := []system{
		{name: "postfix", start: startPostfix("")}, {name: "hold", start: startPostfix(holding), holds: true},
		{name: "dir", start: startMTA(mta, "dir")}, {name: "sqlite", start: startMTA(mta, "sqlite")},
	}
	list := strings.Split(names, ",")
	systems := slices.DeleteFunc(all, func(s system) bool { return !slices.Contains(list, s.name) })
	if len(systems) != len(list) {
		return fmt.Errorf("there are no systems %q: name some of postfix, hold, dir, sqlite", names)
	}
	if syncs {
		if err := h.printSyncs(systems); err != nil {
			return err
		}
	}
	return h.printTable(systems, only)
}

// workDir makes a directory of our own below dir, which has to be on a disk.
func workDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return "", err
	}
	if fs.Type == 0x01021994 {
		return "", fmt.Errorf("%s is in memory (tmpfs): name a directory on a disk with -dir", dir)
	}
	dir, err = os.MkdirTemp(dir, ".throughput-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755) // Postfix drops root, and has to get at its queue
}

// printTable measures all systems under all loads. Ratios are to the first system.
func (h *harness) printTable(systems []system, only *regexp.Regexp) error {
	fmt.Printf("\nMessages a second, and in brackets the ratio to %s; %v of load, median of %d\n\n| load | | source to sink ",
		systems[0].name, h.seconds, h.rounds)
	for _, s := range systems {
		fmt.Printf("| %s ", s.name)
	}
	fmt.Println("|\n| --- | --- | --:" + strings.Repeat(" | --:", len(systems)) + " |")
	for _, octets := range []int{1000, 100000} {
		for _, rcpts := range []int{1, maxRcpts} {
			for _, senders := range []int{1, 32} {
				l := load{octets: octets, rcpts: rcpts, senders: senders}
				if !only.MatchString(l.String()) {
					continue
				}
				if err := h.printRows(systems, l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// printRows measures all systems under one load.
func (h *harness) printRows(systems []system, l load) error {
	ceiling, err := h.ceiling(l)
	if err != nil {
		return err
	}
	all := make([][]figure, len(systems)) // by system and round
	for range h.rounds {
		for i, s := range systems {
			var f figure
			err := h.accept(s, l, &f)
			if err == nil && !s.holds {
				err = h.deliver(s, l, &f)
			}
			if err != nil {
				return fmt.Errorf("%s, %v: %w", s.name, l, err)
			}
			all[i] = append(all[i], f)
		}
	}
	for n, name := range figureNames {
		top := ""
		if n <= delivered {
			top = fmt.Sprintf("%.0f", ceiling)
		}
		fmt.Printf("| %v | %s | %s ", l, name, top)
		first := median(all[0], n)
		for i := range all {
			value := median(all[i], n)
			if value == 0 && n <= cpuDeliver {
				fmt.Print("| ")
				continue
			}
			fmt.Printf("| %.0f ", value)
			if i > 0 && n <= cpuDeliver {
				fmt.Printf("(%.2f) ", value/first)
			}
		}
		fmt.Println("|")
	}
	return nil
}

// median returns the median of the n-th figure.
func median(rounds []figure, n int) float64 {
	var list []float64
	for _, f := range rounds {
		list = append(list, f[n])
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// ceiling returns how many messages a second go from the source to the sink.
func (h *harness) ceiling(l load) (float64, error) {
	to, err := newSink()
	if err != nil {
		return 0, err
	}
	defer to.close()
	src := &source{load: l, addr: to.addr, until: time.Now().Add(h.seconds / 2)}
	err = src.run()
	return src.rate(), err
}

// begin starts a system, and removes it and its files in the end.
func (h *harness) begin(s system, sink string, do func(addr string, srv *server) error) (err error) {
	dir, err := os.MkdirTemp(h.dir, s.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	syscall.Sync() // what others have written is not to be on our account
	h.mu.Lock()
	srv, err := s.start(dir, addr, sink)
	h.running = srv
	h.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.running = nil
		err = errors.Join(err, srv.stop())
	}()
	if err := listening(addr); err != nil {
		return fmt.Errorf("%w\n%s", err, srv.log())
	}
	if err := do(addr, srv); err != nil {
		return fmt.Errorf("%w\n%s", err, srv.log())
	}
	return nil
}

// accept finds how many messages a second the system accepts that it cannot relay.
func (h *harness) accept(s system, l load, f *figure) error {
	nobody, err := freeAddr()
	if err != nil {
		return err
	}
	return h.begin(s, nobody, func(addr string, srv *server) error {
		warm := &source{load: l, addr: addr, until: time.Now().Add(time.Second)}
		if err := warm.run(); err != nil {
			return err
		}
		src := &source{load: l, addr: addr, until: time.Now().Add(h.seconds)}
		since := newClock(srv.pid)
		err := src.run()
		f[accepted] = src.rate()
		f[cpuAccept], f[others], f[idleAccept] = since.use(src.accepted.Load())
		return err
	})
}

// deliver finds how many messages a second the system relays to the sink.
func (h *harness) deliver(s system, l load, f *figure) error {
	to, err := newSink()
	if err != nil {
		return err
	}
	defer to.close()
	return h.begin(s, to.addr, func(addr string, srv *server) error {
		due := int64(0)
		send := func(long time.Duration) (*source, error) {
			src := &source{load: l, addr: addr, until: time.Now().Add(long)}
			if err := src.run(); err != nil {
				return nil, err
			}
			due += src.accepted.Load() * int64(l.rcpts)
			if !to.wait(due, h.patience) || to.recipients.Load() > due {
				return nil, fmt.Errorf("%d of %d recipients were relayed", to.recipients.Load(), due)
			}
			return src, nil
		}
		if _, err := send(time.Second); err != nil {
			return err
		}
		since := newClock(srv.pid)
		src, err := send(h.seconds)
		if err != nil {
			return err
		}
		n := src.accepted.Load()
		f[meanwhile] = src.rate()
		f[delivered] = float64(n) / time.Duration(to.last.Load()-src.first.Load()).Seconds()
		var strangers float64
		f[cpuDeliver], strangers, f[idleDeliver] = since.use(n)
		f[others] = max(f[others], strangers)
		return nil
	})
}
