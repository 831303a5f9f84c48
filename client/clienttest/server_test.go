package clienttest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
)

// A recorder keeps what a test is failed with, and runs its cleanups when it is told.
type recorder struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recorder) end() string {
	for _, f := range r.cleanups {
		f()
	}
	return strings.Join(r.errors, "; ")
}

// TestServer checks that a client which follows the script passes, and that for others the test fails with the line of
// the script.
func TestServer(t *testing.T) {
	const script = "S: 220 mail.example\nC: EHLO *\nS: 250 ok\nC~ \"raw\"\nS: 250 ok"
	for _, tt := range []struct{ name, send, want string }{
		{"as written", "EHLO me\r\n|raw", ""},
		{"with QUIT", "EHLO me\r\n|raw|QUIT\r\n", ""},
		{"another line", "HELO me\r\n", `script 1:2: the client sent "HELO me", want "EHLO *"`},
		{"other octets", "EHLO me\r\n|war", `script 1:4: the client sent "war", want "raw"`},
		{"too little", "EHLO me\r\n|ra", `script 1:4: want "raw": EOF`},
		{"too much", "EHLO me\r\n|raw|NOOP\r\n",
			`script 1: at the end: the client sent "NOOP", want the end of the connection`},
		{"too much and no line", "EHLO me\r\n|raw|NO",
			`script 1: at the end: the client sent "NO", want the end of the connection`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{TB: t}
			srv := New(rec, script)
			conn, err := srv.Dial(context.Background(), "tcp", "mail.example:25")
			if err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			in.ReadString('\n')
			for piece := range strings.SplitSeq(tt.send, "|") {
				io.WriteString(conn, piece)
				if strings.HasSuffix(piece, "\n") || piece == "raw" {
					in.ReadString('\n') // the server has closed the connection if there is no reply
				}
			}
			conn.Close()
			if got := rec.end(); got != tt.want {
				t.Errorf("the test fails with %q, want %q", got, tt.want)
			}
		})
	}
}

// TestConnections checks that there is a connection for each script.
func TestConnections(t *testing.T) {
	rec := &recorder{TB: t}
	New(rec, "S: 220 mail.example")
	if got, want := rec.end(), "the client made 0 connections, and there are 1 scripts"; got != want {
		t.Errorf("the test fails with %q, want %q", got, want)
	}
	rec = &recorder{TB: t}
	if _, err := New(rec).Dial(context.Background(), "tcp", "mail.example:25"); err == nil || rec.end() == "" {
		t.Errorf("a connection too many: %v", err)
	}
}
