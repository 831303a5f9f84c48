package queue

import (
	"bytes"
	"context"
	"hash/crc32"
	"log/slog"
	"testing"

	"smtpkit.example/smtp/client/queue/internal/vfs/crashfs"
)

// FuzzDir opens a directory with a message and a state file of any content. Whatever they are, it opens, and the
// message is there or put aside; only one that is done is removed.
func FuzzDir(f *testing.F) {
	id := testID(1)
	message := []byte(`{"id":"` + string(id) + `"}` + "\n")
	job := []byte(`{"id":"` + string(id) + `.0","destination":"a.example","to":[{"address":"a"}]}` + "\n")
	f.Add(append(append(message, job...), '\n'), []byte("content"), appendDone(nil, JobID{id, 0}))
	f.Add([]byte("{}\n\n"), []byte{}, []byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, head, content, state []byte) {
		for _, sealed := range []bool{true, false} {
			file := head
			if sealed {
				line := firstLine{int64(len(head)), int64(len(content)), crc32.Checksum(head, castagnoli),
					crc32.Checksum(content, castagnoli)}
				file = append(append(line.append(nil), head...), content...)
				state = bytes.Clone(state)
				for line := range bytes.Lines(state) {
					if line = bytes.TrimSuffix(line, []byte{'\n'}); len(line) > stateSum {
						sealState(line)
					}
				}
			}
			fuzzDir(t, id, file, state)
		}
	})
}

func fuzzDir(t *testing.T, id ID, message, state []byte) {
	disk := crashfs.New()
	disk.Put(messageFile(id), message)
	disk.Put(stateFile(id), state)
	d, err := OpenDir("", &DirOptions{Logger: slog.New(slog.DiscardHandler), fs: disk})
	if err != nil {
		t.Fatal(err)
	}
	listed, _, err := d.List(context.Background(), Filter{}, JobID{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range listed {
		if l.Message.ID != id || l.Job.ID.Message != id || len(l.Job.To) == 0 {
			t.Errorf("it has %+v, %+v", l.Message, l.Job)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	files := disk.Files()
	there, aside := files[messageFile(id)], files[damagedDir+"/"+messageFile(id)]
	switch {
	case len(listed) > 0 && !bytes.Equal(there, message):
		t.Error("the file of a message has changed")
	case len(listed) > 0 || bytes.Equal(aside, message) && aside != nil:
	case there != nil || aside != nil:
		t.Errorf("a message without jobs stays: %q, %q", there, aside)
	}
}
