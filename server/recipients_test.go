package server_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// eachStore is a store whose sessions tell the outcome for each recipient.
type eachStore struct {
	*store
	each func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error
}

func (st eachStore) NewSession(ctx context.Context, c *server.Conn) (server.Session, error) {
	s, err := st.store.NewSession(ctx, c)
	if err != nil {
		return nil, err
	}
	return eachSession{s.(*session), st.each}, nil
}

type eachSession struct {
	*session
	each func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error
}

func (s eachSession) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	return s.each(ctx, r, result)
}

// deliver dials an LMTP server, whose DataEach is each, and opens a transaction with three recipients.
func deliver(t *testing.T, each func(context.Context, io.Reader, func(int, proto.Reply, error)) error) *peer {
	t.Helper()
	var b server.Backend = &store{}
	if each != nil {
		b = eachStore{&store{}, each}
	}
	p := dial(t, newServer(t, b, server.Options{Protocol: proto.LMTP, Limits: server.Limits{MessageSize: 1000}}))
	p.expect("220 mail.example LMTP")
	p.ask("LHLO client.example", "250-")
	openThree(p)
	return p
}

func openThree(p *peer) {
	p.t.Helper()
	p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<one@d.example>", "250 ", "RCPT TO:<two@d.example>", "250 ",
		"RCPT TO:<two@d.example>", "250 ")
}

var errFull = &proto.Error{Code: 452, Status: proto.Status{4, 2, 2}, Text: "mailbox full"}

func TestLMTP(t *testing.T) {
	readAll := func(_ context.Context, r io.Reader, _ func(int, proto.Reply, error)) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	for _, c := range []struct {
		name string
		each func(context.Context, io.Reader, func(int, proto.Reply, error)) error
		say  string
		want []string
	}{
		{"T02 without DataEach", nil, "hello\r\n.", []string{"250 2.0.0", "250 2.0.0", "250 2.0.0"}},
		{"T11 too large", nil, strings.Repeat("x", 2000) + "\r\n.", []string{"552 5.3.4", "552 5.3.4", "552 5.3.4"}},
		{"bare LF", nil, "a\nb\r\n.", []string{"554 5.6.0", "554 5.6.0", "554 5.6.0"}},
		{"no results", readAll, ".", []string{"250 2.0.0", "250 2.0.0", "250 2.0.0"}},
		{"T02 results", func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			err := readAll(ctx, r, result)
			result(2, proto.Reply{}, nil)
			result(0, proto.Reply{Code: 250, Text: "delivered"}, nil)
			result(0, proto.Reply{}, errFull)                           // the first one counts
			result(1, proto.Reply{}, &proto.Error{Code: 421, Text: ""}) // the others have a right to their replies
			result(3, proto.Reply{}, errFull)
			result(-1, proto.Reply{}, errFull)
			return err
		}, ".", []string{"250 2.0.0 delivered", "451 ", "250 2.0.0 Message"}},
		{"the rest", func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			result(1, proto.Reply{}, errFull) // before the message has been read
			return errors.New("secret")
		}, "hello\r\n.", []string{"451 4.3.0 Local", "452 4.2.2", "451 4.3.0 Local"}},
		{"malformed whatever the results are", func(_ context.Context, _ io.Reader, result func(int, proto.Reply, error)) error {
			for i := range 3 {
				result(i, proto.Reply{}, nil)
			}
			return nil
		}, "a\nb\r\n.", []string{"554 5.6.0", "554 5.6.0", "554 5.6.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := deliver(t, c.each)
			p.ask("DATA", "354 ")
			p.send(c.say + "\r\n")
			p.expect(c.want...)
			p.ask("NOOP", "250 ") // and no reply more
			openThree(p)
			p.quit()
		})
	}
}

// TestT07_AsReady: an outcome is sent once it and all earlier ones are known (RFC 2033 section 5).
func TestT07_AsReady(t *testing.T) {
	next := make(chan int)
	var wg sync.WaitGroup
	p := deliver(t, func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
		_, err := io.Copy(io.Discard, r)
		for range 3 {
			rcpt := <-next
			wg.Go(func() { result(rcpt, proto.Reply{}, nil) }) // from any goroutine
			wg.Wait()
			next <- rcpt
		}
		return err
	})
	p.ask("DATA", "354 ")
	p.send("hello\r\n.\r\n")
	step := func(rcpt int) {
		next <- rcpt
		<-next
	}
	step(0)
	p.expect("250 ")
	step(2)
	select {
	case line := <-p.lines:
		t.Errorf("the server says %q before its turn", line)
	default:
	}
	step(1)
	p.expect("250 ", "250 ")
	p.quit()
}

