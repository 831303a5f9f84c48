package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A visit is one transaction of a greylist test: when, who, and what the server replies.
type visit struct {
	after    time.Duration // since the visit before
	client   string
	from, to string
	reply    string // to RCPT; "content 451 …" is the reply to the content, after a 250 to RCPT
	found    string // the verdicts
}

const (
	day        = 24 * time.Hour
	passed     = "250"
	put60      = "451 4.7.1 Greylisted, try again in 60 seconds"
	waits60    = "greylist=defer (60 seconds to wait)"
	knownNet   = "greylist=pass (the network 192.0.2.0/24 is known)"
	knownPair  = "greylist=pass (the sender and the recipient are known)"
	afterText  = "greylist=pass (it has come again after %s)"
	annAddress = "ann@example.com"
	joeAddress = "joe@example.org"
)

func again(after string) string { return fmt.Sprintf(afterText, after) }

// TestGreylist checks who is put off, and for how long, in dialogues with a server.
func TestGreylist(t *testing.T) {
	const client, near, far, client6 = "192.0.2.7", "192.0.2.200", "198.51.100.1", "2001:db8:0:1::1"
	ann, joe := annAddress, joeAddress
	tests := []struct {
		name   string
		part   Greylist
		visits []visit
	}{
		{"Y01 comes again", Greylist{}, []visit{
			{0, client, ann, joe, put60, waits60},
			{time.Minute - time.Millisecond, client, ann, joe, "451 4.7.1 Greylisted, try again in 1 second",
				"greylist=defer (1 second to wait)"},
			{time.Millisecond, client, ann, joe, passed, again("1m0s")},
			{0, client, ann, joe, passed, knownNet},
		}},
		{"one and a half seconds are two", Greylist{}, []visit{
			{0, client, ann, joe, put60, waits60},
			{58*time.Second + 500*time.Millisecond, client, ann, joe, "451 4.7.1 Greylisted, try again in 2 seconds",
				"greylist=defer (2 seconds to wait)"},
		}},
		{"within the window", Greylist{}, []visit{
			{0, client, ann, joe, put60, waits60},
			{day - time.Second, client, ann, joe, passed, again("23h59m59s")},
		}},
		{"Y02 after the window", Greylist{}, []visit{
			{0, client, ann, joe, put60, waits60},
			{day, client, ann, joe, put60, waits60},
			{time.Minute, client, ann, joe, passed, again("1m0s")},
		}},
		{"another envelope is another attempt", Greylist{}, []visit{
			{0, client, ann, joe, put60, waits60},
			{time.Minute, client, "bob@example.com", joe, put60, waits60},
			{0, client, ann, "jim@example.org", put60, waits60},
			{0, far, ann, joe, put60, waits60},
			{0, client6, ann, joe, put60, waits60},
			{0, client, "ann@EXAMPLE.COM", "joe@Example.ORG", passed, again("1m0s")},
		}},
		{"Y04 the network is known then", Greylist{}, []visit{
			{0, client, ann, joe, put60, waits60},
			{time.Hour, near, ann, joe, passed, again("1h0m0s")},
			{0, near, "bob@example.com", "jim@example.org", passed, knownNet},
			{0, "192.0.3.7", ann, joe, put60, waits60},
		}},
		{"IPv6", Greylist{}, []visit{
			{0, client6, ann, joe, put60, waits60},
			{0, "2001:db8:0:2::1", ann, joe, put60, waits60},
			{time.Minute, "2001:db8:0:1:ffff::2", ann, joe, passed, again("1m0s")},
		}},
		{"single addresses", Greylist{IPv4Bits: 32, IPv6Bits: 128}, []visit{
			{0, client, ann, joe, put60, waits60},
			{0, client6, ann, joe, put60, waits60},
			{time.Minute, near, ann, joe, put60, waits60},
			{0, "2001:db8:0:1::2", ann, joe, put60, waits60},
			{0, client, ann, joe, passed, again("1m0s")},
		}},
		{"after two passes", Greylist{AllowAfter: 2}, []visit{
			{0, client, ann, joe, put60, waits60},
			{time.Minute, client, ann, joe, passed, again("1m0s")},
			{0, client, ann, "jim@example.org", put60, waits60},
			{0, client, ann, joe, passed, knownPair},
			{0, client, ann, joe, passed, knownPair},
			{time.Minute, client, ann, "jim@example.org", passed, again("1m0s")},
			{0, client, "bob@example.com", joe, passed, knownNet},
		}},
		{"never by network", Greylist{AllowAfter: -1}, []visit{
			{0, client, ann, joe, put60, waits60},
			{time.Minute, client, ann, joe, passed, again("1m0s")},
			{0, client, ann, "jim@example.org", put60, waits60},
			{0, client, ann, joe, passed, knownPair},
		}},
		{"Y03 lifetime begins again", Greylist{}, []visit{
			{0, client, ann, joe, put60, waits60},
			{time.Minute, client, ann, joe, passed, again("1m0s")},
			{34 * day, client, ann, joe, passed, knownNet},
			{35*day - time.Second, client, ann, joe, passed, knownNet},
			{35 * day, client, ann, joe, put60, waits60},
		}},
		{"lifetime of a pair", Greylist{AllowAfter: -1, Lifetime: 7 * day}, []visit{
			{0, client, ann, joe, put60, waits60},
			{time.Minute, client, ann, joe, passed, again("1m0s")},
			{7*day - time.Second, client, ann, joe, passed, knownPair},
			{7 * day, client, ann, joe, put60, waits60},
		}},
		{"other times", Greylist{Delay: 5 * time.Minute, Window: time.Hour}, []visit{
			{0, client, ann, joe, "451 4.7.1 Greylisted, try again in 300 seconds", "greylist=defer (300 seconds to wait)"},
			{time.Hour, client, ann, joe, "451 4.7.1 Greylisted, try again in 300 seconds",
				"greylist=defer (300 seconds to wait)"},
			{5 * time.Minute, client, ann, joe, passed, again("5m0s")},
		}},
		{"Y05 the null sender", Greylist{}, []visit{
			{0, client, "", joe, "content " + put60, waits60},
			{time.Minute, client, "", joe, passed, again("1m0s")},
		}},
		{"at the content", Greylist{AtContent: true}, []visit{
			{0, client, ann, joe, "content " + put60, waits60},
			{time.Minute, client, ann, joe, passed, again("1m0s")},
		}},
		{"D02 postmaster", Greylist{}, []visit{
			{0, client, ann, "PostMaster", passed, ""},
			{0, client, "", "postmaster@example.org", passed, ""},
			{0, client, ann, joe, put60, waits60},
		}},
		{"loopback", Greylist{}, []visit{{0, "127.0.0.1", ann, joe, passed, ""}}},
		{"loopback is not left out", Greylist{Skip: Nobody}, []visit{{0, "127.0.0.1", ann, joe, put60, waits60}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, nil, tt.part)
				for i, v := range tt.visits {
					time.Sleep(v.after)
					p := w.dial(v.client)
					reply, atContent := strings.CutPrefix(v.reply, "content ")
					p.ask("EHLO client.example", "250", "MAIL FROM:<"+v.from+">", "250")
					if atContent {
						p.ask("RCPT TO:<"+v.to+">", "250", "DATA", "354", "x\r\n.", reply)
					} else {
						p.ask("RCPT TO:<"+v.to+">", reply)
					}
					if v.reply == passed {
						p.ask("DATA", "354", "x\r\n.", "250")
					}
					p.ask("QUIT", "221")
					p.closed()
					if got := w.found(); got != v.found {
						t.Errorf("visit %d: verdicts %s, want %s", i, got, v.found)
					}
				}
			})
		})
	}
}

