package client

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A sinkConn is the client's end of a connection to a server that accepts everything. The server allocates nothing for
// a message. It counts what the client does.
type sinkConn struct {
	net.Conn // nil

	delay time.Duration // after which a reply arrives

	mu      sync.Mutex
	changed sync.Cond
	replies []byte   // not read yet
	flights []flight // of replies, that arrive later
	held    bool     // replies do not arrive
	closed  bool
	line    []byte // the beginning of a command line
	payload int    // octets of a chunk to come
	data    bool   // content after DATA follows

	counted counts
}

// The counts are what a sink has got.
type counts struct {
	writes, messages, octets int
}

func (s *sinkConn) counts() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counted
}

type flight struct {
	at time.Time
	n  int
}

func newSinkConn(delay time.Duration) *sinkConn {
	s := &sinkConn{delay: delay}
	s.changed.L = &s.mu
	s.reply("220 sink.example\r\n")
	s.fly(0)
	return s
}

func (s *sinkConn) reply(text string) { s.replies = append(s.replies, text...) }

func (s *sinkConn) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	s.counted.writes++
	n := len(p)
	before := len(s.replies)
	for len(p) > 0 {
		p = p[s.take(p):]
	}
	s.fly(before)
	return n, nil
}

// fly sends the replies behind the first n.
func (s *sinkConn) fly(n int) {
	if s.delay > 0 && len(s.replies) > n {
		s.flights = append(s.flights, flight{time.Now().Add(s.delay), len(s.replies) - n})
	}
	s.changed.Broadcast()
}

// take takes the beginning of p and returns how long that is.
func (s *sinkConn) take(p []byte) int {
	switch {
	case s.payload > 0:
		n := min(s.payload, len(p))
		s.payload -= n
		s.counted.octets += n
		if s.payload == 0 {
			s.reply("250 2.0.0 chunk\r\n")
		}
		return n
	case s.data:
		return s.content(p)
	}
	n := bytes.IndexByte(p, '\n') + 1
	if n == 0 {
		s.line = append(s.line, p...)
		return len(p)
	}
	s.line = append(s.line, p[:n]...)
	line := bytes.TrimRight(s.line, "\r\n")
	s.line = s.line[:0]
	if s.command(line); s.data {
		s.line = append(s.line, "\r\n"...) // that of DATA may begin the end
	}
	return n
}

// content takes content after DATA.
func (s *sinkConn) content(p []byte) int {
	const end = "\r\n.\r\n"
	joined := append(s.line, p[:min(len(p), len(end)-1)]...) // the end may lie across two writes
	n := bytes.Index(joined, []byte(end))
	if n >= 0 {
		n += len(end) - len(s.line)
	} else if n = bytes.Index(p, []byte(end)); n >= 0 {
		n += len(end)
	}
	if n < 0 {
		s.counted.octets += len(p)
		s.line = append(joined, p[min(len(p), len(end)-1):]...)
		s.line = s.line[:copy(s.line, s.line[max(0, len(s.line)-len(end)+1):])]
		return len(p)
	}
	s.counted.octets += n
	s.counted.messages++
	s.data, s.line = false, s.line[:0]
	s.reply("250 2.0.0 queued\r\n")
	return n
}

func (s *sinkConn) command(line []byte) {
	verb, args, _ := bytes.Cut(line, []byte{' '})
	switch string(verb) {
	case "EHLO":
		s.reply("250-sink.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SIZE\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n")
	case "DATA":
		s.data = true
		s.reply("354 go on\r\n")
	case "BDAT":
		size, last, _ := bytes.Cut(args, []byte{' '})
		s.payload, _ = strconv.Atoi(string(size))
		if len(last) > 0 {
			s.counted.messages++
		}
		if s.payload == 0 {
			s.reply("250 2.0.0 chunk\r\n")
		}
	default:
		s.reply("250 2.1.5 OK\r\n")
	}
}

