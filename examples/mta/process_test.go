package main

import (
	"bufio"
	"io"
	"net/mail"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"smtpkit.example/smtp/client/queue"
)

// build builds the program.
func build(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "mta")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// A process is the program, or a shell that becomes it.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	addrs []string    // where it listens, in the order of its log
	log   chan string // lines of the log, unless nobody reads them
	ended chan struct{}
	err   error // how it ended

	mu    sync.Mutex
	lines []string // the log
}

var listening = regexp.MustCompile(`msg=listening addr=(\S+)`)

// startProcess starts the program, and returns when it listens on all of its addresses.
func startProcess(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...), log: make(chan string, 1000), ended: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	addrs := make(chan string, 10)
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			line := lines.Text()
			if m := listening.FindStringSubmatch(line); m != nil {
				addrs <- m[1]
			} else if strings.Contains(line, "msg=ready") {
				close(addrs)
			}
			p.mu.Lock()
			p.lines = append(p.lines, line)
			p.mu.Unlock()
			select {
			case p.log <- line:
			default:
			}
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(p.kill)
	for {
		select {
		case addr, ok := <-addrs:
			if !ok {
				return p
			}
			p.addrs = append(p.addrs, addr)
		case <-p.ended:
			t.Fatalf("it does not start: %v\n%s", p.err, p.tail())
		}
	}
}

// tail returns the end of the log.
func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(0, len(p.lines)-40):], "\n")
}

// grep returns the lines of the log with a text.
func (p *process) grep(text string) (found []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// kill ends it by SIGKILL, unless it has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop ends it by SIGTERM, at which it has to succeed.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if <-p.ended; p.err != nil {
		p.t.Errorf("SIGTERM ends it with %v:\n%s", p.err, p.tail())
	}
}

// stored opens the store of a program that has ended, and returns what is there.
func stored(t *testing.T, flags []string) map[delivery]bool {
	t.Helper()
	c, err := parse(flags)
	if err != nil {
		t.Fatal(err)
	}
	store, err := openStore(c)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	left := map[delivery]bool{}
	var next queue.JobID
	for more := true; more; more = next != (queue.JobID{}) {
		var list []queue.Listed
		if list, next, err = store.List(t.Context(), queue.Filter{}, next, 100); err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			content, err := store.Open(t.Context(), l.Message.ID)
			if err != nil {
				t.Fatal(err)
			}
			m, err := mail.ReadMessage(io.NewSectionReader(content, 0, content.Size()))
			if err != nil {
				t.Fatal(err)
			}
			content.Close()
			for _, r := range l.Job.To {
				left[delivery{m.Header.Get("Message-ID"), r.Address.String()}] = true
			}
		}
	}
	return left
}
