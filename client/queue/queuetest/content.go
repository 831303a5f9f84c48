package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

var contentTests = []test{
	{"Content", testContent},
	{"Envelope", testEnvelope},
	{"NotFound", testNotFound},
	{"AddFails", testAddFails},
	{"AddCancelled", testAddCancelled},
	{"AddTwice", testAddTwice},
	{"AddInvalid", testAddInvalid},
	{"AddConcurrent", testAddConcurrent},
	{"AddHandedOut", testAddHandedOut},
	{"Ownership", testOwnership},
	{"OpenContent", testOpenContent},
}

// octets returns n octets that have all values, and none of a text.
func (s *suite) octets(n int) []byte {
	b := make([]byte, n)
	_, _ = s.source.Read(b) // it never fails
	return b
}

// testContent: what was added is read back, octet for octet, however it came.
func testContent(s *suite) {
	lines := "\r\n.\r\n..\r\nFrom x\n\r\r\n\x00\x00\xff\r"
	for name, content := range map[string][]byte{
		"empty":             {},
		"one octet":         {'x'},
		"NUL":               {0},
		"LF":                {'\n'},
		"lines":             []byte(lines),
		"4096 octets":       s.octets(4096),
		"4097 octets":       s.octets(4097),
		"65535 octets":      s.octets(65535),
		"5 MiB":             s.octets(5 << 20),
		"like JSON":         []byte(`{"ID":"x"}` + "\n---\n%s%d\\"),
		"looks like a file": []byte("\x1f\x8bSQLite format 3\x00\n\n"),
	} {
		for how, reader := range map[string]func(io.Reader) io.Reader{
			"bytes.Reader":    func(r io.Reader) io.Reader { return r },
			"halves":          iotest.HalfReader,
			"EOF with octets": iotest.DataErrReader,
		} {
			m := s.mail("example.com")
			m.content = content
			e := m.entry()
			e.Content = reader(e.Content)
			e.Message.Size = 12345
			if err := s.store.Add(s.ctx, e); err != nil {
				s.Fatalf("%s, %s: Add: %v", name, how, err)
			}
			if e.Message.Size != int64(len(content)) {
				s.Errorf("%s, %s: Add has set Size to %d, want %d", name, how, e.Message.Size, len(content))
			}
			m.message.Size = int64(len(content))
			s.wantWhole(name+", "+how, m)
		}
	}
}

// testEnvelope: every field of a message and its jobs is read back.
func testEnvelope(s *suite) {
	flag := func(keys ...string) (p proto.Params) {
		for _, k := range keys {
			p = p.SetFlag(k)
		}
		return p
	}
	full := s.mail("example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]", "=local", "xn--bcher-kva.example")
	full.message.Params = flag("X-FLAG", "x-flag2").Set("X-XTEXT", "a+2Bb+3D").Set("EMPTY", "").Set("x-lower", "12").
		Set("X-LIST", "a,b=c")
	full.message.From = s.address("pelé@bücher.example")
	full.message.Needs = ext.EightBit | ext.Binary
	full.message.ReceivedFrom = report.MTA{Type: "x-Local Host", Name: "client.example",
		Comment: "[192.0.2.7] \"quoted\"\\"}
	full.message.Tag = "tenant \"7\"/../ü%\x00\n"
	at := s.now.Add(1234567 * time.Millisecond)
	failure := &queue.Failure{
		Status: proto.Status{4, 7, 999}, Host: "mx1.example.com", Text: "TLS: \"bad\"\nsecond line, ünlaut",
		Reply: proto.Reply{Code: 451, Status: proto.Status{4, 0, 123}, Text: "first line\nsecond line, ünlaut"},
	}
	for i, to := range []string{
		"user@example.com", `"a b\"c"@example.com`, `"with@at"@example.com`, "pelé@bücher.example", "a@[192.0.2.1]",
		"b@[IPv6:2001:db8::1]", "user+tag@EXAMPLE.com", strings.Repeat("x", 64) + "@example.com",
	} {
		r := s.recipient(to)
		r.Params = flag("X-FLAG").Set("X-LIST", "SUCCESS,DELAY").Set("X-UTF8", "utf-8;pel\\x{E9}@example.com")
		if i%2 == 1 {
			r.Params, r.Last = nil, failure
		}
		full.jobs[0].To = append(full.jobs[0].To, r)
	}
	postmaster := queue.Recipient{Recipient: proto.Recipient{Address: proto.Address{Local: "PostMaster"}}}
	full.jobs[1].To = append(full.jobs[1].To, postmaster)
	for i, j := range full.jobs {
		j.State, j.Why = queue.Held, "why \"not\"\n\x00ü"
		j.Lane = queue.Lane(queue.Lanes - 1 - i)
		j.Due, j.Alarm, j.Expires = at, at.Add(time.Millisecond), at.Add(1000*time.Hour)
		j.Attempts, j.LastAttempt, j.Told, j.Edits = 70000+i, s.now.Add(-time.Hour), i%2 == 0, 3+i
		j.ID.N = []int{0, 1, 5, 255, 70000}[i]
	}
	null := s.mail("example.com")
	null.message.From = proto.Address{}
	null.jobs[0].Due = s.now.Add(-24 * 365 * time.Hour)
	s.add(full, null)
	s.wantWhole("all fields", full)
	s.wantWhole("hardly any field", null)
	if len(s.stored(queue.Filter{})) != 6 {
		s.Error("List does not have all jobs")
	}
}

