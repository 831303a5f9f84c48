package mx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext/dns/dnstest"
	"smtpkit.example/smtp/proto"
)

// A bed is a Deliverer in a network of its own.
type bed struct {
	*Deliverer
	network
	dns *dnstest.Resolver

	mu       sync.Mutex
	attempts []*Attempt
}

// lay runs test with a Deliverer in a bubble in which nothing takes time but what waits. It has no MTA-STS.
func lay(t *testing.T, text string, change func(*Options), test func(*testing.T, *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bed{dns: dnstest.New(text)}
		opt := &Options{
			Resolver: b.dns,
			Client: &client.Options{
				Hostname: "client.example", DialContext: b.connect, TLSConfig: &tls.Config{RootCAs: theAuthority().pool},
			},
			DisableSTS: true,
			Trace: &Trace{Attempted: func(_ context.Context, a *Attempt) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.attempts = append(b.attempts, a)
			}},
		}
		if change != nil {
			change(opt)
		}
		var err error
		if b.Deliverer, err = New(opt); err != nil {
			t.Fatal(err)
		}
		test(t, b)
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		<-time.After(time.Hour) // no time in the bubble; hosts that are slow notice that nobody is there
		synctest.Wait()
		if b.conns != 0 {
			t.Errorf("%d connections are left open", b.conns)
		}
	})
}

