package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

// TestVerify has a server fail at each step, in each way that there is.
func TestVerify(t *testing.T) {
	const (
		greets   = "S: 220 mail.example\n"
		ehlo     = "C: EHLO client.example\nS: 250-mail.example\n"
		offers   = greets + ehlo + "S: 250 STARTTLS\n"
		starts   = offers + "C: STARTTLS\nS: 220 go\nTLS\n"
		secured  = starts + ehlo + "S: 250 AUTH PLAIN\n"
		login    = "C: AUTH PLAIN AHUAcA==\n"
		loggedIn = secured + login + "S: 235 fine\n"
		temporal = true
	)
	password := func(o *Options) { o.Credentials = auth.Password("u", "p") }
	implicit := func(o *Options) { o.TLS = ext.TLSImplicit; password(o) }
	clear := func(o *Options) { o.TLS = ext.TLSInsecureNone }
	for _, tt := range []struct {
		name, script string
		options      func(*Options)
		step         VerifyStep
		temporary    bool
	}{
		{"all is well", loggedIn + "C: NOOP\nS: 250 ok\n", password, "", false},
		{"all is well with TLS first", "TLS\n" + greets + ehlo + "S: 250 AUTH PLAIN\n" + login +
			"S: 235 fine\nC: NOOP\nS: 250 ok\n", implicit, "", false},
		{"nobody to authenticate", offers + "C: NOOP\nS: 250 ok\n", clear, "", false},
		{"LMTP", greets + "C: LHLO client.example\nS: 250 mail.example\nC: NOOP\nS: 250 ok\n",
			func(o *Options) { clear(o); o.Protocol = proto.LMTP }, "", false},

		{"no mode", "", func(o *Options) { o.TLS = 99 }, StepOptions, false},
		{"no connection", "", func(o *Options) {
			o.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }
		}, StepConnect, temporal},
		{"no greeting", "CLOSE\n", password, StepGreeting, temporal},
		{"not welcome", "S: 554 go away\n", password, StepGreeting, false},
		{"not now", "S: 421 later\nCLOSE\n", password, StepGreeting, temporal},
		{"no greeting behind TLS", "TLS\nCLOSE\n", implicit, StepGreeting, temporal},
		{"not welcome behind TLS", "TLS\nS: 554 go away\n", implicit, StepGreeting, false},
		{"EHLO refused", greets + "C: EHLO client.example\nS: 550 who are you\n", password, StepEHLO, false},
		{"EHLO and HELO unknown", greets + "C: EHLO client.example\nS: 502 what\nC: HELO client.example\nS: 502 what\n",
			clear, StepEHLO, false},
		{"LHLO refused", greets + "C: LHLO client.example\nS: 500 what\n",
			func(o *Options) { clear(o); o.Protocol = proto.LMTP }, StepEHLO, false},
		{"lost after EHLO", greets + "C: EHLO client.example\nCLOSE\n", password, StepEHLO, temporal},
		{"no TLS offered", greets + ehlo + "S: 250 AUTH PLAIN\n", password, StepTLS, false},
		{"STARTTLS refused", offers + "C: STARTTLS\nS: 454 no entropy\n", password, StepTLS, temporal},
		{"lost after STARTTLS", offers + "C: STARTTLS\nCLOSE\n", password, StepTLS, temporal},
		{"no handshake", offers + "C: STARTTLS\nS: 220 go\nCLOSE\n", password, StepTLS, temporal},
		{"EHLO refused behind TLS", starts + "C: EHLO client.example\nS: 550 who are you\n", password, StepEHLO, false},
		{"no AUTH offered", starts + ehlo + "S: 250 HELP\n", password, StepAuth, false},
		{"no mechanism", strings.Replace(secured, "PLAIN", "NTLM", 1), password, StepAuth, false},
		{"a wrong password", secured + login + "S: 535 5.7.8 no\n", password, StepAuth, false},
		{"lost after AUTH", secured + login + "CLOSE\n", password, StepAuth, temporal},
		{"NOOP refused", loggedIn + "C: NOOP\nS: 452 full\n", password, StepNoop, temporal},
		{"lost after NOOP", loggedIn + "C: NOOP\nCLOSE\n", password, StepNoop, temporal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var scripts []string
			if tt.script != "" {
				scripts = append(scripts, tt.script)
			}
			srv := clienttest.New(t, scripts...)
			opt := &Options{DialContext: srv.Dial, TLSConfig: clienttest.TLSConfig(), Hostname: "client.example"}
			tt.options(opt)
			err := Verify(t.Context(), host, opt)
			failed, ok := asType[*VerifyError](err)
			switch {
			case tt.step == "" && err != nil:
				t.Errorf("failed: %v", err)
			case tt.step == "":
			case !ok || failed.Step != tt.step || !strings.Contains(err.Error(), string(tt.step)):
				t.Errorf("%v, want the step %s", err, tt.step)
			case Temporary(err) != tt.temporary:
				t.Errorf("%v is temporary: %v", err, Temporary(err))
			case strings.Count(err.Error(), "smtp: ") != 1:
				t.Errorf("%v: more than one prefix", err)
			}
		})
	}
	for _, addr := range []string{"", "mail.example"} {
		if failed, ok := asType[*VerifyError](Verify(t.Context(), addr, nil)); !ok || failed.Step != StepOptions {
			t.Errorf("%q: %v", addr, failed)
		}
	}
}

