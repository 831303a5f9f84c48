package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/server"
)

// An earlyLog collects what is said about early talkers: the verdicts, and the lines of the log.
type earlyLog struct {
	verdicts []string
	lines    bytes.Buffer
}

func (l *earlyLog) options(opt server.Options) server.Options {
	opt.Logger = slog.New(slog.NewTextHandler(&l.lines, nil))
	opt.Trace = &server.Trace{Verdict: func(_ context.Context, _ *server.Conn, v server.Verdict) {
		l.verdicts = append(l.verdicts, v.Method+" "+v.Result+" "+v.Reason)
	}}
	return opt
}

// check checks that each of the reasons was told once, in the trace and in the log.
func (l *earlyLog) check(t *testing.T, reasons ...string) {
	t.Helper()
	var want []string
	for _, r := range reasons {
		want = append(want, "early fail "+r)
	}
	if fmt.Sprint(l.verdicts) != fmt.Sprint(want) {
		t.Errorf("the verdicts are %q, want %q", l.verdicts, want)
	}
	if got := strings.Count(l.lines.String(), "talks early"); got != len(reasons) {
		t.Errorf("the log is %q, want %d lines about early talking", l.lines.String(), len(reasons))
	}
}

// TestA10_GreetingDelay: the greeting waits, and a client that does not is treated as Options.EarlyTalkers says.
func TestA10_GreetingDelay(t *testing.T) {
	const delay, early = 6 * time.Second, "octets came before the greeting"
	for _, c := range []struct {
		name  string
		mode  server.EarlyTalkers
		talks bool
		reply string
		after time.Duration
	}{
		{"patient", server.NoteEarly, false, "220 mail.example ESMTP", delay},
		{"patient, refuse", server.RefuseEarly, false, "220 mail.example ESMTP", delay},
		{"note", server.NoteEarly, true, "220 mail.example ESMTP", time.Second},
		{"delay", server.DelayEarly, true, "220 mail.example ESMTP", 11 * time.Second},
		{"refuse", server.RefuseEarly, true, "554 mail.example Protocol error: wait for the greeting", time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, c.after, func(t *testing.T) {
				var log earlyLog
				st := &store{}
				p := dial(t, newServer(t, st, log.options(server.Options{GreetingDelay: delay, EarlyTalkers: c.mode})))
				if c.talks {
					<-time.After(time.Second)
					p.send("EHLO client.example\r\n")
				}
				p.expect(c.reply)
				if !strings.HasPrefix(c.reply, "220") {
					if p.ended() == nil || st.calls() != "" {
						t.Error("the server goes on")
					}
					log.check(t, early)
					return
				}
				if !c.talks {
					p.send("EHLO client.example\r\n")
				}
				p.expect("250-")
				p.begin()
				p.quit()
				if c.talks {
					log.check(t, early)
				} else {
					log.check(t)
				}
			})
		})
	}
	t.Run("slow session", func(t *testing.T) {
		for mode, reply := range map[server.EarlyTalkers]string{server.NoteEarly: "220 ", server.RefuseEarly: "554 "} {
			inBubble(t, time.Minute, func(t *testing.T) {
				var log earlyLog
				st := &store{newSession: func(context.Context, *server.Conn) error {
					<-time.After(time.Minute)
					return nil
				}}
				p := dial(t, newServer(t, st, log.options(server.Options{EarlyTalkers: mode})))
				p.send("QUIT\r\n")
				p.expect(reply)
				if mode == server.NoteEarly {
					p.expect("221 ")
				}
				_ = p.ended()
				log.check(t, early)
			})
		}
	})
}

// TestGreetingDelayEnds: a shutdown, a hang-up and Close end the wait, and a half-close does not.
func TestGreetingDelayEnds(t *testing.T) {
	opt := server.Options{GreetingDelay: time.Minute}
	t.Run("Shutdown", func(t *testing.T) {
		inBubble(t, 0, func(t *testing.T) {
			s := newServer(t, &store{}, opt)
			p := dial(t, s)
			synctest.Wait()
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			p.expect("220 ", "421 ")
			if err := p.ended(); err != server.ErrServerClosed {
				t.Errorf("ServeConn returned %v", err)
			}
		})
	})
	t.Run("hang-up", func(t *testing.T) {
		inBubble(t, 0, func(t *testing.T) {
			st := &store{}
			p := dial(t, newServer(t, st, opt))
			synctest.Wait()
			p.nc.Close()
			if <-p.done == nil || st.calls() != "" {
				t.Error("a session was made for a client that is gone")
			}
		})
	})
	t.Run("half-close", func(t *testing.T) {
		inBubble(t, 0, func(t *testing.T) {
			near, far := newDuplex()
			done := make(chan error, 1)
			s := newServer(t, &store{}, opt)
			go func() { done <- s.ServeConn(context.Background(), far) }()
			_ = near.CloseWrite()
			if b, err := io.ReadAll(near); err != nil || !strings.HasPrefix(string(b), "220 ") {
				t.Errorf("the client gets %q, %v", b, err)
			}
			<-done
			near.Close()
		})
	})
	t.Run("Shutdown while an early talker waits", func(t *testing.T) {
		inBubble(t, 0, func(t *testing.T) {
			s := newServer(t, &store{}, server.Options{GreetingDelay: time.Minute, EarlyTalkers: server.DelayEarly})
			p := dial(t, s)
			p.send("EHLO x\r\n")
			synctest.Wait()
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			p.expect("220 ")
			<-p.done
		})
	})
	t.Run("Close", func(t *testing.T) {
		inBubble(t, 0, func(t *testing.T) {
			s := newServer(t, &store{}, opt)
			p := dial(t, s)
			synctest.Wait()
			s.Close()
			if err := p.ended(); err != server.ErrServerClosed {
				t.Errorf("ServeConn returned %v", err)
			}
		})
	})
}

