package deliver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/proto"
)

// TestQuota: the mailbox takes what fits in it, counts what others have put there, and notices what was deleted.
func TestQuota(t *testing.T) {
	root := t.TempDir()
	q := Quota{}
	d := Maildir{Path: Under(root), Quota: func(proto.Address) Quota { return q }}
	dir := filepath.Join(root, "d.example", "c")
	file := filepath.Join(dir, "maildirsize")
	m := message(t, "x\r\n", "c@d.example")
	size := len(top) + len("x\n")
	want := func(code, text string) {
		t.Helper()
		if got := sendTo(t, d, m); got != code {
			t.Errorf("%s, want %s", got, code)
		}
		if got, _ := os.ReadFile(file); string(got) != text {
			t.Errorf("maildirsize: %q, want %q", got, text)
		}
		if left := tree(t, filepath.Join(dir, "tmp")); len(left) > 0 {
			t.Errorf("left in tmp: %q", left)
		}
	}
	put := func(name string, n int) {
		t.Helper()
		name = filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(name), 0o700)
		if err := os.WriteFile(name, []byte(strings.Repeat("x", n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	age := func() {
		t.Helper()
		old := time.Now().Add(-sizeFileAge)
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
	}
	want("ok", "") // no quota, no file
	q = Quota{Octets: int64(4 * size), Messages: 7}
	first := fmt.Sprintf("%dS,7C\n", 4*size)
	one := fmt.Sprintf("%d 1\n", size)
	want("ok", first+one+one)
	want("ok", first+one+one+one)
	put("cur/a,S=5:2,S", 3)    // the name counts
	put("cur/b,S=7:2,ST", 7)   // to be deleted
	put("cur/c:2,S", size-5-1) // its size counts
	put(".Trash/cur/d", 1000)  // is to be deleted
	put(".Sent/new/e", 1)
	put("other/cur/f", 1000) // is no folder
	want("ok", first+one+one+one+one)
	full := fmt.Sprintf("%s%d 7\n", first, 5*size)
	want("4.2.2", full) // now it has counted what others put there
	for _, name := range tree(t, filepath.Join(dir, "new"))[1:] {
		os.Remove(filepath.Join(dir, "new", name))
	}
	want("4.2.2", full) // it has just been counted
	age()
	want("ok", fmt.Sprintf("%s%d 4\n", first, 2*size)+one)
	put("maildirsize", maxSizeFile+1)
	want("ok", fmt.Sprintf("%s%d 5\n", first, 3*size)+one)
	for _, broken := range []string{
		"", "x", first + "x y\n", first + "1\n", first + "-100 1\n", first + "1 1", "1S\n1 1\n",
	} {
		os.WriteFile(file, []byte(broken), 0o600)
		want("4.2.2", fmt.Sprintf("%s%d 6\n", first, 4*size))
	}
	q = Quota{Messages: 7}
	want("ok", fmt.Sprintf("7C\n%d 6\n%s", 4*size, one))
	want("4.2.2", fmt.Sprintf("7C\n%d 7\n", 5*size))
	q = Quota{Octets: int64(size) - 1}
	want("5.2.2", fmt.Sprintf("7C\n%d 7\n", 5*size)) // it will never fit
}
