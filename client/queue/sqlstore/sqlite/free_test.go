package sqlite

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/client/queue/sqlstore"
	"smtpkit.example/smtp/proto"
)

// TestFree compares what is free with what df says. Others write to the disk meanwhile.
func TestFree(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("there is no df")
	}
	dir := t.TempDir()
	out, err := exec.Command("df", "-Pk", dir).Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Fields(lines[len(lines)-1])
	if err != nil || len(fields) < 4 {
		t.Fatalf("df: %v\n%s", err, out)
	}
	want, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	want <<= 10
	s, err := Open(t.Context(), filepath.Join(dir, "queue.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, ok := s.Free()
	if difference := max(got-want, want-got); !ok || difference > want/10+1<<20 {
		t.Errorf("Free is %d, %v, and df says %d", got, ok, want)
	}
}

// TestNoRoom has a queue refuse mail as long as the disk has too little room, as Options.Free tells.
func TestNoRoom(t *testing.T) {
	room := int64(99 << 20)
	opt := &sqlstore.Options{Free: func() (int64, bool) { return room, true }}
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "queue.db"), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nobody := client.SenderFunc(func(context.Context, *client.Message) (*client.Result, error) {
		return nil, errors.New("nobody is there")
	})
	q, err := queue.New(s, nobody, &queue.Options{Hostname: "app.example.org", Limits: queue.Limits{FreeDisk: 100 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(t.Context())
	var refused *proto.Error
	if err := q.Room(t.Context(), ""); !errors.As(err, &refused) || refused.Code != 452 {
		t.Errorf("Room with too little room on the disk: %v", err)
	}
	room = 100 << 20
	if err := q.Room(t.Context(), ""); err != nil {
		t.Errorf("Room: %v", err)
	}
}