// TestL11_EarlyCommands: which groups of commands are early talking, and what becomes of them.
func TestL11_EarlyCommands(t *testing.T) {
	const mail, rcpt = "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n"
	behind := func(verb string) string { return "octets came behind " + verb + ", before the reply to it" }
	without := []ext.Extension{ehlo.EightBitMIME()}
	for _, c := range []struct {
		name       string
		extensions []ext.Extension
		groups     []string
		codes      string // with NoteEarly
		refused    string // with RefuseEarly, what comes in place of codes; "" if nothing is wrong
		verb       string
	}{
		{"a group", nil, []string{"EHLO x\r\n", mail + rcpt + "DATA\r\n", ".\r\n" + mail + "RSET\r\n"},
			"250 250 250 354 250 250 250", "", ""},
		{"chunks", nil, []string{"EHLO x\r\n", mail + rcpt + "BDAT 2\r\n\r\nBDAT 0 LAST\r\n" + mail},
			"250 250 250 250 250 250", "", ""},
		{"one at a time", without, []string{"EHLO x\r\n", mail, rcpt, "DATA\r\n", "hello\r\n.\r\n"},
			"250 250 250 354 250", "", ""},
		{"a chunk is no early talking", []ext.Extension{ehlo.Chunking()},
			[]string{"EHLO x\r\n", mail, rcpt, "BDAT 2 LAST\r\n\r\n"},
			"250 250 250 250", "", ""},
		{"behind QUIT", nil, []string{"EHLO x\r\n", mail, "QUIT\r\n\r\n"}, "250 250 221", "", ""},
		{"behind EHLO", nil, []string{"EHLO x\r\n" + mail}, "250 250", "554", "EHLO"},
		{"behind HELO", nil, []string{"HELO x\r\n" + mail}, "250 250", "554", "HELO"},
		{"half a line behind EHLO", nil, []string{"EHLO x\r\nM", mail[1:]}, "250 250", "554", "EHLO"},
		{"in a session of HELO", nil, []string{"HELO x\r\n", mail + rcpt}, "250 250 250", "250 554", "MAIL"},
		{"not on offer", without, []string{"EHLO x\r\n", mail + rcpt}, "250 250 250", "250 554", "MAIL"},
		{"HELO behind EHLO", nil, []string{"EHLO x\r\n", "HELO x\r\n", mail + rcpt},
			"250 250 250 250", "250 250 554", "MAIL"},
		{"behind DATA", nil, []string{"EHLO x\r\n", mail + rcpt + "DATA\r\n.\r\n"},
			"250 250 250 354 250", "250 250 250 554", "DATA"},
		{"twice", nil, []string{"EHLO x\r\n" + mail + rcpt + "DATA\r\n.\r\n"}, "250 250 250 354 250", "554", "EHLO"},
	} {
		for mode := server.NoteEarly; mode <= server.RefuseEarly; mode++ {
			t.Run(fmt.Sprintf("%s/%d", c.name, mode), func(t *testing.T) {
				took := time.Duration(0)
				if mode == server.DelayEarly && c.verb != "" {
					took = 10 * time.Second
				}
				inBubble(t, took, func(t *testing.T) {
					var log earlyLog
					st := &store{}
					p := dial(t, newServer(t, st, log.options(server.Options{EarlyTalkers: mode, Extensions: c.extensions})))
					p.expect("220 ")
					want := c.codes
					if mode == server.RefuseEarly && c.refused != "" {
						want = c.refused
					}
					for _, group := range c.groups {
						p.send(group)
						synctest.Wait()
					}
					for code := range strings.FieldsSeq(want) {
						p.expect(code)
					}
					p.nc.Close()
					<-p.done
					if c.verb == "" {
						log.check(t)
					} else {
						log.check(t, behind(c.verb))
					}
				})
			})
		}
	}
}

// TestL11_BehindStartTLS: what is sent behind STARTTLS is noted, and with RefuseEarly there is no handshake.
func TestL11_BehindStartTLS(t *testing.T) {
	config, _ := tlsPair(t)
	for mode, want := range map[server.EarlyTalkers]string{server.NoteEarly: "220 ", server.RefuseEarly: "554 5.5.0 "} {
		var log earlyLog
		s := newServer(t, &store{}, log.options(server.Options{TLSConfig: config, EarlyTalkers: mode}))
		here, there := net.Pipe()
		p := dialOver(t, s, here, there)
		p.hello()
		p.send("STARTTLS\r\nMAIL FROM:<evil@x.example>\r\n")
		p.expect(want)
		p.nc.Close()
		<-p.done
		log.check(t, "octets came behind STARTTLS, before the reply to it")
	}
}

func TestEarlyOptions(t *testing.T) {
	for _, opt := range []server.Options{{GreetingDelay: time.Minute + 1}, {EarlyTalkers: 3}, {Lax: true, Strict: true}} {
		if _, err := server.New(&store{}, &opt); err == nil || !strings.HasPrefix(err.Error(), "smtp: Options.") {
			t.Errorf("%+v: %v", opt, err)
		}
	}
	inBubble(t, 0, func(t *testing.T) {
		p := dial(t, newServer(t, &store{}, server.Options{GreetingDelay: -1}))
		p.expect("220 ")
		p.quit()
	})
}