// TestGreylistTransaction checks transactions with several recipients, and who is left out.
func TestGreylistTransaction(t *testing.T) {
	bubble := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
	rcpt := func(i int) string { return fmt.Sprintf("RCPT TO:<joe%d@example.org>", i) }
	bubble("one passes for all", func(t *testing.T) {
		w := newWorld(t, nil, nil, Greylist{AllowAfter: -1})
		p := w.dial("192.0.2.7")
		p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", rcpt(1), "451", rcpt(2), "451", "RSET", "250")
		time.Sleep(time.Minute)
		p.ask("MAIL FROM:<a@b.example>", "250", rcpt(3), "451", rcpt(2), "250", rcpt(4), "250", rcpt(3), "250", "RSET", "250",
			"MAIL FROM:<a@b.example>", "250", rcpt(4), "451", rcpt(1), "250", "QUIT", "221")
		p.closed()
	})
	bubble("one passes for all, at the content", func(t *testing.T) {
		w := newWorld(t, nil, nil, Greylist{AllowAfter: -1})
		p := w.dial("192.0.2.7")
		p.ask("EHLO c.example", "250", "MAIL FROM:<>", "250", rcpt(1), "250", "DATA", "354", "x\r\n.", "451 4.7.1 Greylisted")
		time.Sleep(time.Minute)
		p.ask("MAIL FROM:<>", "250", rcpt(3), "250", rcpt(1), "250", "DATA", "354", "x\r\n.", "250",
			"MAIL FROM:<>", "250", "RCPT TO:<postmaster>", "250", rcpt(4), "250", "DATA", "354", "x\r\n.", "451", "QUIT", "221")
		p.closed()
	})
	bubble("few of many are remembered", func(t *testing.T) {
		w := newWorld(t, nil, nil, Greylist{AllowAfter: -1})
		for _, want := range []string{"451", "250"} {
			p := w.dial("192.0.2.7")
			p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250")
			for i := range 12 {
				p.ask(rcpt(i), want)
			}
			p.ask("QUIT", "221")
			p.closed()
			time.Sleep(time.Minute)
		}
		p := w.dial("192.0.2.7")
		p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", rcpt(10), "451", "QUIT", "221")
		p.closed()
	})
	t.Run("Y06 authenticated meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &inner{}, &server.Options{AllowInsecureAuth: true}, Greylist{})
			p := w.dial("192.0.2.7")
			p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", rcpt(1), "451", "RSET", "250", authPlain, "235",
				"MAIL FROM:<a@b.example>", "250", rcpt(1), "250", "QUIT", "221")
			p.closed()
		})
	})
	bubble("vouched for", func(t *testing.T) {
		vouch := func(result string) server.Middleware {
			return func(next server.Backend) server.Backend {
				return server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
					c.Record(server.Verdict{Method: "dnswl", Result: result})
					return next.NewSession(ctx, c)
				})
			}
		}
		for result, want := range map[string]string{"pass": "250", "none": "451"} {
			p := newWorld(t, nil, nil, anyPart{vouch(result)}, Greylist{}).dial("192.0.2.7")
			p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", rcpt(1), want, "QUIT", "221")
			p.closed()
		}
	})
}

