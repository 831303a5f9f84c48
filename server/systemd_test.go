//go:build unix

package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"smtpkit.example/smtp/server"
)

// child has in the environment what TestSystemdChild is to do.
const child = "SMTPKIT_TEST_CHILD"

// TestSystemdChild is no test of its own: the tests below run it in another process, with sockets as systemd passes
// them.
func TestSystemdChild(t *testing.T) {
	switch os.Getenv(child) {
	case "list":
		list, err := server.SystemdListeners()
		fmt.Printf("error %v\n", err)
		for _, name := range []string{"", "mx", "unknown", "users"} {
			for _, l := range list[name] {
				fmt.Printf("%s %s\n", name, l.Addr())
				l.Close()
			}
		}
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			if _, set := os.LookupEnv(name); set {
				fmt.Printf("%s is set\n", name)
			}
		}
		for fd := 3; fd < 5; fd++ {
			var s syscall.Stat_t
			fmt.Printf("%d is open: %v\n", fd, syscall.Fstat(fd, &s) == nil)
		}
		again, err := server.SystemdListeners()
		fmt.Printf("again %d %v\n", len(again), err)
	case "serve":
		serveAsChild(t)
	}
}

// serveAsChild serves what systemd has passed until the standard input ends.
func serveAsChild(t *testing.T) {
	srv := newServer(t, &store{}, server.Options{Hostname: "mx.example"})
	users, err := srv.Service(&store{}, &server.Options{Hostname: "users.example", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- srv.ListenAndServe("systemd:mx") }()
	first := users.ListenAndServe("systemd:nobody")
	go func() { served <- users.ListenAndServe("systemd:users") }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	fmt.Println(first)
	fmt.Println(<-served)
	fmt.Println(<-served)
	fmt.Println(newServer(t, &store{}, server.Options{}).ListenAndServe("systemd:mx"))
}

// runChild runs TestSystemdChild with descriptors, and LISTEN_FDNAMES if names is not empty. The result begins with
// what it has printed.
func runChild(t *testing.T, mode, names string, files []*os.File, talk func()) []string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The shell keeps its number as it becomes the program.
	c := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, program, "-test.run=^TestSystemdChild$", "-test.count=1")
	c.Env = append(os.Environ(), child+"="+mode, "LISTEN_FDS="+strconv.Itoa(len(files)))
	if names != "" {
		c.Env = append(c.Env, "LISTEN_FDNAMES="+names)
	}
	c.ExtraFiles, c.Stderr = files, os.Stderr
	in, err1 := c.StdinPipe()
	out, err2 := c.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { // also if talk ends the test
		in.Close()
		_ = c.Wait()
	}()
	if talk != nil {
		talk()
	}
	in.Close()
	var lines []string
	for s := bufio.NewScanner(out); s.Scan(); {
		lines = append(lines, s.Text())
	}
	if err := c.Wait(); err != nil {
		t.Errorf("the child: %v\n%s", err, strings.Join(lines, "\n"))
	}
	return lines
}

// socket returns the descriptor of a socket that listens, and its address. It stays open until the test is over, as in
// systemd.
func socket(t *testing.T, network, addr string) (*os.File, string) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().String()
}