func (s *sinkConn) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if n := s.arrived(); n > 0 {
			n = copy(p, s.replies[:n])
			s.replies = s.replies[:copy(s.replies, s.replies[n:])]
			if s.delay > 0 {
				s.flights[0].n -= n
			}
			return n, nil
		}
		if s.closed {
			return 0, io.EOF
		}
		if len(s.flights) > 0 && !s.held {
			wait := time.Until(s.flights[0].at)
			s.mu.Unlock()
			time.Sleep(wait)
			s.mu.Lock()
			continue
		}
		s.changed.Wait()
	}
}

// arrived returns how many octets of replies have arrived.
func (s *sinkConn) arrived() int {
	switch {
	case s.held:
		return 0
	case s.delay == 0:
		return len(s.replies)
	}
	for len(s.flights) > 0 && s.flights[0].n == 0 {
		s.flights = s.flights[1:]
	}
	if len(s.flights) == 0 || time.Now().Before(s.flights[0].at) {
		return 0
	}
	return s.flights[0].n
}

// hold sets whether replies are withheld.
func (s *sinkConn) hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = on
	s.changed.Broadcast()
}

func (s *sinkConn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
	return nil
}

// sinkClient returns a client of a sink. It answers after delay, and does not advertise some keywords.
func sinkClient(t *testing.T, delay time.Duration, without ...string) (*Client, *sinkConn) {
	t.Helper()
	s := newSinkConn(delay)
	c, err := NewClient(t.Context(), s, "sink.example",
		&Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, Without: without})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// sized returns a message with content of about n octets to a number of recipients.
func sized(n, rcpts int) *Message {
	line := "0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n"
	m := &Message{From: message("", "a@b.example").From, Body: bytes.NewReader(bytes.Repeat([]byte(line), n/len(line)+1))}
	for i := range rcpts {
		m.To = append(m.To, message("", fmt.Sprintf("user%d@d.example", i)).To...)
	}
	return m
}

// repeated returns m n times. It counts in taken how often it was taken.
func repeated(m *Message, n int, taken *int) iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		for *taken = 0; *taken < n; {
			*taken++
			if !yield(m) {
				return
			}
		}
	}
}

// A countingBody counts the octets that are read.
type countingBody struct {
	*bytes.Reader
	octets int
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.octets += n
	return n, err
}

// TestBodyIsReadOnce checks that a large body is not read a second time to be measured.
func TestBodyIsReadOnce(t *testing.T) {
	for _, keyword := range []string{"", "CHUNKING"} {
		c, s := sinkClient(t, 0, keyword)
		m := sized(20<<20, 1)
		body := &countingBody{Reader: m.Body.(*bytes.Reader)}
		m.Body = body
		size := int(body.Size())
		if _, err := c.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		got := s.counts()
		if body.octets > size+2*lookahead || got.octets < size {
			t.Errorf("without %q: %d octets were read and %d sent, of %d", keyword, body.octets, got.octets, size)
		}
		if most := 20 + size/blockSize; got.writes > most {
			t.Errorf("without %q: %d writes for %d octets, at most %d", keyword, got.writes, size, most)
		}
		c.Close()
	}
}