// message returns a message to recipients.
func message(t testing.TB, to ...string) *client.Message {
	t.Helper()
	m, err := client.NewMessage("alice@sender.example", to, strings.NewReader("Subject: x\r\n\r\nHello\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// outcomes writes the outcomes of a message: for each recipient "ok", or the status code or reply code of the error,
// with "?" behind it if the message may have arrived.
func outcomes(res *client.Result) string {
	var list []string
	for _, o := range res.Recipients {
		list = append(list, told(o.Err))
	}
	return strings.Join(list, " ")
}

func told(err error) string {
	if err == nil {
		return "ok"
	}
	doubt := ""
	if !client.SafeToRetry(err) {
		doubt = "?"
	}
	var refused *proto.Error
	var status statusError
	switch {
	case errors.As(err, &refused):
		return fmt.Sprint(refused.Code, doubt)
	case errors.As(err, &status):
		return status.Status().String() + doubt
	}
	return err.Error() + doubt
}

const oneHost = "d.example MX 10 mx.example\nmx.example A 192.0.2.1\n"
const twoHosts = oneHost + "d.example MX 20 mx2.example\nmx2.example A 192.0.2.2\n"

// TestSend sends to several domains, and checks who gets what.
func TestSend(t *testing.T) {
	lay(t, twoHosts+"e.example A 192.0.2.3\nnull.example MX 0 .\n", nil, func(t *testing.T, b *bed) {
		d := b.add("192.0.2.1", &host{rcpt: func(to string) string {
			if strings.HasPrefix(to, "nobody@") {
				return "550 5.1.1 nobody"
			}
			return ""
		}})
		e := b.add("192.0.2.3", &host{})
		m := message(t, "a@d.example", "b@e.example", "nobody@D.example", "c@null.example", "d@gone.example", "e@d.example")
		res, err := b.Send(t.Context(), m)
		if got, want := outcomes(res), "ok ok 550 5.1.10 5.1.2 ok"; got != want {
			t.Errorf("the outcomes are %s, want %s", got, want)
		}
		var failed *client.SendError
		if !errors.As(err, &failed) || failed.Result != res || failed.Unknown {
			t.Errorf("the error is %v", err)
		}
		for i, o := range res.Recipients {
			if o.Address != m.To[i].Address {
				t.Errorf("recipient %d is %v", i, o.Address)
			}
		}
		got := fmt.Sprint(d.letters(), e.letters())
		text := "Subject: x\r\n\r\nHello\r\n"
		want := fmt.Sprint([]letter{{"FROM:<alice@sender.example>", []string{"a@d.example", "e@d.example"}, text, false, ""}},
			[]letter{{"FROM:<alice@sender.example>", []string{"b@e.example"}, text, false, ""}})
		if got != want {
			t.Errorf("arrived:\n%s\nwant\n%s", got, want)
		}
		if want := int64(2 * (len(text) + len(".\r\n"))); res.Octets != want {
			t.Errorf("%d octets, want %d", res.Octets, want)
		}
	})
}

// TestNextHost checks when a message goes to the next host, and what the outcome is.
func TestNextHost(t *testing.T) {
	good := func() *host { return &host{} }
	one := func(reply string) func(string) string {
		return func(to string) string {
			if to == "b@d.example" {
				return reply
			}
			return ""
		}
	}
	for _, tt := range []struct {
		name          string
		first, second *host
		want          string // the outcomes for a and b
		dialled       string
		temporary     bool
	}{
		{"the first", &host{}, good(), "ok ok", "1", false},
		{"K05 refused", &host{refuses: true}, good(), "ok ok", "1 2", false},
		{"K05 no answer", &host{blackout: true}, good(), "ok ok", "1 2", false},
		{"K05 no greeting", &host{greeting: "-"}, good(), "ok ok", "1 2", false},
		{"421", &host{greeting: "421 4.3.2 busy"}, good(), "ok ok", "1 2", false},
		{"K05 554", &host{greeting: "554 5.7.1 no"}, good(), "ok ok", "1 2", false},
		{"lost at EHLO", &host{hangup: "EHLO"}, good(), "ok ok", "1 2", false},
		{"lost at MAIL", &host{hangup: "MAIL"}, good(), "ok ok", "1 2", false},
		{"lost at DATA", &host{hangup: "DATA"}, good(), "ok ok", "1 2", false},
		{"lost at the end", &host{hangup: "."}, good(), "4.4.2? 4.4.2?", "1", true},
		{"K11 MAIL 4yz", &host{mail: "451 4.3.0 later"}, good(), "ok ok", "1 2", false},
		{"K11 MAIL 5yz", &host{mail: "550 5.7.1 no"}, good(), "550 550", "1", false},
		{"K11 one 4yz", &host{rcpt: one("450 4.2.0 later")}, good(), "ok ok", "1 2", false},
		{"K11 one 5yz", &host{rcpt: one("550 5.1.1 no")}, good(), "ok 550", "1", false},
		{"K11 content 4yz", &host{data: "451 4.3.0 later"}, good(), "ok ok", "1 2", false},
		{"K11 content 5yz", &host{data: "554 5.6.0 no"}, good(), "554 554", "1", false},
		{"one 4yz twice", &host{rcpt: one("450 4.2.0 later")}, &host{rcpt: one("451 4.2.0 too")}, "ok 451", "1 2", true},
		{"one 4yz, then nobody", &host{rcpt: one("450 4.2.0 later")}, &host{refuses: true}, "ok 450", "1 2", true},
		{"nobody", &host{refuses: true}, &host{refuses: true}, "4.4.1 4.4.1", "1 2", true},
		{"554 twice", &host{greeting: "554 no"}, &host{greeting: "554 5.7.1 no"}, "554 554", "1 2", false},
		{"554, then nobody", &host{greeting: "554 no"}, &host{refuses: true}, "4.4.1 4.4.1", "1 2", true},
		{"nobody, then 554", &host{refuses: true}, &host{greeting: "554 no"}, "4.4.1 4.4.1", "1 2", true},
		{"no SMTP", &host{greeting: "HTTP/1.1 400 what"}, good(), "ok ok", "1 2", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", tt.first)
				b.add("192.0.2.2", tt.second)
				res, err := b.Send(t.Context(), message(t, "a@d.example", "b@d.example"))
				if got := outcomes(res); got != tt.want {
					t.Errorf("the outcomes are %s, want %s: %v", got, tt.want, err)
				}
				if got := strings.ReplaceAll(b.order(), "192.0.2.", ""); got != tt.dialled {
					t.Errorf("dialled %s, want %s", got, tt.dialled)
				}
				if (err == nil) != (tt.want == "ok ok") || err != nil && client.Temporary(err) != tt.temporary {
					t.Errorf("temporary: %v: %v", client.Temporary(err), err)
				}
			})
		})
	}
}