// TestVerify_Certificate has a server whose certificate is for another name.
func TestVerify_Certificate(t *testing.T) {
	for _, mode := range []ext.TLSMode{ext.TLSRequired, ext.TLSImplicit} {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer far.Close()
			r := &lineReader{r: far}
			if mode == ext.TLSRequired {
				far.Write([]byte("220 mail.example\r\n"))
				r.line()
				far.Write([]byte("250-mail.example\r\n250 STARTTLS\r\n"))
				r.line()
				far.Write([]byte("220 go\r\n"))
			}
			tls.Server(far, &tls.Config{Certificates: []tls.Certificate{clienttest.Certificate()}}).Handshake()
		}()
		opt := &Options{TLS: mode, TLSConfig: clienttest.TLSConfig(),
			DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
		failed, ok := asType[*VerifyError](Verify(t.Context(), "other.example:25", opt))
		<-done
		if !ok || failed.Step != StepTLS || Temporary(failed) {
			t.Errorf("mode %d: %v", mode, failed)
		}
	}
}

// TestVerify_Deadline has a server that says nothing: the context bounds the wait.
func TestVerify_Deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begin := time.Now()
		err := Verify(ctx, host, &Options{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }})
		failed, ok := asType[*VerifyError](err)
		if !ok || failed.Step != StepGreeting || !errors.Is(err, context.DeadlineExceeded) || !Temporary(err) ||
			time.Since(begin) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// TestVerify_Trace checks that the caller's Trace is told of everything, and that the options stay as they are.
func TestVerify_Trace(t *testing.T) {
	srv := clienttest.New(t, "TLS\n"+hello()+"C: NOOP\nS: 250 ok\n")
	var told []string
	trace := &Trace{
		Connected: func(context.Context, *Client) { told = append(told, "connected") },
		Secured:   func(context.Context, *Client, tls.ConnectionState) { told = append(told, "secured") },
		Command:   func(_ context.Context, _ *Client, verb, _ string) { told = append(told, verb) },
		Reply:     func(_ context.Context, _ *Client, verb string, _ proto.Reply) { told = append(told, "reply "+verb) },
		Closed:    func(context.Context, *Client, error) { told = append(told, "closed") },
	}
	opt := &Options{TLS: ext.TLSImplicit, DialContext: srv.Dial, TLSConfig: clienttest.TLSConfig(),
		Hostname: "client.example", Trace: trace}
	if err := Verify(t.Context(), host, opt); err != nil {
		t.Fatal(err)
	}
	srv.Wait()
	want := "connected, secured, reply , EHLO, reply EHLO, NOOP, reply NOOP, QUIT, reply QUIT, closed"
	if got := strings.Join(told, ", "); got != want {
		t.Errorf("told: %s\nwant: %s", got, want)
	}
	if opt.Trace != trace {
		t.Error("Verify has changed the options")
	}
}
