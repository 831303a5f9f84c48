package client

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

var errRefused error = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

// ports are what becomes of connections to a host: an error, or a script.
type ports map[string]any

// options returns options by which these ports are reached, and the list of those that were dialled.
func (p ports) options(t testing.TB) (*Options, *[]string) {
	dialled := new([]string)
	servers := make(map[string]*clienttest.Server)
	for addr, what := range p {
		if script, ok := what.(string); ok {
			servers[addr] = clienttest.New(t, script)
		}
	}
	return &Options{
		Hostname: "client.example", TLSConfig: clienttest.TLSConfig(), Credentials: auth.Password("u", "p"),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			*dialled = append(*dialled, addr)
			if srv := servers[addr]; srv != nil {
				return srv.Dial(ctx, network, addr)
			}
			if err, ok := p[addr].(error); ok {
				return nil, err
			}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}, dialled
}

const (
	port465  = "mail.example:465"
	port587  = "mail.example:587"
	welcome  = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
	loggedIn = "S: 250 AUTH PLAIN\nC: AUTH PLAIN AHUAcA==\nS: 235 fine\nC: QUIT\nS: 221 bye"
	implicit = "TLS\n" + welcome
	upgraded = welcome + "S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nTLS\nC: EHLO client.example\nS: 250-mail.example\n"
	goodbye  = "C: QUIT\nS: 221 bye"
)

// TestDialSubmission has all that can be behind the two ports. The scripts fail the test if more is said than is in
// them: no password where it is not protected.
func TestDialSubmission(t *testing.T) {
	noHost := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "mail.example",
		IsNotFound: true}}
	both := port465 + " " + port587
	for _, tt := range []struct {
		name    string
		ports   ports
		dialled string
		mode    ext.TLSMode
		want    error // of this type; nil for success
	}{
		{"U09 465 first", ports{port465: implicit + loggedIn}, port465, 0, nil},
		{"U09 then 587", ports{port465: errRefused, port587: upgraded + loggedIn}, both, 0, nil},
		{"U09 465 is silent", ports{port587: upgraded + loggedIn}, both, 0, nil},
		{"U09 587 without STARTTLS", ports{port465: errRefused, port587: welcome + "S: 250 AUTH PLAIN\n" + goodbye}, both, 0,
			&ext.TLSError{}},
		{"U09 587 refuses STARTTLS", ports{port465: errRefused, port587: welcome + "S: 250 STARTTLS\nC: STARTTLS\n" +
			"S: 454 no\n" + goodbye},
			both, 0, &ext.TLSError{}},
		{"U09 no TLS on 465", ports{port465: "CLOSE"}, port465, 0, &ext.TLSError{}},
		{"U09 the password is wrong on 465", ports{port465: implicit +
			"S: 250 AUTH PLAIN\nC: AUTH PLAIN AHUAcA==\nS: 535 no\n" + goodbye},
			port465, 0, &ext.AuthError{}},
		{"U09 465 does not want us", ports{port465: "TLS\nS: 554 no\n" + goodbye}, port465, 0, &proto.Error{}},
		{"U09 465 breaks off", ports{port465: "TLS\nCLOSE"}, port465, 0, &LostError{}},
		{"U09 neither", ports{port465: errRefused, port587: errRefused}, both, 0, &LostError{}},
		{"U09 no such host", ports{port465: noHost}, port465, 0, &LostError{}},
		{"U09 465 alone", ports{port465: errRefused}, port465, ext.TLSImplicit, &LostError{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt, dialled := tt.ports.options(t)
				opt.TLS = tt.mode
				c, err := DialSubmission(t.Context(), "mail.example", opt)
				if got := strings.Join(*dialled, " "); got != tt.dialled {
					t.Errorf("dialled %s, want %s", got, tt.dialled)
				}
				if err == nil {
					if c.TLS() == nil || !c.Verified() || c.Identity() != "u" {
						t.Errorf("the session has TLS: %v, is verified: %v, and authenticated as %q", c.TLS() != nil, c.Verified(),
							c.Identity())
					}
					c.Close()
				}
				if !sameKind(err, tt.want) {
					t.Errorf("%v, want %T", err, tt.want)
				}
			})
		})
	}
}