type anyPart struct{ m server.Middleware }

func (p anyPart) Middleware() (server.Middleware, error) { return p.m, nil }

// A badStore fails in one of its methods, or waits for its context.
type badStore struct {
	GreylistStore
	fails string
	err   error
}

func (s badStore) Get(ctx context.Context, key string) (GreylistEntry, error) {
	switch s.fails {
	case "get":
		return GreylistEntry{}, s.err
	case "wait":
		<-ctx.Done()
		return GreylistEntry{}, ctx.Err()
	case "panic":
		panic("a mistake")
	}
	return s.GreylistStore.Get(ctx, key)
}

func (s badStore) Put(ctx context.Context, key string, e GreylistEntry) error {
	if s.fails == "put" {
		return s.err
	}
	return s.GreylistStore.Put(ctx, key, e)
}

// TestGreylistStoreFails checks that mail passes when the store fails, whatever its error looks like.
func TestGreylistStoreFails(t *testing.T) {
	down := errors.New("the database is down")
	for _, tt := range []struct {
		fails string
		err   error
	}{{"get", down}, {"put", down}, {"wait", nil}, {"panic", nil}, {"get", errRelay}, {"put", errRelay}} {
		t.Run("Y07 "+tt.fails, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, nil, Greylist{Store: badStore{NewGreylistMemory(0), tt.fails, tt.err}})
				p := w.dial("192.0.2.7")
				begin := time.Now()
				p.ask("EHLO c.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<joe@example.org>", "250",
					"DATA", "354", "x\r\n.", "250", "QUIT", "221")
				p.closed()
				if took := time.Since(begin); tt.fails == "wait" && took != 5*time.Second || took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
				if got := w.found(); got != "greylist=temperror" {
					t.Errorf("verdicts %s", got)
				}
			})
		})
	}
}

