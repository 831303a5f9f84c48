package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A system is a mail server under test. Each start has an empty queue in a directory of its own.
type system struct {
	name string
	// start begins to listen on addr, and relays to the sink.
	start func(dir, addr, sink string) (*server, error)
	holds bool // it relays nothing
}

// A server is a system that runs.
type server struct {
	pid  int // the first process; others are its descendants
	stop func() error
	log  func() string // the last lines
}

const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/lib
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = %[1]s/maillog
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
myhostname = postfix.example
mydestination =
local_header_rewrite_clients =
alias_maps =
alias_database =
relay_domains = ` + ours + `
relayhost = [127.0.0.1]:%[2]s
smtpd_relay_restrictions = reject_unauth_destination
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
message_size_limit = 67108864
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
`

// No service is left to its default number of processes, 100, and none is in a chroot.
const masterCF = `127.0.0.1:%s inet n - n - - smtpd
cleanup  unix n - n - 0 cleanup
pickup   unix n - n 60 1 pickup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp     unix - - n - - smtp
relay    unix - - n - - smtp
flush    unix n - n 1000? 0 flush
error    unix - - n - - error
retry    unix - - n - - error
anvil    unix - - n - 1 anvil
scache   unix - - n - 1 scache
tlsmgr   unix - - n 1000? 1 tlsmgr
postlog  unix-dgram n - n - 1 postlogd
`

// holding has Postfix put all mail on hold, so that it does nothing but accept.
const holding = "smtpd_end_of_data_restrictions = check_client_access static:HOLD\n"

// startPostfix returns a function that runs Debian's Postfix with a configuration and a queue of its own. More is added
// to the configuration. Nothing of /etc/postfix is read.
func startPostfix(more string) func(dir, addr, sink string) (*server, error) {
	return func(dir, addr, sink string) (*server, error) { return runPostfix(dir, addr, sink, more) }
}

func runPostfix(dir, addr, sink, more string) (*server, error) {
	_, port, _ := net.SplitHostPort(addr)
	_, to, _ := net.SplitHostPort(sink)
	for _, d := range []string{"etc", "spool", "lib"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := give(filepath.Join(dir, "lib"), "postfix"); err != nil {
		return nil, err
	}
	etc, log := filepath.Join(dir, "etc"), filepath.Join(dir, "maillog")
	if err := os.WriteFile(filepath.Join(etc, "main.cf"), fmt.Appendf(nil, mainCF+more, dir, to), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(etc, "master.cf"), fmt.Appendf(nil, masterCF, port), 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.Command("postfix", "-c", etc, "start").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("postfix start: %w\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "spool/pid/master.pid"))
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, tail(log))
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, err
	}
	stop := func() error {
		out, err := exec.Command("postfix", "-c", etc, "stop").CombinedOutput()
		if err != nil {
			return fmt.Errorf("postfix stop: %w\n%s", err, out)
		}
		return gone(pid)
	}
	return &server{pid: pid, stop: stop, log: func() string { return tail(log) }}, nil
}

// startMTA returns a function that runs examples/mta with one of its stores.
func startMTA(program, store string) func(dir, addr, sink string) (*server, error) {
	return func(dir, addr, sink string) (*server, error) {
		args := []string{"-hostname", "mta.example", "-domain", ours, "-dir", dir, "-queue", store, "-mx-addr", addr,
			"-submission-addr", "127.0.0.1:0", "-submissions-addr", "127.0.0.1:0", "-route", theirs + "=" + sink}
		for i := range maxRcpts {
			args = append(args, "-alias", fmt.Sprintf("%s@%s=%[1]s@%[3]s", mailbox(i), ours, theirs))
		}
		log := filepath.Join(dir, "log")
		out, err := os.Create(log)
		if err != nil {
			return nil, err
		}
		defer out.Close()
		cmd := exec.Command(program, args...)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as Postfix does: Linux shares the processors by sessions
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		stop := func() error {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			late := time.AfterFunc(90*time.Second, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("mta: %w\n%s", err, tail(log))
			}
			return nil
		}
		return &server{pid: cmd.Process.Pid, stop: stop, log: func() string { return tail(log) }}, nil
	}
}

// listening waits until something accepts connections at addr. It has to try: another program tells nobody.
func listening(addr string) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			return nc.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// gone waits until a process has ended. It has to look: only a parent is told, and Postfix leaves its own.
func gone(pid int) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if syscall.Kill(pid, 0) != nil {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// descendants returns pid and the processes that it has started, and so on.
func descendants(pid int) []int {
	list := []int{pid}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range children {
		text, _ := os.ReadFile(name)
		for word := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				list = append(list, descendants(child)...)
			}
		}
	}
	return list
}

// give makes a file that of a user.
func give(path, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return os.Chown(path, uid, gid)
}

// tail returns the last lines of a file.
func tail(name string) string {
	text, _ := os.ReadFile(name)
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}

// freeAddr returns an address on loopback at which nothing listens.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
