package deliver

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// helper does what a test has this program do in a process of its own, if there is something: it locks a mailbox, says
// so, and keeps the lock until its input ends.
func helper() bool {
	name := os.Getenv("DELIVER_TEST_LOCK")
	if name == "" {
		return false
	}
	f, err := openMailbox(name)
	if err == nil {
		var ok bool
		ok, err = f.lock()
		fmt.Println("locked:", ok, err)
	}
	io.Copy(io.Discard, os.Stdin)
	return true
}

// lockElsewhere has another process lock a mailbox, until free is called.
func lockElsewhere(t *testing.T, name string) (free func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DELIVER_TEST_LOCK="+name)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil || cmd.Start() != nil {
		t.Fatal("the other process does not start")
	}
	line := make([]byte, 64)
	n, _ := out.Read(line)
	if got := string(line[:n]); got != "locked: true <nil>\n" {
		t.Fatalf("the other process: %q", got)
	}
	return func() {
		in.Close()
		cmd.Wait()
	}
}