// TestT04_Chunks: only the last chunk has a reply for each recipient (RFC 2033 section 4.3).
func TestT04_Chunks(t *testing.T) {
	p := deliver(t, func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
		_, err := io.Copy(io.Discard, r)
		result(1, proto.Reply{}, errFull)
		return err
	})
	p.chunk("BDAT 3", "abc", "250 2.0.0 3 octets")
	p.chunk("BDAT 3 LAST", "def", "250 2.0.0 Message")
	p.expect("452 4.2.2", "250 2.0.0 Message")
	openThree(p)
	p.chunk("BDAT 3 LAST", "d\nf", "554 ")
	p.expect("554 ", "554 ")
	p.ask("NOOP", "250 ")
	p.quit()
}

// each is an extension by which a client asks for an outcome for each recipient: the parameter XEACH.
func each() ext.Extension {
	return ext.Extension{Keyword: "XEACH", Mail: []ext.Param{{Key: "XEACH", MaxLength: len(" XEACH"), Flag: true, PerRecipient: true}}}
}

func TestSplit(t *testing.T) {
	const announced = "353 An outcome"
	var conn *server.Conn // of the session
	none := func(context.Context, io.Reader, func(int, proto.Reply, error)) error { return nil }
	read := func(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
	for _, tt := range []struct {
		name    string
		each    func(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error // nil for a session without
		content string
		want    []string
	}{
		{"some", func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			read(r)
			result(1, proto.Reply{}, errFull)
			result(0, proto.Reply{}, nil)
			return &proto.Error{Code: 550, Text: "no"}
		}, "x", []string{announced, "250 2.0.0", "452 4.2.2", "550 5.0.0 no", "250 2.0.0 Message accepted"}},
		{"all", none, "x", []string{announced, "250 2.0.0", "250 2.0.0", "250 2.0.0", "250 2.0.0 Message accepted"}},
		{"all, with a name", func(context.Context, io.Reader, func(int, proto.Reply, error)) error {
			conn.Accept("queued as 4XyZ")
			return nil
		}, "x",
			[]string{announced, "250 2.0.0 queued", "250 2.0.0 queued", "250 2.0.0 queued", "250 2.0.0 queued as 4XyZ"}},
		{"told before it was read", func(_ context.Context, _ io.Reader, result func(int, proto.Reply, error)) error {
			result(0, proto.Reply{}, nil)
			result(2, proto.Reply{}, errFull)
			return nil
		}, "x", []string{announced, "250 ", "250 ", "452 ", "250 "}},
		{"none", func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			result(0, proto.Reply{}, &proto.Error{Code: 550, Text: "no"})
			result(1, proto.Reply{}, errFull)
			result(2, proto.Reply{}, &proto.Error{Code: 554, Text: "never"})
			return nil
		}, "x", []string{announced, "550 ", "452 4.2.2", "554 ", "452 4.2.2 mailbox full"}},
		{"none for ever", func(context.Context, io.Reader, func(int, proto.Reply, error)) error {
			return &proto.Error{Code: 550, Text: "no"}
		}, "x",
			[]string{announced, "550 ", "550 ", "550 ", "550 5.0.0 no"}},
		{"failure", func(context.Context, io.Reader, func(int, proto.Reply, error)) error { return errors.New("secret") }, "x",
			[]string{announced, "451 4.3.0", "451 4.3.0", "451 4.3.0", "451 4.3.0"}},
		{"refused as a whole", func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			read(r)
			result(0, proto.Reply{}, nil)
			return nil
		}, "a bare\n", []string{"554 5.6.0"}},
		{"too large", none, strings.Repeat("123456\r\n", 200), []string{"552 5.3.4"}},
		{"a session without", nil, "x", []string{"250 2.0.0 Message accepted"}},
	} {
		for _, chunks := range []bool{false, true} {
			name := tt.name + " in content"
			if chunks {
				name = tt.name + " in chunks"
			}
			t.Run(name, func(t *testing.T) {
				var b server.Backend = &store{}
				if tt.each != nil {
					b = eachStore{&store{newSession: func(_ context.Context, c *server.Conn) error { conn = c; return nil }}, tt.each}
				}
				p := dial(t, newServer(t, b, server.Options{Extensions: append(ehlo.Default(), each()), Limits: server.Limits{MessageSize: 1000}}))
				p.hello()
				p.ask("MAIL FROM:<a@b.example> XEACH", "250 ", "RCPT TO:<one@d.example>", "250 ", "RCPT TO:<two@d.example>", "250 ",
					"RCPT TO:<three@d.example>", "250 ")
				if chunks {
					p.send("BDAT " + strconv.Itoa(len(tt.content)) + " LAST\r\n" + tt.content)
				} else {
					p.ask("DATA", "354 ")
					p.send(tt.content + "\r\n.\r\n")
				}
				p.expect(tt.want...)
				p.quit()
			})
		}
	}
}