// sameKind reports whether err has the type of want in it.
func sameKind(err, want error) bool {
	ok := false
	switch want.(type) {
	case nil:
		ok = err == nil
	case *ext.TLSError:
		_, ok = asType[*ext.TLSError](err)
	case *ext.AuthError:
		_, ok = asType[*ext.AuthError](err)
	case *proto.Error:
		_, ok = asType[*proto.Error](err)
	case *LostError:
		_, ok = asType[*LostError](err)
	}
	return ok
}

// TestU09_Certificate: a server with a certificate for another name gets no password, and there is no second try.
func TestU09_Certificate(t *testing.T) {
	opt, dialled := ports{"other.example:465": "TLS\nCLOSE"}.options(&recorder{TB: t})
	_, err := DialSubmission(t.Context(), "other.example", opt)
	if _, ok := asType[*ext.TLSError](err); !ok || len(*dialled) != 1 {
		t.Errorf("%v after %q, want a TLSError after one", err, *dialled)
	}
}

// TestU09_Errors: both ports are named, a time-out is told as one, and the end of the context ends it all.
func TestU09_Errors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt, _ := ports{port465: errRefused}.options(t)
		start := time.Now()
		_, err := DialSubmission(t.Context(), "mail.example", opt)
		lost, ok := asType[*LostError](err)
		if !ok || !lost.Timeout() || !Temporary(err) || !strings.Contains(err.Error(), ":465") ||
			!strings.Contains(err.Error(), ":587") {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("it took %v", took)
		}

		opt, _ = ports{port465: errRefused, port587: errRefused}.options(t)
		_, err = DialSubmission(t.Context(), "mail.example", opt)
		want := "smtp: connecting to " + port465 + " and " + port587 + ": " + errRefused.Error() + "; " + errRefused.Error()
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		opt, dialled := ports{}.options(t)
		if _, err := DialSubmission(ctx, "mail.example", opt); !errors.Is(err, context.DeadlineExceeded) ||
			len(*dialled) != 1 {
			t.Errorf("%v after %q", err, *dialled)
		}
	})
}

// TestU09_Mistakes are refused before anything is dialled.
func TestU09_Mistakes(t *testing.T) {
	for _, tt := range []struct {
		name, host string
		change     func(*Options)
		want       string
	}{
		{"a port", "mail.example:25", nil, "has a port"},
		{"a port of submission", "[::1]:465", nil, "has a port"},
		{"a socket", "unix:/run/submission", nil, "has a port"},
		{"no host", "", nil, "not the name of a host"},
		{"half a bracket", "mail.example]", nil, "not the name of a host"},
		{"a line", "mail.example\r\nQUIT", nil, `"mail.example\r\nQUIT" is not the name of a host`},
		{"opportunistic", "mail.example", func(o *Options) { o.TLS = ext.TLSOpportunistic }, "over TLS"},
		{"in plaintext", "mail.example", func(o *Options) { o.TLS = ext.TLSInsecureNone }, "over TLS"},
		{"LMTP", "mail.example", func(o *Options) { o.Protocol = proto.LMTP }, "LMTP"},
		{"another option", "mail.example", func(o *Options) { o.Hostname = "a b" }, "Hostname"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opt, dialled := ports{}.options(t)
			if tt.change != nil {
				tt.change(opt)
			}
			_, err := DialSubmission(t.Context(), tt.host, opt)
			if err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), tt.want) ||
				len(*dialled) > 0 {
				t.Errorf("%v after %q, want %q in it", err, *dialled, tt.want)
			}
		})
	}
}

// TestU09_Hosts: names in other scripts are sent in ASCII, and addresses of IPv6 may have brackets.
func TestU09_Hosts(t *testing.T) {
	for host, want := range map[string]string{
		"unix": "unix:465", "münchen.example": "xn--mnchen-3ya.example:465", "::1": "[::1]:465", "[::1]": "[::1]:465",
		"192.0.2.1": "192.0.2.1:465",
	} {
		opt, dialled := ports{want: errRefused, strings.Replace(want, ":465", ":587", 1): errRefused}.options(t)
		if _, err := DialSubmission(t.Context(), host, opt); err == nil || len(*dialled) != 2 || (*dialled)[0] != want {
			t.Errorf("%s: dialled %q, %v", host, *dialled, err)
		}
	}
}
