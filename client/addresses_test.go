package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A machine is what is at an address of a network: it takes a while, and then refuses the connection or plays a script.
type machine struct {
	at     string
	takes  time.Duration
	err    error
	script string
	deaf   bool // to the end of the context
}

// A hostNet is a network in which one host has several addresses.
type hostNet struct {
	t        testing.TB
	machines []machine
	found    []netip.Addr // what the resolver says; default the addresses of machines
	asked    []string     // the networks that were looked up
	start    time.Time

	mu      sync.Mutex
	dialled []string // with the time in milliseconds
	left    int      // connections that are open
}

// config returns a configuration by which the network is reached.
func (n *hostNet) config(change func(*Options)) *config {
	opt := &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone}
	if change != nil {
		change(opt)
	}
	cfg, err := newConfig(opt)
	if err != nil {
		n.t.Fatal(err)
	}
	cfg.dial, cfg.lookup, n.start = n.dial, n.lookup, time.Now()
	return cfg
}

// client dials the host.
func (n *hostNet) client(ctx context.Context, change func(*Options)) (*Client, error) {
	cfg := n.config(change)
	return newClient("mail.example", cfg, cfg.route("tcp", host)).dial(ctx)
}

func (n *hostNet) lookup(ctx context.Context, network, name string) ([]netip.Addr, error) {
	n.asked = append(n.asked, network)
	if name != "mail.example" {
		return nil, fmt.Errorf("looked up %q", name)
	}
	list := n.found
	if list == nil {
		for _, m := range n.machines {
			list = append(list, netip.MustParseAddr(m.at))
		}
	}
	return list, ctx.Err()
}

func (n *hostNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	after := time.Since(n.start).Milliseconds()
	n.dialled = append(n.dialled, fmt.Sprintf("%s@%d", strings.TrimSuffix(addr, ":25"), after))
	n.mu.Unlock()
	i := slices.IndexFunc(n.machines, func(m machine) bool { return net.JoinHostPort(m.at, "25") == addr })
	if i < 0 || network != "tcp" {
		return nil, fmt.Errorf("dialled %s %s", network, addr)
	}
	m := &n.machines[i]
	gone := ctx.Done()
	if m.deaf {
		gone = nil
	}
	select {
	case <-gone:
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	case <-time.After(m.takes):
	}
	if m.err != nil {
		return nil, m.err
	}
	conn, err := clienttest.New(n.t, m.script).Dial(context.WithoutCancel(ctx), network, addr)
	n.mu.Lock()
	n.left++
	n.mu.Unlock()
	return &countedConn{Conn: conn, n: n}, err
}

// open returns how many connections are open.
func (n *hostNet) open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.left
}

// A countedConn is an open connection.
type countedConn struct {
	net.Conn
	n    *hostNet
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.n.mu.Lock()
		c.n.left--
		c.n.mu.Unlock()
	})
	return c.Conn.Close()
}

const (
	never    = time.Hour // longer than any test waits
	greets   = "S: 220 mail.example\nC: EHLO client.example\nS: 250 mail.example\n" + goodbye
	refuses  = "S: 554 5.7.1 not you\n" + goodbye
	isBusy   = "S: 421 4.3.2 too busy\nCLOSE"
	silent   = "HANGUP"
	breaks   = "CLOSE"
	six, vi  = "2001:db8::1", "2001:db8::2"
	four, iv = "192.0.2.1", "192.0.2.2"
)