// TestSplitNot: there is one reply if the client has not asked for more, or if there is one recipient.
func TestSplitNot(t *testing.T) {
	st := eachStore{&store{}, func(_ context.Context, _ io.Reader, result func(int, proto.Reply, error)) error {
		result(0, proto.Reply{}, errFull)
		return nil
	}}
	p := dial(t, newServer(t, st, server.Options{Extensions: append(ehlo.Default(), each())}))
	p.hello()
	for _, begin := range []string{"MAIL FROM:<a@b.example>", `MAIL FROM:<"a> XEACH"@b.example>`, "MAIL FROM:<xeach@b.example>"} {
		p.ask(begin, "250 ", "RCPT TO:<one@d.example>", "250 ", "RCPT TO:<two@d.example>", "250 ", "DATA", "354 ", ".", "250 2.0.0 Message accepted")
	}
	p.ask("MAIL FROM:<a@b.example> XEACH", "250 ", "RCPT TO:<one@d.example>", "250 ", "DATA", "354 ", ".", "250 2.0.0 Message accepted")
	p.ask("MAIL FROM:<a@b.example> XEACH=1", "501 ", "MAIL FROM:<a@b.example> xeach SIZE=5", "250 ", "RSET", "250 ", "HELO x", "250 ",
		"MAIL FROM:<a@b.example> XEACH", "555 ")
	p.quit()
}

// TestSplitInGroup has the commands of the next message behind the last chunk.
func TestSplitInGroup(t *testing.T) {
	st := eachStore{&store{}, func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
		_, err := io.Copy(io.Discard, r)
		result(1, proto.Reply{}, errFull)
		return err
	}}
	p := dial(t, newServer(t, st, server.Options{Extensions: append(ehlo.Default(), each())}))
	p.hello()
	const message = " XEACH\r\nRCPT TO:<one@d.example>\r\nRCPT TO:<two@d.example>\r\nBDAT 5 LAST\r\nhello"
	p.send("MAIL FROM:<a@b.example>" + message + "MAIL FROM:<e@f.example>" + message + "QUIT\r\n")
	for range 2 {
		p.expect("250 2.1.0", "250 2.1.5", "250 2.1.5", "353 ", "250 ", "452 ", "250 2.0.0 Message accepted")
	}
	p.expect("221 ")
}

type outcomeStore struct {
	*session
	each func(r io.Reader, result func(int, proto.Reply, error)) error
}

func (s outcomeStore) DataEach(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	return s.each(r, result)
}

// dialEach dials a server of LMTP whose sessions have the given DataEach, and opens a transaction.
func dialEach(t *testing.T, opt server.Options, each func(io.Reader, func(int, proto.Reply, error)) error) *peer {
	t.Helper()
	opt.Protocol = proto.LMTP
	b := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return outcomeStore{&session{&store{}}, each}, nil
	})
	p := dial(t, newServer(t, b, opt))
	p.expect("220 mail.example")
	p.ask("LHLO client.example", "250-mail.example")
	return p
}

