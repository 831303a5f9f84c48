package client

import (
	"errors"
	"io"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// TestAddresses: what net/mail has parsed is a recipient, whatever its local part needs.
func TestAddresses(t *testing.T) {
	list, err := mail.ParseAddressList(`Bob <bob@example.net>, "a b"@example.net, =?utf-8?q?J=C3=B6rg?= <"x\"y"@d.example>`)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMessage("a@b.example", Addresses(list...), strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range m.To {
		got = append(got, r.Address.String())
	}
	if want := []string{"bob@example.net", `"a b"@example.net`, `"x\"y"@d.example`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestErr: a client knows that the server has hung up, without asking it.
func TestErr(t *testing.T) {
	c, srv := pipe(t)
	if err := c.Err(); err != nil {
		t.Errorf("a client that is ready: %v", err)
	}
	c.busy.Store(true)
	if err := c.Err(); err != nil {
		t.Errorf("a client that is busy: %v", err)
	}
	c.busy.Store(false)
	c.Close()
	srv.wait()
	if err := c.Err(); err != ErrClosed {
		t.Errorf("a client that was closed: %v", err)
	}

	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		s.mu.Lock()
		s.reply("421 4.4.2 timeout\r\n")
		s.fly(0)
		s.mu.Unlock()
		synctest.Wait()
		if err := c.Err(); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("a client whose server said 421: %v", err)
		}
	})
}

// TestCheck: mistakes in options are found without a connection.
func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		opt  *Options
		want string
	}{
		"none":     {nil, ""},
		"zero":     {&Options{}, ""},
		"hostname": {&Options{Hostname: "my host"}, "smtp: Options.Hostname has to be "},
		"protocol": {&Options{Protocol: 9}, "smtp: Options.Protocol is 9"},
		"TLS":      {&Options{TLS: 99}, "smtp: Options.TLS is 99"},
	} {
		err := tt.opt.Check()
		text := ""
		if err != nil {
			text = err.Error()
		}
		if (err != nil) != (tt.want != "") || !strings.HasPrefix(text, tt.want) || strings.Count(text, "smtp: ") > 1 {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// TestErrHangup: a client knows of a server that has hung up without a word.
func TestErrHangup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, nil, hello()+"CLOSE")
		synctest.Wait()
		if err := c.Err(); !errors.Is(err, ErrClosed) || !errors.Is(err, io.EOF) || !SafeToRetry(err) {
			t.Errorf("a client whose server has hung up: %v", err)
		}
	})
}
