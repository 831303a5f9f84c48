package crashfs

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// found returns the images of a moment, each as its names with their contents.
func found(f *FS, moment int) map[string]bool {
	all := map[string]bool{}
	for img := range f.Images(moment, 200, rand.New(rand.NewPCG(1, 2))) {
		if img.Moment == moment {
			var files []string
			contents := img.FS.Files()
			for _, name := range slices.Sorted(maps.Keys(contents)) {
				files = append(files, name+"="+string(contents[name]))
			}
			all[strings.Join(files, " ")] = true
		}
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestImages(t *testing.T) {
	f := New()
	sectors := [3]string{strings.Repeat("1", 512), strings.Repeat("2", 512), strings.Repeat("3", 76)}
	zero := strings.Repeat("\x00", 512)
	text := sectors[0] + sectors[1] + sectors[2]
	file, err := f.Create("a")
	must(t, err)
	_, err = file.Write([]byte(text))
	must(t, err)
	want := func(what string, some ...string) {
		t.Helper()
		images := found(f, f.Moment())
		for _, image := range some {
			if !images[image] {
				t.Errorf("%s: %.20q with %d octets is missing", what, image, len(image))
			}
		}
	}
	only := func(what string, all ...string) {
		t.Helper()
		want(what, all...)
		if n := len(found(f, f.Moment())); n != len(all) {
			t.Errorf("%s: %d images, want %d", what, n, len(all))
		}
	}
	want("nothing synced", "", "a=", "a="+text, "a="+sectors[0], "a="+zero+zero+zero[:76], "a="+zero+sectors[1]+sectors[2])
	must(t, file.Sync())
	only("file synced", "", "a="+text)
	must(t, f.Rename("a", "b"))
	only("renamed", "", "a="+text, "b="+text, "a="+text+" b="+text)
	must(t, f.SyncDir("."))
	only("directory synced", "b="+text)
	must(t, f.Mkdir("d"))
	must(t, f.Rename("b", "d/b"))
	must(t, f.SyncDir("d"))
	only("moved, new directory synced", "b="+text+" d/b="+text, "d/b="+text)
	must(t, f.Remove("d/b"))
	must(t, f.SyncAll())
	only("all synced", "")
}

func TestKillAndFail(t *testing.T) {
	f := New()
	lock, err := f.Lock("lock")
	must(t, err)
	if _, err := f.Lock("lock"); err != vfs.ErrLocked {
		t.Errorf("the second lock: %v", err)
	}
	file, err := f.Append("a")
	must(t, err)
	f.Fail(func(op Op) (int, error) {
		if op != (Op{"Write", "a", 5}) {
			t.Errorf("%+v", op)
		}
		return 2, syscall.ENOSPC
	})
	if n, err := file.Write([]byte("hello")); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Write: %d, %v", n, err)
	}
	f.Fail(nil)
	next := f.Kill()
	if _, err := file.Write([]byte("x")); !errors.Is(err, ErrKilled) {
		t.Errorf("Write of one that is dead: %v", err)
	}
	if _, err := next.Lock("lock"); err != nil {
		t.Errorf("the lock of one that is dead: %v", err)
	}
	must(t, lock.Close())
	if _, err := next.Lock("lock"); err != vfs.ErrLocked {
		t.Errorf("one that is dead has let go of a lock: %v", err)
	}
	if files := fmt.Sprintf("%q", next.Files()); files != `map["a":"he"]` {
		t.Errorf("the files are %s", files)
	}
}