// TestHappyEyeballs checks which addresses are dialled, and when in milliseconds (RFC 8305 sections 4 and 5).
func TestHappyEyeballs(t *testing.T) {
	for _, tt := range []struct {
		name     string
		machines []machine
		dialled  string
	}{
		{"the first answers", []machine{{at: six, takes: 249 * time.Millisecond, script: greets}, {at: four}},
			"[2001:db8::1]@0"},
		{"the first is slow", []machine{{at: six, takes: never}, {at: four, script: greets}},
			"[2001:db8::1]@0 192.0.2.1@250"},
		{"the first wins late", []machine{{at: six, takes: 300 * time.Millisecond, script: greets},
			{at: four, takes: 100 * time.Millisecond, script: silent, deaf: true}}, "[2001:db8::1]@0 192.0.2.1@250"},
		{"a refusal does not wait", []machine{{at: six, err: errRefused}, {at: four, takes: never}, {at: vi, script: greets}},
			"[2001:db8::1]@0 192.0.2.1@0 [2001:db8::2]@250"},
		{"a refusal later", []machine{{at: six, takes: 100 * time.Millisecond, err: errRefused}, {at: four, script: greets}},
			"[2001:db8::1]@0 192.0.2.1@100"},
		{"families take turns", []machine{{at: six, takes: never}, {at: vi, takes: never}, {at: four, takes: never},
			{at: iv, script: greets}}, "[2001:db8::1]@0 192.0.2.1@250 [2001:db8::2]@500 192.0.2.2@750"},
		{"the resolver prefers IPv4", []machine{{at: four, err: errRefused}, {at: iv, err: errRefused},
			{at: six, script: greets}}, "192.0.2.1@0 [2001:db8::1]@0"},
		{"the same address in two forms", []machine{{at: four, err: errRefused}, {at: "::ffff:192.0.2.1"},
			{at: iv, script: greets}}, "192.0.2.1@0 192.0.2.2@0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &hostNet{t: &recorder{TB: t}, machines: tt.machines}
				c, err := n.client(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				if got := strings.Join(n.dialled, " "); got != tt.dialled {
					t.Errorf("dialled %s, want %s", got, tt.dialled)
				}
				<-time.After(time.Second) // no time in the bubble
				if left := n.open(); left != 0 {
					t.Errorf("%d connections are left open", left)
				}
			})
		})
	}
}

