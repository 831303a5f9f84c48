package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestRetry sends a message again that was refused for now: it has to have its content.
func TestRetry(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+
		"C: MAIL*\nC: RCPT*\nC: DATA\nS: 451 not yet\nS: 503 no\nS: 503 no\n"+
		groupUpToData+"C: ..hello\nC: .\nS: 250 ok\nC: QUIT\nS: 221 bye")
	m := message("hello\r\n", "c@d.example")
	body := strings.NewReader("skipped.hello\r\n")
	if _, err := body.Seek(int64(len("skipped")), io.SeekStart); err != nil {
		t.Fatal(err)
	}
	m.Body = body
	if _, err := c.Send(context.Background(), m); !Temporary(err) || !SafeToRetry(err) {
		t.Fatalf("the first time: %v", err)
	}
	if body.Len() != len(".hello\r\n") {
		t.Errorf("%d octets of the body are left, want it back at its beginning", body.Len())
	}
	// On the wire its dot is doubled.
	if _, err := c.Send(context.Background(), m); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

// TestSendTwice sends a message twice: it has its content the second time too.
func TestSendTwice(t *testing.T) {
	once := groupUpToData + "C: ..hello\nC: .\nS: 250 ok\n"
	c := dial(t, nil, hello("PIPELINING")+once+once)
	m := message(".hello\r\n", "c@d.example")
	for range 2 {
		if _, err := c.Send(context.Background(), m); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Send(context.Background(), nil); !SafeToRetry(err) || !strings.Contains(err.Error(), "no recipients") {
		t.Errorf("nil for a message: %v", err)
	}
}

// TestPipeToMany has content from a pipe, which is a file and cannot be read twice, for more recipients than are offered at
// once where it can.
func TestPipeToMany(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		_, _ = io.WriteString(w, "hello\r\n")
	}()
	var to []string
	for i := range 1100 {
		to = append(to, fmt.Sprintf("r%d@x.example", i))
	}
	c := dial(t, nil, hello("PIPELINING")+taken(to...))
	m := message("", to...)
	m.Body = r
	checkAll(t, m)(c.Send(context.Background(), m))
}

// TestTemporaryNetwork has credentials fail because their source cannot be reached.
func TestTemporaryNetwork(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, true},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, true},
		{&net.DNSError{IsTemporary: true}, true},
		{&net.DNSError{IsTimeout: true}, true},
		{&net.DNSError{IsNotFound: true}, false},
		{errors.New("no account"), false},
	} {
		if got := Temporary(&ext.AuthError{Err: tt.err}); got != tt.want {
			t.Errorf("%#v: %v", tt.err, got)
		}
	}
}

// TestTemporaryHandshake has handshakes end in all sorts of ways.
func TestTemporaryHandshake(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{io.EOF, true},
		{io.ErrUnexpectedEOF, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{context.DeadlineExceeded, true},
		{&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, false},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, false},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, false},
		{errors.New("the server does not offer it"), false},
	} {
		if got := Temporary(&ext.TLSError{Err: tt.err}); got != tt.want {
			t.Errorf("%#v: %v", tt.err, got)
		}
	}
	if !Temporary(ErrBusy) {
		t.Error("a client in use is so for good")
	}
}

// TestSendAllUnsendable has messages that cannot be sent behind one whose outcome is awaited: only so many of them pile up.
func TestSendAllUnsendable(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+groupUpToData+"C: hello\nC: .\nS: 250 ok\nC: QUIT\nS: 221 bye")
	taken, most := 0, 0
	reported := 0
	var msgs iter.Seq[*Message] = func(yield func(*Message) bool) {
		for taken = range 1000 {
			most = max(most, taken-reported)
			m := message("hello\r\n", "c@d.example")
			if taken > 0 {
				m.To = nil
			}
			if !yield(m) {
				return
			}
		}
	}
	err := c.SendAll(context.Background(), msgs, func(_ *Message, _ *Result, err error) bool {
		if _, bad := asType[*MessageError](err); bad != (reported > 0) {
			t.Errorf("message %d: %v", reported, err)
		}
		reported++
		return true
	})
	if err != nil || reported != 1000 || most > 2*maxMessagesAhead {
		t.Errorf("%d messages reported, up to %d on their way: %v", reported, most, err)
	}
}

// deaf is a connection whose other end has stopped reading, once it is closed.
func deaf(conn net.Conn, from <-chan struct{}) net.Conn { return &deafConn{conn, from} }

type deafConn struct {
	net.Conn
	from <-chan struct{}
}

func (d *deafConn) Write(p []byte) (int, error) {
	select {
	case <-d.from:
		_, err := d.Conn.Read(make([]byte, 1)) // blocks until the connection is closed
		return 0, err
	default:
		return d.Conn.Write(p)
	}
}

// TestQuitIsBounded has servers that do not answer QUIT, or do not even read it.
func TestQuitIsBounded(t *testing.T) {
	t.Run("by the context of Send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go answer(far, "")
			opt := &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone,
				DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			start := time.Now()
			if err := Send(ctx, host, opt, message("hello\r\n", "c@d.example")); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("it took %v, and the context had a second", took)
			}
		})
	})
	t.Run("by its own timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go answer(far, "QUIT")
			stop := make(chan struct{})
			opt := &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, Timeouts: Timeouts{Quit: 2 * time.Second},
				DialContext: func(context.Context, string, string) (net.Conn, error) { return deaf(near, stop), nil }}
			c, err := Dial(context.Background(), host, opt)
			if err != nil {
				t.Fatal(err)
			}
			close(stop)
			start := time.Now()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v, want Timeouts.Quit", took)
			}
		})
	})
}

// answer is a server that accepts everything, and goes silent at the command called silent, or at QUIT.
func answer(conn net.Conn, silent string) {
	defer conn.Close()
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	say("220 mail.example")
	content := false
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(buf[:n])) {
			word := strings.TrimSpace(line)
			switch {
			case content:
				if content = word != "."; !content {
					say("250 ok")
				}
			case word == "QUIT" || silent != "" && strings.HasPrefix(word, silent):
			case word == "DATA":
				content = true
				say("354 go on")
			default:
				say("250 ok")
			}
		}
	}
}

// TestSendAllLMTP has a server that refuses content with one reply where two are due. What follows has to be spared the
// confusion (RFC 2033 section 4.2).
func TestSendAllLMTP(t *testing.T) {
	synctest.Test(t, testSendAllLMTP)
}

func testSendAllLMTP(t *testing.T) {
	opt := func(o *Options) {
		o.Protocol = proto.LMTP
		o.Timeouts.Content = time.Minute
	}
	script := "S: 220 mail.example\nC: LHLO client.example\nS: 250-mail.example\nS: 250 PIPELINING\n" +
		"C: MAIL*\nC: RCPT*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go on\nC: hello\nC: .\nS: 554 no\nHANGUP"
	c := dial(t, opt, script)
	msgs := func(yield func(*Message) bool) {
		for range 3 {
			if !yield(message("hello\r\n", "a@d.example", "b@d.example")) {
				return
			}
		}
	}
	n := 0
	err := c.SendAll(context.Background(), msgs, func(_ *Message, res *Result, err error) bool {
		n++
		if res.Sent() != 0 || n == 1 && res.Recipients[0].Reply.Code != 554 || !Temporary(res.Recipients[1].Err) {
			t.Errorf("message %d: %+v, %v", n, res, err)
		}
		return true
	})
	if err == nil || n != 1 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d messages reported: %v, want the first to be the last", n, err)
	}
}
