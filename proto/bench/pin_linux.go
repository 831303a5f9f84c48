package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pin keeps this process on one processor.
func pin(core int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil || set.Count() < 2 {
		return
	}
	for i := 0; core >= 0; i++ {
		if set.IsSet(i) {
			if core--; core < 0 {
				set.Zero()
				set.Set(i)
			}
		}
	}
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, t := range tasks { // the threads that the runtime has started; others inherit it
		if id, err := strconv.Atoi(filepath.Base(t)); err == nil {
			_ = unix.SchedSetaffinity(id, &set)
		}
	}
	runtime.GOMAXPROCS(1)
}

// pinned returns the command line that runs a program on one processor.
func pinned(core int, args ...string) []string {
	if runtime.NumCPU() < 2 {
		return args
	}
	return append([]string{"taskset", "-c", strconv.Itoa(core)}, args...)
}

// cpuTime returns the processor time of this process.
func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // cannot fail with these arguments
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// cpuTimeOf returns the processor time of another process.
func cpuTimeOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0, err
	}
	ns, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.ParseInt(ns, 10, 64)
	return time.Duration(n), err
}

// memory returns how many octets of a process are resident, and the most that were.
func memory(pid int) (now, peak int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range bytes.Lines(b) {
		var n int64
		if _, err := fmt.Sscanf(string(line), "VmRSS: %d kB", &n); err == nil {
			now = n << 10
		}
		if _, err := fmt.Sscanf(string(line), "VmHWM: %d kB", &n); err == nil {
			peak = n << 10
		}
	}
	return now, peak
}

// raiseFiles permits as many open files as the system does.
func raiseFiles() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
}