// TestNextAddress checks that Dial goes on to the next address until a server greets, and how it ends if none does.
func TestNextAddress(t *testing.T) {
	timeouts := func(o *Options) { o.Timeouts.Greeting = time.Second }
	implicit := func(o *Options) { o.TLS, o.TLSConfig = ext.TLSImplicit, clienttest.TLSConfig() }
	stranger := func(o *Options) { o.TLS, o.TLSConfig = ext.TLSImplicit, &tls.Config{RootCAs: x509.NewCertPool()} }
	for _, tt := range []struct {
		name          string
		first, second machine
		change        func(*Options)
		dialled       int
		want          error // of this type; nil for success
		temporary     bool
		told          []string
	}{
		{"421", machine{script: isBusy}, machine{script: greets}, nil, 2, nil, false, nil},
		{"554", machine{script: refuses}, machine{script: greets}, nil, 2, nil, false, nil},
		{"no greeting", machine{script: silent}, machine{script: greets}, timeouts, 2, nil, false, nil},
		{"broken off", machine{script: breaks}, machine{script: greets}, nil, 2, nil, false, nil},
		{"no SMTP", machine{script: "S: HTTP/1.0 400 what\nHANGUP"}, machine{script: greets}, nil, 2, nil, false, nil},
		{"broken off before TLS", machine{script: breaks}, machine{script: "TLS\n" + greets}, implicit, 2, nil, false, nil},
		{"a stranger", machine{script: "TLS"}, machine{script: "TLS"}, stranger, 1, &ext.TLSError{}, false,
			[]string{"unknown authority"}},
		{"EHLO refused", machine{script: "S: 220 mail.example\nC: EHLO *\nS: 421 4.3.2 later\n"}, machine{}, nil, 1,
			&proto.Error{}, true, []string{"EHLO: 421 4.3.2 later"}},
		{"421 twice", machine{script: isBusy}, machine{script: isBusy}, nil, 2, &proto.Error{}, true,
			[]string{"smtp: no address of mail.example:25 was of use: 192.0.2.1:25: the greeting: 421 4.3.2 too busy; " +
				"192.0.2.2:25: the greeting: 421 4.3.2 too busy"}},
		{"554 twice", machine{script: refuses}, machine{script: refuses}, nil, 2, &proto.Error{}, false,
			[]string{"192.0.2.1:25: greeting: 554", "192.0.2.2:25: greeting: 554"}},
		{"554, then 421", machine{script: refuses}, machine{script: isBusy}, nil, 2, &proto.Error{Code: 421}, true,
			[]string{"192.0.2.1:25: greeting: 554", "192.0.2.2:25: the greeting: 421"}},
		{"421, then 554", machine{script: isBusy}, machine{script: refuses}, nil, 2, &proto.Error{Code: 421}, true,
			[]string{"192.0.2.1:25: the greeting: 421", "192.0.2.2:25: greeting: 554"}},
		{"silence, then 421", machine{script: silent}, machine{script: isBusy}, timeouts, 2, &proto.Error{Code: 421}, true,
			[]string{"192.0.2.1:25: connection lost while waiting for the reply to the greeting",
				"192.0.2.2:25: the greeting: 421"}},
		{"554, then nobody", machine{script: refuses}, machine{err: errRefused}, nil, 2, &LostError{}, true,
			[]string{"192.0.2.1:25: greeting: 554", "192.0.2.2:25: connect: connection refused"}},
		{"nobody, then 554", machine{err: errRefused}, machine{script: refuses}, nil, 2, &LostError{}, true,
			[]string{"192.0.2.1:25: connect: connection refused", "192.0.2.2:25: greeting: 554"}},
		{"421, then a stranger", machine{script: breaks}, machine{script: "TLS"}, stranger, 2, &ext.TLSError{}, false,
			[]string{"192.0.2.1:25: TLS: io: read/write on closed pipe", "unknown authority"}},
		{"forbidden, then nobody", machine{err: forbidden{5, 7, 1}}, machine{err: errRefused}, nil, 2, &LostError{}, true,
			[]string{"192.0.2.1:25: forbidden; 192.0.2.2:25: connect: connection refused"}},
		{"nobody, then forbidden", machine{err: errRefused}, machine{err: forbidden{5, 7, 1}}, nil, 2, &LostError{}, true,
			[]string{"192.0.2.2:25: forbidden"}},
		{"forbidden twice", machine{err: forbidden{5, 7, 1}}, machine{err: forbidden{5, 4, 6}}, nil, 2, &LostError{}, false,
			[]string{"192.0.2.1:25: forbidden; 192.0.2.2:25: forbidden"}},
		{"forbidden, then 421", machine{err: forbidden{5, 7, 1}}, machine{script: isBusy}, nil, 2, &proto.Error{Code: 421},
			true, []string{"192.0.2.1:25: forbidden"}},
		{"forbidden, then 554", machine{err: forbidden{5, 7, 1}}, machine{script: refuses}, nil, 2, &LostError{}, false,
			[]string{"192.0.2.1:25: forbidden"}},
		{"nobody", machine{err: errRefused}, machine{takes: never}, nil, 2, &LostError{}, true, []string{
			"smtp: connecting to mail.example:25: 192.0.2.1:25: connect: connection refused; 192.0.2.2:25: context deadline"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.first.at, tt.second.at = four, iv
				n := &hostNet{t: &recorder{TB: t}, machines: []machine{tt.first, tt.second}}
				c, err := n.client(t.Context(), tt.change)
				if err == nil {
					c.Close()
				}
				if len(n.dialled) != tt.dialled || n.open() != 0 || !slices.Equal(n.asked, []string{"ip"}) {
					t.Errorf("dialled %v after looking up %v, and left %d open", n.dialled, n.asked, n.open())
				}
				if !sameKind(err, tt.want) || Temporary(err) != tt.temporary || SafeToRetry(err) != (tt.want != nil) {
					t.Errorf("%v, temporary: %v, safe: %v", err, Temporary(err), SafeToRetry(err))
				}
				if want, ok := tt.want.(*proto.Error); ok && want.Code != 0 {
					if e, _ := asType[*proto.Error](err); e == nil || e.Code != want.Code {
						t.Errorf("%v, want %d", e, want.Code)
					}
				}
				for _, text := range tt.told {
					if err == nil || !strings.Contains(err.Error(), text) || strings.Count(err.Error(), "smtp: ") != 1 {
						t.Errorf("%v, want %q", err, text)
					}
				}
			})
		})
	}
}

