package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// syncCalls are the system calls that write to disk.
const syncCalls = "fsync,fdatasync,syncfs,sync,sync_file_range,msync"

// printSyncs counts the syncs of each system.
func (h *harness) printSyncs(systems []system) error {
	fmt.Print("Syncs for each message, counted by strace: accepted while nothing listens at the sink\n\n" +
		"| system | 1 sender | 32 senders | of these |\n| --- | --- | --- | --- |\n")
	for _, s := range systems {
		var rate [2]float64
		var kinds string
		for i, senders := range []int{1, 32} {
			l := load{octets: 1000, rcpts: 1, senders: senders}
			n, text, err := h.syncs(s, l, int64(150*(1+3*i)))
			if err != nil {
				return fmt.Errorf("syncs of %s: %w", s.name, err)
			}
			rate[i], kinds = n, text
		}
		fmt.Printf("| %s | %.2f | %.2f | %s |\n", s.name, rate[0], rate[1], kinds)
		if rate[0] < 1 {
			return fmt.Errorf("%s is not durable: it syncs %.2f times for each message of one sender", s.name, rate[0])
		}
	}
	return nil
}

// syncs returns the number of syncs for each of so many messages, and which system calls they were.
func (h *harness) syncs(s system, l load, messages int64) (rate float64, kinds string, err error) {
	nobody, err := freeAddr()
	if err != nil {
		return 0, "", err
	}
	out := filepath.Join(h.dir, "strace")
	err = h.begin(s, nobody, func(addr string, srv *server) error {
		args := []string{"-f", "-c", "-U", "calls,name", "-e", "trace=" + syncCalls, "-o", out}
		for _, pid := range descendants(srv.pid) {
			args = append(args, "-p", strconv.Itoa(pid))
		}
		var said bytes.Buffer
		cmd := exec.Command("strace", args...)
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			return err
		}
		// The kernel says of a process whether it is traced, and tells nobody when that begins.
		for deadline := time.Now().Add(10 * time.Second); !traced(srv.pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				return errors.Join(fmt.Errorf("strace does not attach: %s", said.Bytes()), cmd.Process.Kill(), cmd.Wait())
			}
		}
		src := &source{load: l, addr: addr, until: time.Now().Add(time.Minute), limit: messages}
		failed := src.run()
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait() // it ends with the signal
		if n := src.accepted.Load(); failed == nil && n != messages {
			failed = fmt.Errorf("%d messages of %d were accepted", n, messages)
		}
		return failed
	})
	if err != nil {
		return 0, "", err
	}
	text, err := os.ReadFile(out)
	total := 0
	var list []string
	for line := range strings.Lines(string(text)) {
		word := strings.Fields(line)
		if len(word) != 2 || !strings.Contains(","+syncCalls+",", ","+word[1]+",") {
			continue
		}
		n, _ := strconv.Atoi(word[0])
		total += n
		list = append(list, word[0]+" "+word[1])
	}
	return float64(total) / float64(messages), strings.Join(list, ", "), err
}

// traced reports whether strace has attached to a process.
func traced(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, ok := strings.Cut(string(text), "TracerPid:\t")
	return ok && !strings.HasPrefix(rest, "0\n")
}