func testNotFound(s *suite) {
	other := s.mail("example.com")
	s.add(s.mail("example.com"))
	s.wantGone("never added", other.message.ID)
	for _, id := range []queue.ID{"", "x", "../../../etc/passwd0", "%", "0000000000000000000000000"} {
		s.wantGone("invalid ID", id)
	}
}

// testAddFails: if the content cannot be read, nothing is kept.
func testAddFails(s *suite) {
	broken := errors.New("broken")
	usage, err := s.store.Usage(s.ctx, "", true)
	s.must(err)
	for _, n := range []int{0, 1, 1000, 3 << 20} {
		m := s.mail("a.example", "b.example")
		m.content = s.octets(n)
		e := m.entry()
		e.Content = io.MultiReader(e.Content, iotest.ErrReader(broken))
		if err := s.store.Add(s.ctx, e); !errors.Is(err, broken) {
			s.Errorf("Add of a reader that fails after %d octets: %v, want its error", n, err)
		}
		s.wantNothing(fmt.Sprintf("after %d octets", n), m.message.ID, usage)
		s.add(m)
		s.wantWhole("added at last", m)
		id := m.message.ID
		drop := queue.Edit{Op: queue.Drop, At: s.now}
		if n, err := s.store.Edit(s.ctx, queue.Filter{IDs: []queue.ID{id}}, drop); n != 2 || err != nil {
			s.Fatalf("Drop: %d, %v", n, err)
		}
		s.wantNothing("dropped", id, usage)
	}
}

// wantNothing fails the test if anything of a message is left, or anything else than usage.
func (s *suite) wantNothing(what string, id queue.ID, usage queue.Usage) {
	s.Helper()
	s.wantGone(what, id)
	if got, err := s.store.Usage(s.ctx, "", true); err != nil || got != usage {
		s.Errorf("%s: Usage is %v, want %v; %v", what, got, usage, err)
	}
	if leases, next, err := s.store.Claim(s.ctx, s.now, 10); len(leases) > 0 || !next.IsZero() || err != nil {
		s.Errorf("%s: Claim returned %v, %v, %v", what, leases, next, err)
	}
	if shape, err := s.store.Shape(s.ctx, s.now); len(shape) > 0 || err != nil {
		s.Errorf("%s: Shape returned %v, %v", what, shape, err)
	}
}

// testAddCancelled: if the context ends, an Add has happened or has not.
func testAddCancelled(s *suite) {
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	m := s.mail("a.example")
	if err := s.store.Add(ended, m.entry()); err == nil {
		s.Error("Add with a context that has ended succeeds")
	}
	s.wantNothing("context that has ended", m.message.ID, queue.Usage{})

	for _, n := range []int{10, 1 << 20} {
		ctx, cancel := context.WithCancel(s.ctx)
		m := s.mail("a.example", "b.example")
		m.content = s.octets(2 * n)
		e := m.entry()
		e.Content = &cancelReader{r: e.Content, left: n, cancel: cancel}
		if err := s.store.Add(ctx, e); err == nil {
			m.message.Size = int64(len(m.content))
			s.wantWhole("context ended while it was read", m)
			if _, err := s.store.Edit(s.ctx, queue.Filter{}, queue.Edit{Op: queue.Drop, At: s.now}); err != nil {
				s.Fatal(err)
			}
		}
		s.wantNothing("context ended while it was read", m.message.ID, queue.Usage{})
		s.add(m)
		s.wantWhole("added at last", m)
		if _, err := s.store.Edit(s.ctx, queue.Filter{}, queue.Edit{Op: queue.Drop, At: s.now}); err != nil {
			s.Fatal(err)
		}
	}
}

