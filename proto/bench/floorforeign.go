package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Programs of Postfix, written in C, stand beside the libraries if they are installed: smtp-sink and smtp-source.

var errNotInstalled = errors.New("not installed")

// findProgram looks where Debian and others put it.
func findProgram(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin", "/usr/lib/postfix/sbin", "/usr/libexec/postfix"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", errNotInstalled
}

// spawnSink starts smtp-sink on a port that was free.
func spawnSink() (*process, error) {
	path, err := findProgram("smtp-sink")
	if err != nil {
		return nil, err
	}
	l, err := listen()
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	args := pinned(0, path, "-u", "nobody", addr, "1000")
	p := &process{cmd: exec.Command(args[0], args[1:]...), addr: addr}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return p, conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("smtp-sink does not listen"), p.stop())
}

// A source has smtp-source send messages to a sink. Each run is a process of its own.
func source(r role, n int) (usage, error) {
	path, err := findProgram("smtp-source")
	if err != nil {
		return usage{}, err
	}
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return usage{}, err
	}
	args := pinned(0, path, "-d", "-s", "1", "-m", strconv.Itoa(n), "-l", strconv.Itoa(r.Size),
		"-r", strconv.Itoa(r.Rcpts), "-f", mailFrom, "-t", rcptTo, fmt.Sprintf("inet:%s:%s", host, port))
	cmd := exec.Command(args[0], args[1:]...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return usage{}, fmt.Errorf("%w: %s", err, out)
	}
	return usage{CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), Wall: time.Since(start)}, nil
}