// TestSystemdListeners: a process gets the sockets that systemd has passed to it, by their names, and keeps to itself
// that it did.
func TestSystemdListeners(t *testing.T) {
	a, addrA := socket(t, "tcp", "127.0.0.1:0")
	b, addrB := socket(t, "unix", filepath.Join(t.TempDir(), "s"))
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	c, err := packets.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct {
		name, names string
		files       []*os.File
		want        string
	}{
		{"two", "users:mx", []*os.File{a, b}, "error <nil>|mx " + addrB + "|users " + addrA + "|3 is open: false|4 is open: false|again 0 <nil>"},
		{"two of one name", "mx:mx", []*os.File{a, b}, "error <nil>|mx " + addrA + "|mx " + addrB + "|3 is open: false|4 is open: false|again 0 <nil>"},
		{"without names", "", []*os.File{a, b}, "error <nil>|unknown " + addrA + "|unknown " + addrB + "|3 is open: false|4 is open: false|again 0 <nil>"},
		{"no listener", "mx:udp", []*os.File{a, c}, `error smtp: the descriptor 4 that systemd has passed, named "udp", is not a socket that listens: `},
		{"names too few", "mx", []*os.File{a, b}, "error smtp: LISTEN_FDNAMES has 1 names, and LISTEN_FDS is 2|3 is open: true|4 is open: true|again 0 <nil>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(runChild(t, "list", tt.names, tt.files, nil), "|")
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s\nwant\n%s", got, tt.want)
			}
			if tt.name == "no listener" && !strings.Contains(got, "|3 is open: true|4 is open: true|again 0 <nil>") {
				t.Errorf("%s\nwant all descriptors open", got)
			}
		})
	}
}

// TestSystemdServe: ListenAndServe serves the sockets of a name, in one process for two services, and leaves them to
// systemd when it ends.
func TestSystemdServe(t *testing.T) {
	mx, addrMX := socket(t, "tcp", "127.0.0.1:0")
	path := filepath.Join(t.TempDir(), "s")
	local, _ := socket(t, "unix", path)
	users, addrUsers := socket(t, "tcp", "127.0.0.1:0")
	lines := runChild(t, "serve", "mx:users:mx", []*os.File{mx, users, local}, func() {
		for _, s := range []struct{ network, addr, host string }{
			{"tcp", addrMX, "mx"}, {"tcp", addrUsers, "users"}, {"unix", path, "mx"},
		} {
			nc, err := net.Dial(s.network, s.addr)
			if err != nil {
				t.Fatal(err)
			}
			p := newPeer(t, nc)
			p.expect("220 " + s.host + ".example ESMTP")
			p.ask("QUIT", "221 ")
		}
	})
	closed := "|smtp: server closed|smtp: server closed|smtp: systemd has passed no sockets, or all are in use: "
	got := strings.Join(lines, "|")
	if !strings.HasPrefix(got, `smtp: systemd has passed no socket with the FileDescriptorName "nobody", or it is in use; there are `) || !strings.Contains(got, closed) {
		t.Errorf("%s", got)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket of systemd is gone: %v", err)
	}
	if nc, err := net.Dial("unix", path); err != nil {
		t.Errorf("the socket of systemd is closed: %v", err)
	} else {
		nc.Close()
	}
}

// TestSystemdVariables: sockets for another process are left alone, and what is malformed is an error.
func TestSystemdVariables(t *testing.T) {
	mine := strconv.Itoa(os.Getpid())
	for _, tt := range []struct{ pid, fds, want string }{
		{"", "", ""}, {"", "1", ""}, {mine, "", ""}, {"1", "1", ""}, {mine, "0", ""},
		{"x", "1", `LISTEN_PID is "x"`}, {"-1", "1", "LISTEN_PID"}, {mine, "x", `LISTEN_FDS is "x"`}, {mine, "-1", "LISTEN_FDS"},
		{mine, "1025", "1024 at most"}, {mine, "99999999999999999999", "LISTEN_FDS"},
	} {
		t.Setenv("LISTEN_PID", tt.pid)
		t.Setenv("LISTEN_FDS", tt.fds)
		t.Setenv("LISTEN_FDNAMES", "")
		list, err := server.SystemdListeners()
		if len(list) > 0 || err == nil != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("LISTEN_PID=%s LISTEN_FDS=%s: %v, %v", tt.pid, tt.fds, list, err)
		}
		if _, set := os.LookupEnv("LISTEN_FDS"); set {
			t.Error("LISTEN_FDS is still set")
		}
	}
	srv := newServer(t, &store{}, server.Options{})
	for range 2 {
		if err := srv.ListenAndServe("systemd:"); err == nil || !strings.Contains(err.Error(), "systemd has passed no sockets") {
			t.Error(err)
		}
	}
}
