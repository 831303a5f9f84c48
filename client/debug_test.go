package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
)

// loud is a session in which the server says what it should not: addresses, controls, octets that are no UTF-8.
const loud = `TLS
S: 220 mail.example
C: EHLO client.example
S: 250-mail.example
S: 250-VRFY
S: 250-ENHANCEDSTATUSCODES
S: 250 AUTH PLAIN
C: AUTH PLAIN AGFsaWNlAHNlY3JldA==
S: 235 2.7.0 welcome alice@d.example
C: MAIL FROM:<a@b.example>
S: 250 ok
C: RCPT TO:<c@d.example>
S: 550 5.1.1 <c@d.example>: no "c d"@d.example; c=c@d.example
C: RSET
S: 250 ok
C: VRFY carol
S: 252 perhaps
C: MAIL FROM:<a@b.example>
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: hush
C: .
S: 250-2.0.0 kept
S: 250 2.0.0 as 4711
C: NOOP
S: 421 4.7.0 too many of a@b.example
HANGUP`

// playLoud plays loud with a client that has the trace.
func playLoud(t *testing.T, trace *Trace) {
	t.Helper()
	srv := clienttest.New(t, loud)
	c, err := Dial(t.Context(), host, &Options{
		Hostname: "client.example", TLS: ext.TLSImplicit, TLSConfig: clienttest.TLSConfig(), DialContext: srv.Dial,
		Credentials: auth.Password("alice", "secret"), Trace: trace,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, code := range []string{"550", "0"} {
		if i == 1 {
			if _, err := c.Do(t.Context(), "VRFY", "carol"); err != nil {
				t.Fatal(err)
			}
		}
		if res, _ := c.Send(t.Context(), message("hush\r\n", "c@d.example")); codes(res) != code {
			t.Fatalf("%s, want %s", codes(res), code)
		}
	}
	_ = c.Noop(t.Context())
}

// TestDebugTrace: a line for each event, without secrets and content.
func TestDebugTrace(t *testing.T) {
	var out bytes.Buffer
	playLoud(t, DebugTrace(&out))
	const want = `1 connected to pipe
1 TLS 1.3, TLS_AES_128_GCM_SHA256, certificate verified
1 S: 220 mail.example
1 C: EHLO client.example
1 S: 250 mail.example\nVRFY\nENHANCEDSTATUSCODES\nAUTH PLAIN
1 C: AUTH PLAIN ***
1 S: 235 2.7.0 welcome alice@d.example
1 C: MAIL FROM:<a@b.example>
1 S: 250 ok
1 C: RCPT TO:<c@d.example>
1 S: 550 5.1.1 <c@d.example>: no "c d"@d.example; c=c@d.example
1 C: RSET
1 S: 250 ok
1 C: VRFY carol
1 S: 252 perhaps
1 C: MAIL FROM:<a@b.example>
1 S: 250 ok
1 C: RCPT TO:<c@d.example>
1 S: 250 ok
1 C: DATA
1 S: 354 go on
1 S: 250 2.0.0 kept\nas 4711
1 content of 9 octets: 250
1 C: NOOP
1 S: 421 4.7.0 too many of a@b.example
1 closed: smtp: NOOP: 421 4.7.0 too many of a@b.example
`
	if got := out.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

// TestDebugTraceEscapes: what a peer sends cannot make up a line, nor move the cursor, and can be told from an escape.
func TestDebugTraceEscapes(t *testing.T) {
	for text, want := range map[string]string{
		"a\r\n1 C: QUIT":     `a\r\n1 C: QUIT`,
		"\x1b[2Jx\x00\x7f":   `\x1b[2Jx\x00\x7f`,
		"\xff\xc3(":          `\xff\xc3(`,
		`back\nslash`:        `back\\nslash`,
		"grüße \u202eevil":   `grüße \u202eevil`,
		"\u2028\ufeff\u00a0": `\u2028\ufeff\u00a0`,
		`"quoted" 'words'`:   `"quoted" 'words'`,
		"\ufffd":             "\ufffd",
	} {
		if got := string(appendPrintable(nil, text)); got != want {
			t.Errorf("%q is printed as %s, want %s", text, got, want)
		}
	}
	var out bytes.Buffer
	here, there := net.Pipe()
	go func() {
		io.WriteString(here, "554 \x1b[2J\xff\r\n")
		(&lineReader{r: here}).line() // QUIT
		io.WriteString(here, "221 bye\r\n")
		here.Close()
	}()
	if _, err := NewClient(t.Context(), there, "mail.example", &Options{Trace: DebugTrace(&out)}); err == nil {
		t.Error("no error")
	}
	if got, want := strings.Split(out.String(), "\n")[1], `1 S: 554 \x1b[2J\xff`; got != want {
		t.Errorf("the greeting is printed as %s, want %s", got, want)
	}
}

// oneAtATime fails the test if it is called by two goroutines at once, or with anything but a line.
type oneAtATime struct {
	t  *testing.T
	mu sync.Mutex
	strings.Builder
}

func (w *oneAtATime) Write(p []byte) (int, error) {
	if !w.mu.TryLock() {
		w.t.Error("two writes at once")
		return len(p), nil
	}
	defer w.mu.Unlock()
	if bytes.Count(p, []byte("\n")) != 1 || p[len(p)-1] != '\n' {
		w.t.Errorf("%q is no line", p)
	}
	return w.Builder.Write(p)
}

// TestDebugTraceOfSeveralClients: the lines of each connection are told apart by its number, also if a client makes a
// second connection.
func TestDebugTraceOfSeveralClients(t *testing.T) {
	const clients = 4
	w := &oneAtATime{t: t}
	trace := DebugTrace(w)
	var all sync.WaitGroup
	for range clients {
		c := dial(t, func(o *Options) { o.Trace = trace }, limited("MAILMAX=1")+taken("c@d.example")+bye,
			limited("MAILMAX=1")+taken("c@d.example")+bye)
		all.Go(func() {
			for range 2 {
				if _, err := c.Send(t.Context(), message("hello\r\n", "c@d.example")); err != nil {
					t.Error(err)
				}
			}
			c.Close()
		})
	}
	all.Wait()
	got := make(map[string][]string)
	for line := range strings.Lines(w.String()) {
		n, text, _ := strings.Cut(line, " ")
		got[n] = append(got[n], text)
	}
	if len(got) != 2*clients {
		t.Errorf("%d connections, want %d", len(got), 2*clients)
	}
	first := strings.Join(got["1"], "")
	if !strings.HasPrefix(first, "connected to pipe\n") || !strings.HasSuffix(first, "closed\n") {
		t.Errorf("the first connection is\n%s", first)
	}
	for n, lines := range got {
		if text := strings.Join(lines, ""); text != first {
			t.Errorf("the connection %s is\n%s\nwant\n%s", n, text, first)
		}
	}
}

// TestNumbersAreForgotten: a trace keeps nothing of connections that have ended.
func TestNumbersAreForgotten(t *testing.T) {
	var n numbers
	a, b := new(Client), new(Client)
	if n.of(a) != 1 || n.of(b) != 2 || n.of(a) != 1 {
		t.Error("the numbers are not 1, 2, 1")
	}
	n.forget(a)
	n.forget(b)
	if len(n.is) != 0 || n.of(a) != 3 {
		t.Errorf("%d are kept", len(n.is))
	}
}

// logged returns a logger that writes to w without times, and with "call" if that is in the context.
func logged(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(&contextHandler{slog.NewTextHandler(w, &slog.HandlerOptions{Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})})
}

type callKey struct{}

type contextHandler struct{ slog.Handler }

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if call, ok := ctx.Value(callKey{}).(string); ok {
		r.AddAttrs(slog.String("call", call))
	}
	return h.Handler.Handle(ctx, r)
}

// TestLogTrace: no addresses by default, and levels by which the log can be thinned out.
func TestLogTrace(t *testing.T) {
	var out bytes.Buffer
	playLoud(t, LogTrace(logged(&out, slog.LevelDebug), nil))
	var warnings, infos []string
	for line := range strings.Lines(out.String()) {
		switch {
		case !strings.Contains(line, " conn=1 remote=pipe"):
			t.Errorf("%s does not say which connection", line)
		case strings.HasPrefix(line, "level=WARN"):
			warnings = append(warnings, line)
		case strings.HasPrefix(line, "level=INFO"):
			infos = append(infos, line)
		}
	}
	for _, word := range []string{"@", "alice", "carol", "b.example", "d.example", "secret", "AGFsaWNl", "hush"} {
		if strings.Contains(out.String(), word) {
			t.Errorf("the log has %q in it:\n%s", word, &out)
		}
	}
	const wantWarnings = `level=WARN msg="smtp: refusal" conn=1 remote=pipe verb=RCPT code=550 status=5.1.1 text="***: no *** ***"
level=WARN msg="smtp: refusal" conn=1 remote=pipe verb=NOOP code=421 status=4.7.0 text="too many of ***"
level=WARN msg="smtp: closed" conn=1 remote=pipe err="smtp: NOOP: 421 4.7.0 too many of ***"
`
	if got := strings.Join(warnings, ""); got != wantWarnings {
		t.Errorf("warned\n%s\nwant\n%s", got, wantWarnings)
	}
	const wantInfos = `level=INFO msg="smtp: connected" conn=1 remote=pipe
level=INFO msg="smtp: TLS" conn=1 remote=pipe version="TLS 1.3" cipher=TLS_AES_128_GCM_SHA256 verified=true
level=INFO msg="smtp: content" conn=1 remote=pipe octets=9 code=250 status=2.0.0 text="kept\nas 4711"
`
	if got := strings.Join(infos, ""); got != wantInfos {
		t.Errorf("informed\n%s\nwant\n%s", got, wantInfos)
	}
	for _, line := range []string{
		`verb=EHLO args=client.example`, `verb=AUTH args="PLAIN ***"`, `verb=MAIL args=***`, `verb=RCPT args=***`,
		`verb=VRFY args=***`, `verb=DATA args=""`, `verb=EHLO code=250 status="" text="mail.example\nVRFY\nENHANCEDSTATUSCODES\nAUTH PLAIN"`,
		`verb=AUTH code=235 status=2.7.0 text="welcome ***"`,
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("%s is not in the log:\n%s", line, &out)
		}
	}
}

// TestLogTraceWithAddresses: they are logged if that is wanted.
func TestLogTraceWithAddresses(t *testing.T) {
	var out bytes.Buffer
	playLoud(t, LogTrace(logged(&out, slog.LevelDebug), &LogOptions{Addresses: true}))
	for _, line := range []string{
		`verb=MAIL args=FROM:<a@b.example>`, `verb=VRFY args=carol`, `err="smtp: NOOP: 421 4.7.0 too many of a@b.example"`,
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("%s is not in the log:\n%s", line, &out)
		}
	}
	for _, word := range []string{"secret", "AGFsaWNl", "hush"} {
		if strings.Contains(out.String(), word) {
			t.Errorf("the log has %q in it", word)
		}
	}
}