// TestAhead checks how much is on its way at most, and that it is octets that are bounded: the server answers nothing
// once the session has begun.
func TestAhead(t *testing.T) {
	for _, tt := range []struct{ size, rcpts, least, most int }{
		{1 << 10, 1, 1000, maxMessagesAhead},
		{10, 1, 3000, maxMessagesAhead},
		{1 << 10, 100, 200, 800},
		{60 << 10, 1, 20, 40},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := sinkClient(t, 0)
			taken, reported := 0, 0
			c.SendAll(t.Context(), repeated(sized(10, 1), maxMessagesAhead/growth, &taken), all) // which opens the window
			s.hold(true)
			taken = 0
			done := make(chan error)
			go func() {
				done <- c.SendAll(t.Context(), repeated(sized(tt.size, tt.rcpts), 10_000, &taken),
					func(_ *Message, _ *Result, err error) bool {
						reported++
						return err == nil && reported < 10
					})
			}()
			synctest.Wait()
			if taken < tt.least || taken > tt.most || reported > 0 {
				t.Errorf("%d octets to %d recipients: %d on their way, want %d to %d", tt.size, tt.rcpts, taken, tt.least,
					tt.most)
			}
			if ring := len(c.conn.waiting.ring); ring > 4*taken*(tt.rcpts+3)+16 {
				t.Errorf("the queue has %d places for %d messages", ring, taken)
			}
			s.hold(false)
			if err := <-done; err != nil || reported != taken {
				t.Errorf("%d of %d reported; %v", reported, taken, err)
			}
			c.Close()
		})
	}
}

func all(*Message, *Result, error) bool { return true }

// TestWindow: nothing follows the first message of a session before its outcome is known, and not too much the next.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		s.hold(true)
		taken := 0
		done := make(chan error)
		go func() { done <- c.SendAll(t.Context(), repeated(sized(10, 1), 1000, &taken), all) }()
		synctest.Wait()
		if taken != 1 {
			t.Errorf("%d messages were begun before anything was answered", taken)
		}
		s.hold(false)
		if err := <-done; err != nil || taken != 1000 {
			t.Errorf("%d messages, %v", taken, err)
		}
		c.Close()
	})
}

// TestSendAllOverALongLine counts round trips of 50 ms, by a clock that does not tick while anything is computed.
func TestSendAllOverALongLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 5000
		c, s := sinkClient(t, 50*time.Millisecond)
		taken := 0
		start := time.Now()
		err := c.SendAll(t.Context(), repeated(sized(1<<10, 1), messages, &taken), func(_ *Message, _ *Result, err error) bool {
			return err == nil
		})
		got := s.counts().messages
		if trips := time.Since(start) / s.delay; err != nil || got != messages || trips > 6 {
			t.Errorf("%d messages took %d round trips; %v", got, trips, err)
		}
		c.Close()
	})
}

// TestQueueDoesNotGrow checks that a queue which never runs empty takes no more memory than what it holds.
func TestQueueDoesNotGrow(t *testing.T) {
	var q queue[expectation]
	verb := &proto.Verb{Name: "X"}
	for i := range 100_000 {
		q.push(expectation{verb: verb, name: strconv.Itoa(i)})
		if i >= 10 {
			if got := q.first().name; got != strconv.Itoa(i-10) {
				t.Fatalf("%s, want %d", got, i-10)
			}
			q.pop()
		}
	}
	if len(q.ring) > 16 || q.len() != 10 {
		t.Errorf("%d places for %d expectations", len(q.ring), q.len())
	}
}

// TestOutcomeIsCounted checks that it takes no look at the recipients to know whether a transaction is over, or
// hopeless: the states of the recipients are out of sight.
func TestOutcomeIsCounted(t *testing.T) {
	c, s := sinkClient(t, 0, "CHUNKING")
	s.hold(true)
	tr := newTransaction(c.conn, sized(10, 1000))
	if err := tr.sendEnvelope(t.Context()); err != nil {
		t.Fatal(err)
	}
	look := func(what string, f func() bool, want bool) {
		states := tr.states
		tr.states = nil
		if got := f(); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		tr.states = states
	}
	look("hopeless at first", tr.hopeless, false)
	look("done at first", tr.done, false)
	s.hold(false)
	if err := c.conn.drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	look("hopeless when all are accepted", tr.hopeless, false)
	look("done when all are accepted", tr.done, false)
	tr.refuse(proto.Reply{Code: 550}, "DATA")
	look("hopeless when the content is refused", tr.hopeless, true)
	look("done when the content is refused", tr.done, true)
	tr.sent()
	c.Close()
}
