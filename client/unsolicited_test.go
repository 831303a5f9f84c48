package client

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestRFC5321Section38_RefusalBetweenMessages checks that what a server says when it gives up an idle connection is
// told, by whatever code, and that it concerns no message: it is temporary, and nothing is in doubt. The server speaks
// before the call, or when the client has made up its mind to send and has not done so.
func TestRFC5321Section38_RefusalBetweenMessages(t *testing.T) {
	for _, say := range []string{
		"451 4.4.2 Timeout waiting for data from client.", "421 4.4.2 idle", "554 5.4.2 idle for too long", "500-no\r\n500 nothing came",
	} {
		for _, late := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				now := make(chan struct{})
				go func() {
					defer here.Close()
					in := &lineReader{r: here}
					io.WriteString(here, "220 mail.example\r\n")
					in.line()
					io.WriteString(here, "250 mail.example\r\n")
					<-now
					io.WriteString(here, say+"\r\n")
					if line, err := in.line(); err == nil {
						t.Errorf("the client sent %q", line)
					}
				}()
				opt := &Options{TLS: ext.TLSInsecureNone, Hostname: "client.example"}
				if late {
					opt.Trace = &Trace{Command: func(_ context.Context, _ *Client, verb, _ string) {
						if verb == "MAIL" {
							close(now)
							synctest.Wait()
						}
					}}
				}
				c, err := NewClient(t.Context(), there, "mail.example", opt)
				if err != nil {
					t.Fatal(err)
				}
				if !late {
					close(now)
					synctest.Wait()
				}
				res, err := c.Send(t.Context(), message("hello\r\n", "c@d.example"))
				text := strings.ReplaceAll(say[strings.LastIndex(say, "\n")+1:], "\r\n", "\n")
				e, ok := asReply(err)
				if !ok || e.Code != atoi(say) || !strings.Contains(err.Error(), text[4:]) {
					t.Errorf("late %v: %v, want %q told", late, err, say)
				}
				if strings.Contains(err.Error(), "MAIL") || strings.Contains(err.Error(), "protocol") {
					t.Errorf("late %v: %q blames somebody", late, err)
				}
				one := res.Recipients[0].Err
				if !Temporary(err) || !SafeToRetry(err) || !Temporary(one) || !SafeToRetry(one) || err.(*SendError).Unknown {
					t.Errorf("late %v: %v is not temporary, or in doubt", late, err)
				}
				if err := c.Noop(t.Context()); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), text[4:]) || !Temporary(err) {
					t.Errorf("late %v: the next call: %v", late, err)
				}
			})
		}
	}
}

// TestSurplusSuccessIsNotTold: a success that nobody asked for is still a breach of the protocol, whenever it comes.
func TestSurplusSuccessIsNotTold(t *testing.T) {
	c := dial(t, nil, hello()+"C: NOOP\nS: 250 ok\nS: 250 ok\nHANGUP")
	if err := c.Noop(t.Context()); err != nil {
		if _, ok := asType[*ProtocolError](err); !ok {
			t.Error(err)
		}
	}
	if err := c.Noop(t.Context()); !errors.Is(err, proto.ErrOutOfStep) {
		t.Errorf("%v, want ErrOutOfStep", err)
	}
}

// TestRefusalBeforeTheEndIsSent: a refusal of the content that comes when only its end has not been sent is the
// outcome.
func TestRefusalBeforeTheEndIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		now := make(chan struct{})
		go func() {
			defer here.Close()
			in := &lineReader{r: here}
			io.WriteString(here, "220 mail.example\r\n")
			for _, reply := range []string{"250 mail.example", "250 ok", "250 ok", "354 go on"} {
				in.line()
				io.WriteString(here, reply+"\r\n")
			}
			go func() {
				<-now
				io.WriteString(here, "552 5.3.4 too large\r\n")
			}()
			io.Copy(io.Discard, here)
		}()
		c, err := NewClient(t.Context(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		large := strings.NewReader(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 5*blockSize/2/72))
		m := message("", "c@d.example")
		m.Body = io.MultiReader(large, atEnd(func() {
			close(now)
			synctest.Wait()
		}))
		res, err := c.Send(t.Context(), m)
		if e, ok := asReply(res.Recipients[0].Err); !ok || e.Code != 552 || e.Verb != contentName || Temporary(err) || !SafeToRetry(err) {
			t.Errorf("%v, want the refusal of the content", err)
		}
	})
}

// atEnd is a reader without content that calls a function.
type atEnd func()

func (f atEnd) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// TestGreetingThatBecomesARefusal: the reason that postscreen gives behind its teaser is told.
func TestGreetingThatBecomesARefusal(t *testing.T) {
	for _, tt := range []struct {
		last      string
		temporary bool
	}{
		{"521 5.7.1 Service unavailable; client [192.0.2.1] blocked using bl.example.com", false},
		{"550 5.5.1 Protocol error", false},
		{"450 4.3.2 Service currently unavailable", true},
	} {
		opt := inPlaintext(clienttest.New(t, "S: 220-mx.example.net\nS: "+tt.last+"\nC: QUIT\nS: 221 bye"))
		_, err := Dial(t.Context(), host, opt)
		if e, ok := asReply(err); !ok || e.Code != atoi(tt.last) || Temporary(err) != tt.temporary {
			t.Errorf("%v, want %q", err, tt.last)
		}
		if want := "smtp: greeting: " + tt.last; err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestLaxReplies sends a message to a server whose lines end with LF, and to one that has a TAB behind the code.
// Without LaxReplies the error names the option.
func TestLaxReplies(t *testing.T) {
	for _, replies := range [][]string{
		{"220 mail.example.org\n", "250-mail.example.org\n250 SIZE 1000\n", "250 ok\n", "250\n", "354 go\n", "250 queued\n", "221 bye\n"},
		{"220\tmail.example.org\r\n", "250-mail.example.org\r\n250\tSIZE 1000\r\n", "250\tok\r\n", "250\tok\r\n", "354\tgo\r\n",
			"250\tqueued\r\n", "221\tbye\r\n"},
	} {
		for _, lax := range []bool{false, true} {
			opt := &Options{TLS: ext.TLSInsecureNone, Hostname: "client.example", Limits: proto.Limits{LaxReplies: lax}}
			opt.DialContext = func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					defer here.Close()
					in := &lineReader{r: here}
					verbs := []string{"", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT"}
					for i, verb := range verbs {
						for line, err := "", error(nil); verb != "" && !strings.HasPrefix(line, verb); {
							if line, err = in.line(); err != nil {
								return
							}
						}
						io.WriteString(here, replies[i])
					}
				}()
				return there, nil
			}
			c, err := Dial(t.Context(), host, opt)
			if !lax {
				if _, ok := asType[*ProtocolError](err); !ok || !strings.Contains(err.Error(), "LaxReplies") {
					t.Errorf("%v, want a ProtocolError that names LaxReplies", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if size, _ := c.Caps().Args("SIZE"); size != "1000" {
				t.Errorf("SIZE is %q", size)
			}
			if err := c.SendAll(t.Context(), slices.Values([]*Message{message("x\r\n", "c@d.example")}),
				func(_ *Message, r *Result, err error) bool {
					if err != nil || r.Reply.Text != "queued" {
						t.Errorf("%v, %+v", err, r.Reply)
					}
					return true
				}); err != nil {
				t.Error(err)
			}
			c.Close()
		}
	}
}