// TestErrorTellsAllHosts checks the text of the error when no host was of use.
func TestErrorTellsAllHosts(t *testing.T) {
	lay(t, twoHosts+"d.example MX 30 gone.example\n", nil, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{refuses: true})
		b.add("192.0.2.2", &host{greeting: "554 5.7.1 go away"})
		_, err := b.Send(t.Context(), message(t, "a@d.example"))
		want := "smtp: no mail exchanger of d.example could be used: connecting to mx.example:25: 192.0.2.1:25: connection " +
			"refused; mx2.example: greeting: 554 5.7.1 go away; no route to gone.example: the host has no address in the DNS"
		if err == nil || err.Error() != want {
			t.Errorf("the error is\n%v, want\n%s", err, want)
		}
	})
}

// TestBounds checks how many addresses and sessions an attempt has.
func TestBounds(t *testing.T) {
	var text strings.Builder
	for i := range 9 {
		fmt.Fprintf(&text, "d.example MX %d h%d.example\n", i, i)
		for k := range 4 {
			fmt.Fprintf(&text, "h%d.example A 192.0.2.%d\n", i, 10*i+k)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*Options)
		host   *host
		want   string
	}{
		{"dead addresses", nil, &host{refuses: true}, "0 1 2 3 10 11 12 13"},
		{"busy hosts", nil, &host{mail: "451 4.3.0 later"}, "0 10"},
		{"fewer addresses", func(o *Options) { o.MaxAddresses = 4 }, &host{refuses: true}, "0 1 10 11"},
		{"too few", func(o *Options) { o.MaxAddresses = 1 }, &host{refuses: true}, "0 1"},
		{"more sessions", func(o *Options) { o.MaxSessions, o.MaxAddresses = 4, 100 }, &host{mail: "451 4.3.0 later"},
			"0 10 20 30"},
		{"a session each", func(o *Options) { o.MaxSessions = 1 }, &host{mail: "451 4.3.0 later"}, "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, text.String(), tt.change, func(t *testing.T, b *bed) {
				for i := range 9 {
					for k := range 4 {
						b.add(fmt.Sprintf("192.0.2.%d", 10*i+k), &host{refuses: tt.host.refuses, mail: tt.host.mail})
					}
				}
				if _, err := b.Send(t.Context(), message(t, "a@d.example")); !client.Temporary(err) {
					t.Errorf("the error is %v", err)
				}
				if got := strings.ReplaceAll(b.order(), "192.0.2.", ""); got != tt.want {
					t.Errorf("dialled %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// TestStagger checks that an address that does not answer holds up the next one for two seconds.
func TestStagger(t *testing.T) {
	lay(t, "d.example A 192.0.2.1\nd.example AAAA 2001:db8::1\n", nil, func(t *testing.T, b *bed) {
		b.add("2001:db8::1", &host{blackout: true})
		b.add("192.0.2.1", &host{})
		for i, want := range []time.Duration{2 * time.Second, 0} {
			began := time.Now()
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took != want {
				t.Errorf("message %d took %v, want %v", i, took, want)
			}
			b.group.Close(t.Context())
			b.group = pool.NewGroup(nil)
			b.ways = ways{}
		}
		// The second connection was to the address that had answered: the other one did not hold it up.
		if got := b.order(); got != "2001:db8::1 192.0.2.1 192.0.2.1" {
			t.Errorf("dialled %s", got)
		}
	})
}

// TestAllOrNone checks that a message to all or none stays with one domain, and is given to no host in part.
func TestAllOrNone(t *testing.T) {
	lay(t, twoHosts+"e.example A 192.0.2.3\n", nil, func(t *testing.T, b *bed) {
		first := b.add("192.0.2.1", &host{rcpt: func(to string) string {
			if to == "b@d.example" {
				return "550 5.1.1 nobody"
			}
			return ""
		}})
		second := b.add("192.0.2.2", &host{})
		m := message(t, "a@d.example", "b@d.example")
		m.AllOrNone = true
		res, err := b.Send(t.Context(), m)
		if got := outcomes(res); got != "5.0.0 550" || err == nil || b.order() != "192.0.2.1" {
			t.Errorf("the outcomes are %s: %v", got, err)
		}
		m = message(t, "a@d.example", "b@e.example")
		m.AllOrNone = true
		_, err = b.Send(t.Context(), m)
		var wrong *client.MessageError
		if !errors.As(err, &wrong) || b.order() != "" {
			t.Errorf("two domains: %v", err)
		}
		if len(first.letters())+len(second.letters()) != 0 {
			t.Error("somebody has got the message")
		}
	})
}

// TestContext checks that the end of the context ends Send, and says so to those who had no outcome.
func TestContext(t *testing.T) {
	lay(t, twoHosts+"e.example A 192.0.2.3\n", nil, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{greeting: "-"})
		b.add("192.0.2.2", &host{})
		b.add("192.0.2.3", &host{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		res, err := b.Send(ctx, message(t, "a@d.example", "b@e.example"))
		if took := time.Since(began); took != time.Minute {
			t.Errorf("Send took %v", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !client.Temporary(err) || res.Recipients[1].Err != nil {
			t.Errorf("%s: %v", outcomes(res), err)
		}
	})
}

// TestPrepare checks that each attempt at a host gets a message of its own.
func TestPrepare(t *testing.T) {
	calls := 0
	prepare := func(_ context.Context, m *client.Message) (*client.Message, error) {
		calls++
		again := *m
		again.Body = strings.NewReader(fmt.Sprintf("X-Attempt: %d\r\n\r\nHello\r\n", calls))
		return &again, nil
	}
	lay(t, twoHosts, func(o *Options) { o.Prepare = prepare }, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{rcpt: func(string) string { return "450 4.2.0 later" }})
		h := b.add("192.0.2.2", &host{})
		if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
			t.Fatal(err)
		}
		if got := h.letters(); len(got) != 1 || !strings.HasPrefix(got[0].text, "X-Attempt: 2\r\n") {
			t.Errorf("arrived: %v", got)
		}
	})
	bad := errors.New("no key")
	for _, f := range []func(context.Context, *client.Message) (*client.Message, error){
		func(context.Context, *client.Message) (*client.Message, error) { return nil, bad },
		func(_ context.Context, m *client.Message) (*client.Message, error) {
			again := *m
			again.To = nil
			return &again, nil
		},
	} {
		lay(t, twoHosts, func(o *Options) { o.Prepare = f }, func(t *testing.T, b *bed) {
			_, err := b.Send(t.Context(), message(t, "a@d.example"))
			var wrong *client.MessageError
			if !errors.As(err, &wrong) || client.Temporary(err) || b.order() != "" {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// A keyError is an error of Prepare that may pass.
type keyError struct{}

func (keyError) Error() string        { return "the key server does not answer" }
func (keyError) Status() proto.Status { return proto.Status{4, 7, 5} }

// TestPrepareLater checks that an error of Prepare that may pass is no refusal for good.
func TestPrepareLater(t *testing.T) {
	for _, failed := range []error{keyError{}, fmt.Errorf("signing: %w", context.DeadlineExceeded)} {
		prepare := func(context.Context, *client.Message) (*client.Message, error) { return nil, failed }
		lay(t, twoHosts, func(o *Options) { o.Prepare = prepare }, func(t *testing.T, b *bed) {
			_, err := b.Send(t.Context(), message(t, "a@d.example"))
			if !errors.Is(err, failed) || !client.Temporary(err) || !client.SafeToRetry(err) || b.order() != "" {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestNobody checks messages without recipients, and without a domain.
func TestNobody(t *testing.T) {
	lay(t, oneHost, nil, func(t *testing.T, b *bed) {
		for _, m := range []*client.Message{nil, {}} {
			if _, err := b.Send(t.Context(), m); err == nil {
				t.Error("a message without recipients has no error")
			}
		}
		m := &client.Message{To: []proto.Recipient{{}}}
		if _, err := b.Send(t.Context(), m); told(err) != "5.1.2" {
			t.Errorf("without a domain: %v", err)
		}
	})
}

// TestOptions checks that mistakes are found by New.
func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  Options
	}{
		{"TLS", Options{Client: &client.Options{TLS: 1}}},
		{"Protocol", Options{Client: &client.Options{Protocol: proto.LMTP}}},
		{"ServerName", Options{Client: &client.Options{TLSConfig: &tls.Config{ServerName: "x"}}}},
		{"InsecureSkipVerify", Options{Client: &client.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}}}},
		{"Hostname", Options{Client: &client.Options{Hostname: "a b"}}},
		{"Names", Options{Names: []string{"a..b"}}},
		{"LocalAddr", Options{Family: OnlyIPv6, Client: &client.Options{LocalAddr: addrs("192.0.2.1")[0]}}},
	} {
		d, err := New(&tt.opt)
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), tt.name) {
			t.Errorf("%s: the error is %v", tt.name, err)
		}
		if d != nil {
			t.Errorf("%s: there is a Deliverer", tt.name)
		}
	}
}

// TestPanic checks that a panic in a function of the caller's reaches the caller, and that the others get their mail.
func TestPanic(t *testing.T) {
	prepare := func(_ context.Context, m *client.Message) (*client.Message, error) {
		if m.To[0].Address.Domain.Key() == "d.example" {
			panic("no key")
		}
		return m, nil
	}
	lay(t, oneHost+"e.example A 192.0.2.3\n", func(o *Options) { o.Prepare = prepare }, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{})
		e := b.add("192.0.2.3", &host{})
		defer func() {
			if p := recover(); p != "no key" || len(e.letters()) != 1 {
				t.Errorf("Send panicked with %v; %d messages", p, len(e.letters()))
			}
		}()
		b.Send(t.Context(), message(t, "a@d.example", "b@e.example"))
		t.Error("Send returned")
	})
}

// TestBodies checks that each domain gets the whole content, whatever the Body is, and that Send reads a plain reader
// once.
func TestBodies(t *testing.T) {
	text := "Subject: x\r\n\r\n" + strings.Repeat("All work and no play\r\n", 10000)
	for _, tt := range []struct {
		name string
		body func() io.Reader
	}{
		{"a Seeker", func() io.Reader { return strings.NewReader(text) }},
		{"a plain reader", func() io.Reader { return io.MultiReader(strings.NewReader(text)) }},
		{"a function that writes", func() io.Reader {
			return client.WriterBody(client.WriterFunc(func(w io.Writer) error {
				_, err := io.WriteString(w, text)
				return err
			}))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, twoHosts+"e.example A 192.0.2.3\n", nil, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", &host{data: "451 4.3.0 later"}) // has read all of it
				hosts := []*host{b.add("192.0.2.2", &host{}), b.add("192.0.2.3", &host{})}
				m := message(t, "a@d.example", "b@e.example")
				m.Body = tt.body()
				if _, err := b.Send(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				for i, h := range hosts {
					if got := h.letters(); len(got) != 1 || got[0].text != text {
						t.Errorf("host %d has %d messages, or another text", i, len(got))
					}
				}
			})
		})
	}
}
