package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
)

// A process under test shares its processor with nobody, and what it costs is not mixed up with the cost of its peer.
// So each end of a connection is a process of its own: this program, started again with a role. A child reads commands
// from its standard input, a line each, and answers each with a usage:
//
//	run N    transfer N messages
//	usage    nothing
//	idle     give back all memory that is not in use
//
// It ends when its input does.

// A role is what a child does. It travels as JSON in the arguments of the child.
type role struct {
	Is         string // server, load, client, pool or sink
	By         string // the library; raw for none
	Kind       string // how a message is transferred: data, bdat, new (data over a new connection) or idle
	TLS        bool
	Size       int // octets of content
	Rcpts      int
	Conns      int           // of a load or a pool
	Callers    int           // goroutines that send over a pool
	Batch      int           // messages in a call of a client; 0: one, by the function for one
	Addr       string        // of the other end, for a load and a client
	Delay      time.Duration // of the replies of a sink
	NoChunking bool          // a sink does not advertise CHUNKING
	Core       int           // where the process runs, if it can be pinned
	Profile    string        // a file for a CPU profile
}

// A usage is what a process has used so far, and what it has got.
type usage struct {
	CPU      time.Duration // user and system
	Wall     time.Duration // of the command
	Mallocs  uint64
	Resident int64 // octets of memory
	Peak     int64 // the most octets of memory that were resident
	Messages int64
	Octets   int64 // of content
	Addr     string
	Err      string
}

// A worker is what a child does for its commands.
type worker interface {
	run(n int) error
	got() (messages, octets int64)
	addr() string
}

// beChild is main for a child.
func beChild(arg string) error {
	var r role
	if err := json.Unmarshal([]byte(arg), &r); err != nil {
		return err
	}
	pin(r.Core)
	w, err := r.start()
	if err != nil {
		return err
	}
	if r.Profile != "" {
		f, err := os.Create(r.Profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(measureUsage(w, 0, nil)); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		start := time.Now()
		var err error
		switch verb {
		case "run":
			n, _ := strconv.Atoi(arg)
			err = w.run(n)
		case "idle":
			for range 3 { // each collection halves the stacks that are mostly empty
				runtime.GC()
			}
			debug.FreeOSMemory()
		}
		if err := out.Encode(measureUsage(w, time.Since(start), err)); err != nil {
			return err
		}
	}
	return nil
}

// start begins what the role asks for.
func (r *role) start() (worker, error) {
	switch r.Is {
	case "server":
		return r.startServer()
	case "load":
		return r.startLoad()
	case "client":
		return r.startClient()
	case "pool":
		return r.startPool()
	case "sink":
		s, err := startSink(sinkOptions{delay: r.Delay, noChunking: r.NoChunking})
		return sinkWorker{s}, err
	}
	return nil, fmt.Errorf("no role %q", r.Is)
}

func measureUsage(w worker, wall time.Duration, err error) usage {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	u := usage{CPU: cpuTime(), Wall: wall, Mallocs: mem.Mallocs, Addr: w.addr()}
	u.Resident, u.Peak = memory(os.Getpid())
	u.Messages, u.Octets = w.got()
	if err != nil {
		u.Err = err.Error()
	}
	return u
}

// A process is a child, or a program that is not ours.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	addr string
}

// spawn starts a child.
func spawn(r role) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	p, err := startProcess(exec.Command(self, "-child", string(arg)))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.By, r.Is, err)
	}
	return p, nil
}

// startProcess starts a program that takes commands.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	u, err := p.answer()
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.addr = u.Addr
	return p, nil
}

// do has the child carry out a command.
func (p *process) do(command string) (usage, error) {
	if p.in == nil { // not ours
		cpu, err := cpuTimeOf(p.cmd.Process.Pid)
		return usage{CPU: cpu}, err
	}
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return usage{}, err
	}
	return p.answer()
}

func (p *process) answer() (usage, error) {
	var u usage
	if err := p.out.Decode(&u); err != nil {
		return u, fmt.Errorf("a process of this program ended: %w", err)
	}
	if u.Err != "" {
		return u, errors.New(u.Err)
	}
	return u, nil
}

// stop ends the process.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	if p.in == nil {
		p.cmd.Process.Kill()
		_ = p.cmd.Wait() // it was killed
		return nil
	}
	p.in.Close()
	return p.cmd.Wait()
}