// A cancelReader calls cancel when it has been read to a point.
type cancelReader struct {
	r      io.Reader
	left   int
	cancel func()
}

func (c *cancelReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p[:min(len(p), 1000)])
	if c.left -= n; c.left <= 0 {
		c.cancel()
	}
	return n, err
}

// testAddTwice: a message that is there already is not added again.
func testAddTwice(s *suite) {
	m := s.mail("a.example", "b.example")
	s.add(m)
	if err := s.store.Add(s.ctx, m.entry()); err != nil {
		s.Errorf("the second Add of a message: %v", err)
	}
	s.wantWhole("added twice", m)
	if u, err := s.store.Usage(s.ctx, "", true); err != nil || u != (queue.Usage{Messages: 1, Octets: m.message.Size}) {
		s.Errorf("Usage is %v, %v", u, err)
	}
	// An Add that is repeated after an attempt does not undo it.
	l := s.claimOne("a.example")
	s.update(l, done(s.take1(l)))
	if err := s.store.Add(s.ctx, m.entry()); err != nil {
		s.Errorf("the third Add of a message: %v", err)
	}
	m.jobs = m.jobs[1:]
	s.wantWhole("added after an attempt", m)
}

// testAddInvalid: what has no valid ID, which could be the name of a file, is refused.
func testAddInvalid(s *suite) {
	for _, id := range []queue.ID{"", ".", "../../../etc/passwd0", "04G6F3QV9I0000000000", "04g6f3qv9i000000000",
		"04g6f3qv9i0000000000.0"} {
		m := s.mail("a.example")
		m.message.ID, m.jobs[0].ID.Message = id, id
		if err := s.store.Add(s.ctx, m.entry()); err == nil {
			s.Errorf("Add of the ID %q succeeds", id)
		}
	}
	s.wantNothing("invalid", s.mail("a.example").message.ID, queue.Usage{})
}

func testAddConcurrent(s *suite) {
	const goroutines, each = 16, 8
	var mails [goroutines][each]*mail
	var octets int64
	for i := range mails {
		for k := range mails[i] {
			m := s.mail(fmt.Sprintf("d%d.example", k), "all.example")
			m.content = s.octets(i*1000 + k)
			octets += int64(len(m.content))
			mails[i][k] = m
		}
	}
	var group sync.WaitGroup
	for i := range mails {
		group.Go(func() { s.addEach(mails[i][:]) })
	}
	group.Wait()
	for i := range mails {
		for _, m := range mails[i] {
			s.wantWhole("added by many", m)
		}
	}
	if u, err := s.store.Usage(s.ctx, "", true); err != nil ||
		u != (queue.Usage{Messages: goroutines * each, Octets: octets}) {
		s.Errorf("Usage is %v, %v", u, err)
	}
}

// addEach adds mails in a goroutine, where no test may end.
func (s *suite) addEach(mails []*mail) {
	for _, m := range mails {
		e := m.entry()
		if err := s.store.Add(s.ctx, e); err != nil {
			s.Errorf("Add: %v", err)
		}
		m.message.Size = e.Message.Size
	}
}

