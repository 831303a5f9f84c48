package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A constrained program runs in a shell that has set a limit. Its mail waits for a customer, so that all that it has
// accepted is in its store at the end.
type constrained struct {
	*process
	t        *testing.T
	flags    []string
	accepted map[string]bool // Message-IDs
	refused  []string        // replies
}

func constrain(t *testing.T, binary, store, limit string) *constrained {
	t.Helper()
	c := &constrained{t: t, accepted: map[string]bool{}, flags: []string{
		"-dir", t.TempDir(), "-hostname", "mx.a.example", "-domain", "a.example", "-user", "alice:secret", "-queue", store,
		"-on-demand", "customer.example=alice", "-mx-addr", "127.0.0.1:0", "-submission-addr", "", "-submissions-addr", "",
		"-odmr-addr", "",
	}}
	args := append([]string{"-c", "ulimit " + limit + ` && exec "$0" "$@"`, binary}, c.flags...)
	c.process = startProcess(t, "sh", args...)
	return c
}

// send sends a message of a size over a connection.
func (c *constrained) send(conn *client.Client, id string, size int) {
	c.t.Helper()
	text := "Message-ID: " + id + "\r\n\r\n" +
		strings.Repeat("This fills the disk with 64 octets, of which two end the line.\r\n", size/64)
	m, err := client.NewMessage("x@client.example", []string{"x@customer.example"}, strings.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = conn.Send(c.t.Context(), m)
	var refused *proto.Error
	switch {
	case err == nil:
		c.accepted[id] = true
	case errors.As(err, &refused) && refused.Code/100 == 4:
		c.refused = append(c.refused, refused.Error())
	default:
		c.t.Errorf("%s: %v", id, err)
	}
}

func (c *constrained) dial(ctx context.Context) (*client.Client, error) {
	return client.Dial(ctx, c.addrs[0], &client.Options{Hostname: "client.example", TLS: ext.TLSInsecureNone})
}

// logged returns a context that ends when the log has a text.
func (c *constrained) logged(text string) context.Context {
	ctx, cancel := context.WithCancel(c.t.Context())
	go func() {
		defer cancel()
		for {
			select {
			case line := <-c.log:
				if strings.Contains(line, text) {
					return
				}
			case <-c.ended:
				return
			}
		}
	}()
	return ctx
}

// finish ends the program, and compares what it has accepted with what is in its store.
func (c *constrained) finish(logged string) {
	c.t.Helper()
	c.stop()
	if !regexp.MustCompile(logged).MatchString(strings.Join(c.grep(""), "\n")) {
		c.t.Errorf("the log has no %q:\n%s", logged, c.tail())
	}
	left := stored(c.t, c.flags)
	for id := range c.accepted {
		if !left[delivery{id, "x@customer.example"}] {
			c.t.Errorf("%s was accepted, and is lost", id)
		}
	}
	if len(c.accepted) == 0 {
		c.t.Error("nothing was accepted")
	}
	c.t.Logf("%d accepted, %d refused: %q", len(c.accepted), len(c.refused), c.refused)
}

// TestFull has no more room on the disk, as a limit on the size of files has it: mail is put off, and what was accepted
// is there. When there is room again, mail is taken.
func TestFull(t *testing.T) {
	binary := build(t)
	for _, store := range stores {
		t.Run(store, func(t *testing.T) {
			c := constrain(t, binary, store, "-S -f 8192") // blocks of 512 octets
			conn, err := c.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for i := 0; i < 20 && len(c.refused) < 2; i++ {
				c.send(conn, fmt.Sprintf("<%d@client.example>", i), 100<<10<<(i/2))
			}
			if len(c.refused) == 0 {
				t.Error("nothing was refused")
			}
			if out, err := exec.Command("prlimit", "--fsize=unlimited", "--pid",
				fmt.Sprint(c.cmd.Process.Pid)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for i := 0; !c.accepted["<last@client.example>"]; i++ {
				if i == 1000 {
					t.Fatalf("when there is room again: %q", c.refused[len(c.refused)-1])
				}
				c.send(conn, "<last@client.example>", 1000)
			}
			c.finish("too large|disk is full")
		})
	}
}

// TestFiles has the program run out of files: it takes no more connections then, puts off what it cannot write, and
// goes on when there are files again.
func TestFiles(t *testing.T) {
	binary := build(t)
	for _, store := range stores {
		t.Run(store, func(t *testing.T) {
			c := constrain(t, binary, store, "-n 48")
			var conns []*client.Client
			until := c.logged("too many open files")
			for { // the kernel takes connections that the program does not
				conn, err := c.dial(until)
				if err != nil {
					break
				}
				conns = append(conns, conn)
				c.send(conn, fmt.Sprintf("<%d@client.example>", len(conns)), 1000)
			}
			for i, conn := range conns {
				c.send(conn, fmt.Sprintf("<again%d@client.example>", i), 1000)
				conn.Close()
			}
			conn, err := c.dial(t.Context())
			if err != nil {
				t.Fatalf("when there are files again: %v", err)
			}
			defer conn.Close()
			c.send(conn, "<last@client.example>", 1000)
			if !c.accepted["<last@client.example>"] {
				t.Errorf("when there are files again: %q", c.refused)
			}
			c.finish("too many open files")
		})
	}
}
