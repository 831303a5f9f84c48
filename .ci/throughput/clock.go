package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A clock measures who has the processors.
type clock struct {
	total, idle time.Duration // of all processors
	system, own time.Duration // of a system under test, and of this program
	pid         int
}

// tick is the unit of times in /proc (sysconf _SC_CLK_TCK, which is 100 on Linux).
const tick = 10 * time.Millisecond

// newClock begins to measure. The system is a process and its descendants.
func newClock(pid int) clock {
	c := clock{pid: pid}
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, word := range strings.Fields(line) {
		n, _ := strconv.Atoi(word)
		if i > 0 && i < 9 {
			c.total += time.Duration(n) * tick
		}
		if i == 4 || i == 5 { // idle, and idle until the disk has done something
			c.idle += time.Duration(n) * tick
		}
	}
	for _, p := range descendants(pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		_, rest, _ := strings.Cut(string(text), ") ")
		for i, word := range strings.Fields(rest) {
			if i >= 11 && i < 15 { // its own time, and that of its children that have ended, each in two parts
				n, _ := strconv.Atoi(word)
				c.system += time.Duration(n) * tick
			}
		}
	}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		c.own = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return c
}

// use returns what happened since the clock began: how many microseconds of a processor the system had for each of so
// many messages, and the shares of all processors, of 100, that other programs had, and that nobody had.
func (c clock) use(messages int64) (micros, others, idle float64) {
	now := newClock(c.pid)
	total, unused := now.total-c.total, now.idle-c.idle
	system, own := now.system-c.system, now.own-c.own
	share := func(d time.Duration) float64 { return 100 * float64(max(d, 0)) / float64(max(total, tick)) }
	return float64(system.Microseconds()) / float64(max(messages, 1)), share(total - unused - system - own), share(unused)
}