// TestGreylistEntries checks what is put into the store, and that a clock which was put back does no harm.
func TestGreylistEntries(t *testing.T) {
	for _, allowAfter := range []int{1, -1} {
		synctest.Test(t, func(t *testing.T) {
			store := NewGreylistMemory(0).(*greylistMemory)
			w := newWorld(t, nil, nil, Greylist{Store: store, AllowAfter: allowAfter})
			key := greylistKey("192.0.2.0/24", addr(t, annAddress), addr(t, joeAddress))
			try := func(want string) {
				p := w.dial("192.0.2.7")
				p.ask("EHLO c.example", "250", "MAIL FROM:<ann@example.com>", "250", "RCPT TO:<joe@example.org>", want,
					"QUIT", "221")
				p.closed()
			}
			ahead := time.Now().Add(time.Hour)
			if err := store.Put(t.Context(), key, GreylistEntry{First: ahead, Expires: ahead.Add(day)}); err != nil {
				t.Fatal(err)
			}
			try(put60)
			first := time.Now().Round(0)
			if got := store.table.get(key); got != (GreylistEntry{First: first, Expires: first.Add(day)}) {
				t.Errorf("the attempt is %v", got)
			}
			time.Sleep(time.Hour)
			try("250")
			now := time.Now().Round(0)
			if got := store.table.get(key); got != (GreylistEntry{First: first, Passes: 1, Expires: now.Add(35 * day)}) {
				t.Errorf("the attempt is %v then", got)
			}
			want := GreylistEntry{}
			if allowAfter > 0 {
				want = GreylistEntry{First: now, Passes: 1, Expires: now.Add(35 * day)}
			}
			if got := store.table.get("192.0.2.0/24"); got != want {
				t.Errorf("the network is %v, want %v", got, want)
			}
		})
	}
}

// TestGreylistOptions checks that mistakes in the options are told.
func TestGreylistOptions(t *testing.T) {
	for _, tt := range []struct {
		part Greylist
		want string
	}{
		{Greylist{Delay: -1}, "smtp: policy.Greylist.Delay: -1ns is negative; leave it 0 for 1m0s"},
		{Greylist{Window: -1}, "Greylist.Window: -1ns is negative"},
		{Greylist{Lifetime: -1}, "Greylist.Lifetime: -1ns is negative"},
		{Greylist{Delay: 24 * time.Hour}, "Greylist.Window: 24h0m0s ends before the Delay of 24h0m0s; make it longer"},
		{Greylist{IPv4Bits: 33}, "Greylist.IPv4Bits: 33 is not between 1 and 32"},
		{Greylist{IPv6Bits: -1}, "Greylist.IPv6Bits: -1 is not between 1 and 128"},
	} {
		if _, err := Chain(tt.part); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("the error is %v, want %q in it", err, tt.want)
		}
	}
}

// TestGreylistKey checks that different attempts have different keys, and of what a key is made.
func TestGreylistKey(t *testing.T) {
	keys := map[string]string{}
	for _, network := range []string{"192.0.2.0/24", "192.0.2.0/2"} {
		for _, from := range []string{"", "a@b.example", "4a@b.example"} {
			for _, to := range []string{"a@b.example", "A@b.example", "@b.example"} {
				f, r := addr(t, from), addr(t, strings.Replace(to, "@", "x@", 1))
				key := greylistKey(network, f, r)
				if other, ok := keys[key]; ok || len(key) != 22 {
					t.Errorf("%s %s %s has the key %q of %q", network, from, to, key, other)
				}
				keys[key] = network + from + to
			}
		}
	}
}

func addr(t *testing.T, text string) proto.Address {
	if text == "" {
		return proto.Address{}
	}
	a, err := proto.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