// TestLogTraceContext: the handler gets the context of the call, and connections have numbers whatever the level is.
func TestLogTraceContext(t *testing.T) {
	var out bytes.Buffer
	trace := LogTrace(logged(&out, slog.LevelWarn), nil)
	for i := range 2 {
		c := dial(t, func(o *Options) { o.Trace = trace }, hello()+"C: NOOP\nS: 500 no\n"+bye)
		refused := c.Noop(context.WithValue(t.Context(), callKey{}, fmt.Sprint("call ", i)))
		if e, ok := asReply(refused); !ok || e.Code != 500 {
			t.Errorf("%v", refused)
		}
		c.Close()
	}
	const want = `level=WARN msg="smtp: refusal" conn=1 remote=pipe verb=NOOP code=500 status="" text=no call="call 0"
level=WARN msg="smtp: refusal" conn=2 remote=pipe verb=NOOP code=500 status="" text=no call="call 1"
`
	if got := out.String(); got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
}

// TestJoinTraces: each function of each trace is called, in order, and those that nobody has are nil.
func TestJoinTraces(t *testing.T) {
	var a, b bytes.Buffer
	var order []string
	note := func(name string) *Trace {
		return &Trace{Connected: func(context.Context, *Client) { order = append(order, name) }}
	}
	playLoud(t, JoinTraces(DebugTrace(&a), nil, note("first"), DebugTrace(&b), note("second")))
	if a.String() != b.String() || !strings.Contains(a.String(), "1 closed: ") {
		t.Errorf("one printed\n%s\nthe other\n%s", &a, &b)
	}
	if got := strings.Join(order, " "); got != "first second" {
		t.Errorf("called in the order %s", got)
	}
	j := JoinTraces(nil, note("only"))
	if j.Connected == nil || j.Secured != nil || j.Command != nil || j.Reply != nil || j.Content != nil || j.Closed != nil {
		t.Error("a function that nobody has is not nil, or the other way round")
	}
}