// testAddHandedOut: a job with the Epoch of a lease is handed out when it is added.
func testAddHandedOut(s *suite) {
	old := s.claimOne("a.example")
	s.release(old, time.Time{})
	l, b := s.claimOne("a.example"), s.claimOne("b.example")
	m := s.mail("a.example", "a.example", "a.example", "b.example", "c.example")
	m.jobs[0].Epoch = l.Epoch
	m.jobs[1].Epoch = old.Epoch
	m.jobs[3].Epoch = b.Epoch
	m.jobs[4].Epoch = l.Epoch + b.Epoch + 1000
	s.add(m)
	s.wantWhole("added with an epoch", m)
	s.wantTaken("jobs that are not handed out", l, queue.Query{Now: s.now, Max: 10}, m.jobs[1], m.jobs[2])
	s.wantTaken("job that is handed out", b, queue.Query{Now: s.now, Max: 10})
	c := s.claim(10)
	s.wantDestinations("Claim", c, "c.example")
	s.wantTaken("job of an epoch that never was", c[0], queue.Query{Now: s.now, Max: 10}, m.jobs[4])

	// It can be updated like a job that was taken.
	handed := copyOf(m.jobs[0])
	handed.Epoch, handed.Attempts, handed.Due = l.Epoch, 1, s.now.Add(time.Hour)
	s.update(l, queue.Change{Job: handed})
	s.wantJob("updated", handed.ID, handed)
	// And it waits when the lease ends.
	s.release(b, time.Time{})
	b = s.claimOne("b.example")
	s.wantTaken("after the lease", b, queue.Query{Now: s.now, Max: 10}, m.jobs[3])
}

// testOwnership: what goes into a store and comes out belongs to the caller.
func testOwnership(s *suite) {
	m := s.mail("a.example")
	m.message.Params = proto.Params{}.Set("X-A", "a")
	m.jobs[0].To[0].Params = proto.Params{}.Set("X-B", "NEVER")
	m.jobs[0].To[0].Last = &queue.Failure{Text: "first"}
	e := m.entry()
	e.Message.Params = append(proto.Params{}, m.message.Params...)
	content := bytes.Clone(m.content)
	e.Content = bytes.NewReader(content)
	s.must(s.store.Add(s.ctx, e))
	m.message.Size = e.Message.Size
	spoil := func(msg *queue.Message, j *queue.Job) {
		if msg != nil {
			msg.Tag, msg.Params[0].Value = "spoiled", "spoiled"
		}
		if j != nil {
			j.Destination, j.To[0].Params[0].Value, j.To[0].Last.Text = "spoiled.example", "spoiled", "spoiled"
			j.To[0].Address = proto.Address{}
		}
	}
	spoil(e.Message, e.Jobs[0])
	clear(content)
	s.wantWhole("what was added is changed", m)
	got, err := s.store.Message(s.ctx, m.message.ID)
	s.must(err)
	spoil(got, nil)
	s.wantWhole("what Message returned is changed", m)
	listed, _, err := s.store.List(s.ctx, queue.Filter{}, queue.JobID{}, 10)
	s.must(err)
	spoil(listed[0].Message, listed[0].Job)
	s.wantWhole("what List returned is changed", m)
	l := s.claimOne("a.example")
	taken := s.take1(l)
	spoil(nil, taken)
	s.wantWhole("what Take returned is changed", m)
	s.release(l, time.Time{})
	l = s.claimOne("a.example")
	changed := s.take1(l)
	s.update(l, queue.Change{Job: changed})
	spoil(nil, changed)
	s.wantWhole("what Update wrote is changed", m)
}

// testOpenContent: a content can be read by many, from any place, and when the message is gone.
func testOpenContent(s *suite) {
	for _, n := range []int{100, 3 << 20} {
		m := s.mail("a.example")
		m.content = s.octets(n)
		s.add(m)
		c, err := s.store.Open(s.ctx, m.message.ID)
		s.must(err)
		if c.Size() != int64(n) {
			s.Errorf("Size is %d, want %d", c.Size(), n)
		}
		l := s.claimOne("a.example")
		s.update(l, done(s.take1(l)))
		s.release(l, time.Time{})
		s.wantGone("delivered", m.message.ID)
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				from := i * n / 4
				got := make([]byte, n-from)
				if k, err := c.ReadAt(got, int64(from)); k != len(got) || err != nil && err != io.EOF ||
					!bytes.Equal(got, m.content[from:]) {
					s.Errorf("content of %d octets from %d on: %d octets, %v", n, from, k, err)
				}
			})
		}
		group.Wait()
		if k, err := c.ReadAt(make([]byte, 10), int64(n)-3); k != 3 || err != io.EOF {
			s.Errorf("ReadAt over the end: %d, %v, want 3 and EOF", k, err)
		}
		if k, err := c.ReadAt(make([]byte, 10), int64(n)); k != 0 || err != io.EOF {
			s.Errorf("ReadAt behind the end: %d, %v, want 0 and EOF", k, err)
		}
		if err := c.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	}
}
