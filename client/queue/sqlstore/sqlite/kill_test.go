package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/client/queue"
)

// victim is the environment variable that makes the test the process that is killed: a driver and a file.
const victim = "SMTPKIT_SQLSTORE_VICTIM"

// TestKill kills a process again and again while it uses a queue. Whatever it has said of a message holds: one that was
// added is there, whole, and one that is done is not.
func TestKill(t *testing.T) {
	if v := os.Getenv(victim); v != "" {
		driver, file, _ := strings.Cut(v, " ")
		t.Fatal(use(t, driver, file))
	}
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "queue.db")
			words := map[queue.ID]string{} // the last that was said of each message
			for round := range rounds {
				kill(t, driver, file, 50+round*97, words)
				inspect(t, driver, file, words)
			}
		})
	}
}

// use adds messages and finishes two of three of them, until the process is killed. It says so on standard output:
// before and after each step, since it may be killed between the two.
func use(t *testing.T, driver, file string) error {
	ctx := context.Background()
	s, err := drivers[driver](t, file, nil)
	if err != nil {
		return err
	}
	l, _, err := s.ClaimOne(ctx, "example.com")
	if err != nil {
		return err
	}
	failed := make(chan error)
	for range 8 {
		go func() {
			for i := 0; ; i++ {
				e := newEntry("example.com", nil, l.Epoch)
				id := e.Message.ID
				e.Content = bytes.NewReader(contentOf(id))
				fmt.Printf("adding %s\n", id)
				if err := s.Add(ctx, e); err != nil {
					failed <- err
				}
				fmt.Printf("added %s\n", id)
				if i%3 == 0 {
					continue
				}
				j := *e.Jobs[0]
				j.To = nil
				fmt.Printf("finishing %s\n", id)
				if err := s.Update(ctx, l, []queue.Change{{Job: &j}}); err != nil {
					failed <- err
				}
				fmt.Printf("done %s\n", id)
			}
		}()
	}
	return <-failed
}

// contentOf returns the content of a message. One of 32 is of several chunks.
func contentOf(id queue.ID) []byte {
	n := 50
	if id[19]%32 == 0 {
		n = 30000
	}
	return bytes.Repeat([]byte(id+"\r\n"), n)
}

// kill runs a process, reads some lines of what it says, and kills it.
func kill(t *testing.T, driver, file string, lines int, words map[queue.ID]string) {
	c := exec.Command(os.Args[0], "-test.run=^TestKill$")
	c.Env = append(os.Environ(), victim+"="+driver+" "+file)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop := func() { _ = c.Process.Kill() }
	defer once.Do(stop)
	scanner := bufio.NewScanner(out)
	n := 0
	for ; scanner.Scan(); n++ {
		word, id, _ := strings.Cut(scanner.Text(), " ")
		if queue.ID(id).Valid() {
			words[queue.ID(id)] = word
		} else if n < lines {
			t.Errorf("the process said %q", scanner.Text())
		}
		if n == lines {
			once.Do(stop)
		}
	}
	_ = c.Wait() // it says that the process was killed
	if n < lines {
		t.Fatalf("the process ended after %d lines", n)
	}
}

// inspect opens the queue and compares it with what was said.
func inspect(t *testing.T, driver, file string, words map[queue.ID]string) {
	ctx := context.Background()
	s, err := drivers[driver](t, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	listed, _, err := s.List(ctx, queue.Filter{}, queue.JobID{}, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	have := map[queue.ID]bool{}
	for _, l := range listed {
		id := l.Message.ID
		have[id] = true
		c, err := s.Open(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if err != nil || !bytes.Equal(got, contentOf(id)) {
			t.Errorf("%s has %d octets of other content: %v", id, len(got), err)
		}
		_ = c.Close()
	}
	for id, word := range words {
		switch {
		case word == "added" && !have[id]:
			t.Errorf("%s was added, and is lost", id)
		case word == "done" && have[id]:
			t.Errorf("%s is done, and is still there", id)
		case word == "adding" || word == "finishing":
			words[id] = "added" // from now on it is one or the other
			if !have[id] {
				words[id] = "done"
			}
		}
	}
}