// TestLoserIsLeft: an address that has lost the race has not failed, so it is tried if the winner does not greet.
func TestLoserIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &hostNet{t: t, machines: []machine{{at: six, takes: time.Second, script: greets}, {at: four, script: isBusy}}}
		c, err := n.client(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if got := strings.Join(n.dialled, " "); got != "[2001:db8::1]@0 192.0.2.1@250 [2001:db8::1]@250" {
			t.Error(got)
		}
	})
}

// TestManyAddresses: at most 8 are tried, and both families are among them.
func TestManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &hostNet{t: t}
		for i := range 20 {
			n.machines = append(n.machines, machine{at: fmt.Sprintf("2001:db8::%d", i), script: isBusy})
		}
		n.machines = append(n.machines, machine{at: four, script: isBusy})
		_, err := n.client(t.Context(), nil)
		if err == nil || len(n.dialled) != 8 || n.dialled[1] != four+"@0" {
			t.Errorf("%v after %v", err, n.dialled)
		}
	})
}

// TestApproachEnds: the context, Timeouts.Connect and Close end it, whatever addresses are left.
func TestApproachEnds(t *testing.T) {
	lists := []machine{{at: four, script: isBusy}, {at: iv, takes: never}, {at: six, takes: never}}
	synctest.Test(t, func(t *testing.T) {
		n := &hostNet{t: t, machines: lists}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := n.client(ctx, nil)
		if !errors.Is(err, context.Canceled) || Temporary(err) || !strings.Contains(err.Error(), "421 4.3.2 too busy") ||
			time.Since(n.start) != time.Second {
			t.Errorf("cancelled: %v after %v", err, time.Since(n.start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := &hostNet{t: t, machines: lists}
		_, err := n.client(t.Context(), func(o *Options) { o.Timeouts.Connect = 2 * time.Second })
		if e, ok := asType[*proto.Error](err); !ok || e.Code != 421 || time.Since(n.start) != 2*time.Second {
			t.Errorf("too slow: %v after %v", err, time.Since(n.start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := &hostNet{t: t, machines: []machine{{at: four, script: silent}, {at: iv, script: greets}}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := n.client(ctx, nil)
		lost, _ := asType[*LostError](err)
		if lost == nil || lost.Doing != "waiting for the reply to the greeting" ||
			!errors.Is(err, context.DeadlineExceeded) || len(n.dialled) != 1 {
			t.Errorf("deadline while waiting for the greeting: %v after %v", err, n.dialled)
		}
	})
}

func TestLocalAddr(t *testing.T) {
	for local, want := range map[string]string{"192.0.2.9": "ip4 192.0.2.1@0", "::ffff:192.0.2.9": "ip4 192.0.2.1@0",
		"2001:db8::9": "ip6 [2001:db8::1]@0"} {
		synctest.Test(t, func(t *testing.T) {
			n := &hostNet{t: t, machines: []machine{{at: six, err: errRefused}, {at: four, err: errRefused}}}
			_, err := n.client(t.Context(), func(o *Options) { o.LocalAddr = netip.MustParseAddr(local) })
			if got := strings.Join(append(n.asked, n.dialled...), " "); err == nil || got != want {
				t.Errorf("%s: %s, %v", local, got, err)
			}
		})
	}
	n := &hostNet{t: t, machines: []machine{{at: six}}}
	from4 := func(o *Options) { o.LocalAddr = netip.MustParseAddr("192.0.2.9") }
	if _, err := n.client(t.Context(), from4); err == nil || !strings.Contains(err.Error(), "from 192.0.2.9") {
		t.Error(err)
	}
	_, err := Dial(t.Context(), host, &Options{LocalAddr: netip.MustParseAddr("::1"), DialContext: n.dial})
	if err == nil || !strings.Contains(err.Error(), "Options.LocalAddr has no effect with Options.DialContext") {
		t.Error(err)
	}
}

// TestRenewalTriesAll: a renewal looks the host up again, and tries its addresses from the first on.
func TestRenewalTriesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &hostNet{t: t, machines: []machine{{at: four, script: isBusy},
			{at: iv, script: limited("MAILMAX=1") + taken("c@d.example") + bye}}}
		c, err := n.client(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 2 {
			if _, err := c.Send(t.Context(), message("hello\r\n", "c@d.example")); err != nil {
				t.Error(err)
			}
		}
		if got := strings.Join(n.dialled, " "); got != "192.0.2.1@0 192.0.2.2@0 192.0.2.1@0 192.0.2.2@0" ||
			len(n.asked) != 2 {
			t.Errorf("%s, looked up %d times", got, len(n.asked))
		}
	})
}

// TestSubmissionTriesAll: port 587 is tried only if nothing listens on port 465 at any address.
func TestSubmissionTriesAll(t *testing.T) {
	for name, second := range map[string]error{"one listens": nil, "none listens": errRefused} {
		t.Run(name, func(t *testing.T) {
			n := &hostNet{t: t, machines: []machine{{at: four}, {at: iv}}}
			cfg := n.config(func(o *Options) { o.TLS = ext.TLSRequired })
			var dialled []string
			cfg.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialled = append(dialled, addr)
				if addr == "192.0.2.2:465" && second == nil {
					return clienttest.New(t, breaks).Dial(ctx, network, addr)
				}
				return nil, errRefused
			}
			_, absent, err := cfg.submit(t.Context(), "mail.example", "465", ext.TLSImplicit)
			if got := strings.Join(dialled, " "); got != "192.0.2.1:465 192.0.2.2:465" || absent != (second != nil) ||
				err == nil {
				t.Errorf("dialled %s; absent %v, %v", got, absent, err)
			}
		})
	}
}

// TestLoopback dials both addresses of the machine itself over TCP. One answers with 421.
func TestLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	six, err := net.Listen("tcp", "[::1]:"+port)
	if err != nil {
		t.Logf("nobody can listen at ::1 here, so that address refuses: %v", err)
	}
	var serving sync.WaitGroup
	serve := func(l net.Listener, script string) {
		serving.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			in := &lineReader{r: conn}
			for reply := range strings.SplitSeq(script, "|") {
				fmt.Fprint(conn, reply+"\r\n")
				in.line()
			}
		})
	}
	serve(l, "220 mail.example|250 mail.example|221 bye")
	if six != nil {
		serve(six, "421 4.3.2 too busy")
		defer six.Close()
	}
	defer serving.Wait()
	defer l.Close()
	var ends []string
	cfg, err := newConfig(&Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, Trace: &Trace{
		Connected: func(_ context.Context, c *Client) { ends = append(ends, c.RemoteAddr().String()) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.IPv6Loopback(), netip.MustParseAddr("127.0.0.1")}, nil
	}
	c, err := newClient("mail.example", cfg, cfg.route("tcp", "mail.example:"+port)).dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	want := []string{"127.0.0.1:" + port}
	if six != nil {
		want = slices.Insert(want, 0, "[::1]:"+port)
	}
	if !slices.Equal(ends, want) {
		t.Errorf("connected to %v, want %v", ends, want)
	}
}

// TestLocalAddrOnTheWire: the server sees the address.
func TestLocalAddrOnTheWire(t *testing.T) {
	local := "127.0.0.1"
	if runtime.GOOS == "linux" {
		local = "127.0.0.2" // which is there too
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			seen <- err.Error()
			return
		}
		defer conn.Close()
		from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		fmt.Fprint(conn, "554 no\r\n")
		(&lineReader{r: conn}).line()
		seen <- from
	}()
	_, err = Dial(t.Context(), l.Addr().String(), &Options{LocalAddr: netip.MustParseAddr(local)})
	if e, ok := asType[*proto.Error](err); !ok || e.Code != 554 || err != error(e) {
		t.Errorf("%v, want the refusal as it is", err)
	}
	if got := <-seen; got != local {
		t.Errorf("from %s", got)
	}
}
