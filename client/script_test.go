package client

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/proto/prototest"
)

// TestScripts plays the dialogue scripts for clients against a client.
func TestScripts(t *testing.T) {
	const dir = "../proto/testdata/scripts/client"
	scripts, err := prototest.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		t.Run(s.Title(), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, filepath.Base(s.Name)))
			if err != nil {
				t.Fatal(err)
			}
			srv := clienttest.New(t, string(text))
			m, err := NewMessage(s.Directives["from"], strings.Fields(s.Directives["to"]),
				strings.NewReader("Subject: hello\r\n\r\n.\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			err = Send(context.Background(), host, inClear(srv), m)
			if got := verdict(err); got != s.Directives["result"] {
				t.Errorf("%s: Send returned %v, which is %q, want %q", s.Name, err, got, s.Directives["result"])
			}
		})
	}
}

// verdict is err in the words of the scripts.
func verdict(err error) string {
	_, protocol := asType[*ProtocolError](err)
	e, sent := asType[*SendError](err)
	switch {
	case err == nil:
		return "ok"
	case protocol:
		return "protocol"
	case sent && e.Result.Sent() > 0:
		return "some"
	case Temporary(err):
		return "temporary"
	}
	return "permanent"
}
