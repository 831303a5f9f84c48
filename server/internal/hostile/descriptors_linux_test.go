package hostile

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// childEnv tells a child process that it is one.
const childEnv = "SMTPKIT_HOSTILE_CHILD"

func init() {
	if os.Getenv(childEnv) != "" {
		child = serveWithFewDescriptors
	}
}

// fewDescriptors is how many descriptors the child may have open: fewer than there will be clients.
const fewDescriptors = 40

// serveWithFewDescriptors is the program of the child. It prints its address, serves until its standard input is at its
// end, and prints how it ended.
func serveWithFewDescriptors() int {
	limit := syscall.Rlimit{Cur: fewDescriptors, Max: fewDescriptors}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fail(err)
	}
	failed := make(chan struct{}, 1)
	j := &journal{}
	srv, err := server.New(server.BackendFunc(j.newSession), &server.Options{
		Hostname: hostname, Logger: slog.New(slog.NewTextHandler(&noticer{"accept failed", failed}, nil)),
	})
	if err != nil {
		return fail(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fail(err)
	}
	before := descriptors()
	fmt.Println(l.Addr())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	<-failed
	fmt.Println("no descriptors")
	_, _ = io.Copy(io.Discard, os.Stdin)
	err = srv.Shutdown(context.Background())
	fmt.Println("Shutdown:", err)
	fmt.Println("Serve:", <-served)
	got := j.take()
	fmt.Println("messages:", got.delivered[delivery{"alice", "hello\r\n"}])
	fmt.Println("sessions:", got.made-got.closed)
	fmt.Println("descriptors:", descriptors()-before+1) // that of the listener is closed
	return 0
}

func fail(err error) int {
	fmt.Println(err)
	return 1
}

// needDescriptors lets the process open n descriptors beside those that it has.
func needDescriptors(t *testing.T, n int) {
	t.Helper()
	need := uint64(descriptors() + n)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < need {
		limit.Cur = limit.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	if limit.Cur < need {
		t.Fatalf("the process may have %d descriptors, and the test needs %d: raise the hard limit", limit.Cur, need)
	}
}

// descriptors returns how many descriptors are open.
func descriptors() int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(names) - 1 // that of the directory
}

// A noticer is a log in which it notices a text.
type noticer struct {
	text string
	seen chan struct{}
}

func (n *noticer) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(n.text)) {
		select {
		case n.seen <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// TestEMFILE has more clients than a process may have descriptors. Those that are connected are served all the while,
// the others when their turn comes, and nothing is left in the end.
func TestEMFILE(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	line := func() string {
		if !lines.Scan() {
			t.Fatalf("the child says nothing more: %v", lines.Err())
		}
		return lines.Text()
	}
	addr := line()
	var clients []*prototest.Peer
	for range 2 * fewDescriptors {
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		p := prototest.NewPeer(t, nc)
		p.Timeout = time.Minute
		clients = append(clients, p)
	}
	if got := line(); got != "no descriptors" {
		t.Fatalf("the child says %q", got)
	}
	// The first one is connected, and each of the others gets its turn when one before it has gone.
	first := clients[0]
	first.Expect("220 ")
	for _, p := range clients[1:] {
		first.Ask("NOOP", "250")
		p.Expect("220 ")
		sendHello(p)
		p.Ask("QUIT", "221")
		p.ExpectEnd()
	}
	sendHello(first)
	in.Close()
	first.Expect("421 ")
	first.ExpectEnd()
	var report []string
	for lines.Scan() {
		report = append(report, lines.Text())
	}
	want := fmt.Sprintf("Shutdown: <nil>|Serve: %v|messages: %d|sessions: 0|descriptors: 0",
		server.ErrServerClosed, len(clients))
	if got := strings.Join(report, "|"); got != want {
		t.Errorf("the child ends with\n%s, want\n%s", got, want)
	}
}