// TestBudgetOneRecipientAccepted: a message is accepted if one recipient has accepted it, whatever DataEach returns for
// the others.
func TestBudgetOneRecipientAccepted(t *testing.T) {
	p := dialEach(t, server.Options{Limits: server.Limits{Errors: 1}},
		func(r io.Reader, result func(int, proto.Reply, error)) error {
			_, _ = io.Copy(io.Discard, r)
			result(0, proto.Reply{}, nil)
			return proto.Refuse(550, proto.Status{5, 7, 1}, "not the others")
		})
	p.ask("FOO", "500")
	p.begin()
	p.ask("RCPT TO:<e@d.example>", "250", "DATA", "354", "a\r\n.", "250 2.0.0")
	p.expect("550 5.7.1 not the others")
	p.ask("FOO", "500", "FOO", "421")
	_ = p.ended()
}

// TestResultTooLate: an outcome that is reported when DataEach has returned is logged and changes nothing.
func TestResultTooLate(t *testing.T) {
	var log strings.Builder
	var late func(int, proto.Reply, error)
	p := dialEach(t, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))},
		func(r io.Reader, result func(int, proto.Reply, error)) error {
			if late != nil {
				late(0, proto.Reply{}, nil) // this one is in time: it is the same function
			}
			late = result
			_, err := io.Copy(io.Discard, r)
			return err
		})
	p.begin()
	p.ask("DATA", "354", "a\r\n.", "250 2.0.0 Message accepted", "NOOP", "250")
	late(0, proto.Reply{}, errors.New("too late"))
	p.quit()
	if !strings.Contains(log.String(), "too late") {
		t.Errorf("the log is %q, want a record of the late result", log.String())
	}
}

// eachFunc is a session with DataEach.
type eachFunc struct {
	discard
	f func(context.Context, io.Reader, func(int, proto.Reply, error)) error
}

func (s eachFunc) DataEach(ctx context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	return s.f(ctx, r, result)
}

// TestLateResultTouchesNothing: a result that is reported too late is logged, and does not touch what belongs to the
// goroutine of the connection.
func TestLateResultTouchesNothing(t *testing.T) {
	stop := make(chan bool)
	var wg sync.WaitGroup
	b := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return eachFunc{f: func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			_, err := io.Copy(io.Discard, r)
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						result(0, proto.Reply{}, nil)
						runtime.Gosched()
					}
				}
			})
			return err
		}}, nil
	})
	conf, clientConf := tlsPair(t)
	s := newServer(t, b, server.Options{Protocol: proto.LMTP, TLSConfig: conf, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	w := dialWire(t, s)
	w.ask("", "220")
	w.ask("LHLO c.example\r\n", "250")
	w.ask("MAIL FROM:<a@b.example>\r\n", "250")
	w.ask("RCPT TO:<a@b.example>\r\n", "250")
	w.ask("DATA\r\n", "354")
	w.ask("x\r\n.\r\n", "250")
	p := w.startTLS(clientConf)
	p.ask("LHLO c.example", "250")
	close(stop)
	wg.Wait()
	p.quit()
}

// TestResultAfterPanic: a panic of DataEach ends the reporting of outcomes.
func TestResultAfterPanic(t *testing.T) {
	stop := make(chan bool)
	var wg sync.WaitGroup
	b := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return eachFunc{f: func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
			_, _ = io.Copy(io.Discard, r)
			for i := range 40 {
				wg.Go(func() {
					<-stop
					result(i, proto.Reply{}, nil)
				})
			}
			defer close(stop)
			panic("boom")
		}}, nil
	})
	s := newServer(t, b, server.Options{Protocol: proto.LMTP})
	w := dialWire(t, s)
	w.ask("", "220")
	w.ask("LHLO c.example\r\n", "250")
	w.ask("MAIL FROM:<a@b.example>\r\n", "250")
	for range 40 {
		w.ask("RCPT TO:<a@b.example>\r\n", "250")
	}
	w.ask("DATA\r\n", "354")
	_, _ = io.WriteString(w.nc, "x\r\n.\r\n")
	rest, err := io.ReadAll(w.nc)
	if err != nil || !regexp.MustCompile(`^(250[ -][^\r\n]*\r\n)*421 [^\r\n]*\r\n(421[^\n]*\n)*$`).Match(rest) {
		t.Errorf("%q, %v: want outcomes and then 421", rest, err)
	}
	wg.Wait()
	<-w.done
}
