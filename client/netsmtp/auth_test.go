package netsmtp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/smtp"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/client/netsmtp"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

func TestMain(m *testing.M) { prototest.Main(m) }

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

var errOfAuth = errors.New("the token has expired")

// loginAuth is the LOGIN that programs on net/smtp have.
type loginAuth struct{ user, password string }

func (a *loginAuth) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", []byte{}, nil }

func (a *loginAuth) Next(fromServer []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	switch string(fromServer) {
	case "Username:":
		return []byte(a.user), nil
	case "Password:":
		return []byte(a.password), nil
	}
	return nil, fmt.Errorf("unknown challenge %q", fromServer)
}

// funcAuth is an Auth made of functions.
type funcAuth struct {
	start func(*smtp.ServerInfo) (string, []byte, error)
	next  func([]byte, bool) ([]byte, error)
}

func (a funcAuth) Start(s *smtp.ServerInfo) (string, []byte, error) { return a.start(s) }

func (a funcAuth) Next(fromServer []byte, more bool) ([]byte, error) { return a.next(fromServer, more) }

// xoauth2 is an Auth that cannot explain what the server challenges it with.
func xoauth2() smtp.Auth {
	return funcAuth{
		start: func(*smtp.ServerInfo) (string, []byte, error) {
			return "XOAUTH2", []byte("user=alice\x01auth=Bearer vF9d\x01\x01"), nil
		},
		next: func(fromServer []byte, more bool) ([]byte, error) {
			if more {
				return nil, fmt.Errorf("%w: %s", errOfAuth, fromServer)
			}
			return nil, nil
		},
	}
}

// suspicious is an Auth that does not believe the server's success.
func suspicious(heard *[]byte) smtp.Auth {
	return funcAuth{
		start: func(*smtp.ServerInfo) (string, []byte, error) { return "X", nil, nil },
		next: func(fromServer []byte, more bool) ([]byte, error) {
			if more {
				return []byte("proof"), nil
			}
			*heard = fromServer
			return nil, errOfAuth
		},
	}
}

// hello is how a session over TLS begins with a server that offers mechanisms.
func hello(mechanisms string) string {
	return "TLS\nS: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\nS: 250-ENHANCEDSTATUSCODES\nS: 250 AUTH " + mechanisms + "\n"
}

func overTLS(srv *clienttest.Server, a smtp.Auth) *client.Options {
	return &client.Options{
		Hostname: "client.example", TLS: ext.TLSImplicit, TLSConfig: clienttest.TLSConfig(), DialContext: srv.Dial,
		Credentials: netsmtp.Credentials(a),
	}
}

// TestCredentials plays each Auth against a script.
func TestCredentials(t *testing.T) {
	// The example of RFC 2195 section 2.
	const (
		challenge = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
		response  = "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
	)
	login := "C: AUTH LOGIN\nS: 334 " + b64("Username:") + "\nC: " + b64("alice") + "\nS: 334 " + b64("Password:") + "\nC: " +
		b64("secret") + "\n"
	plain := "C: AUTH PLAIN " + b64("\x00alice\x00secret") + "\n"
	var heard []byte
	for _, tt := range []struct {
		name    string
		auth    smtp.Auth
		script  string
		wantErr string // a part of the error, "" if there is none
		is      error  // what the error wraps
	}{
		{"PlainAuth", smtp.PlainAuth("", "alice", "secret", "mail.example"), hello("PLAIN LOGIN") + plain + "S: 235 ok\n", "", nil},
		{"PlainAuth, refused", smtp.PlainAuth("", "alice", "secret", "mail.example"),
			hello("PLAIN") + plain + "S: 535 5.7.8 no\n", "smtp: AUTH PLAIN: 535 5.7.8 no", nil},
		{"PlainAuth for another host", smtp.PlainAuth("", "alice", "secret", "mail.example.org"), hello("PLAIN"),
			`smtp: AUTH: wrong host name (asked for the server "mail.example", with verified TLS: true)`, nil},
		{"CRAMMD5Auth", smtp.CRAMMD5Auth("tim", "tanstaaftanstaaf"),
			hello("CRAM-MD5") + "C: AUTH CRAM-MD5\nS: 334 " + challenge + "\nC: " + response + "\nS: 235 ok\n", "", nil},
		{"LOGIN of one's own", &loginAuth{"alice", "secret"}, hello("LOGIN") + login + "S: 235 ok\n", "", nil},
		{"a challenge that LOGIN does not know", &loginAuth{"alice", "secret"},
			hello("LOGIN") + "C: AUTH LOGIN\nS: 334 " + b64("Who?") + "\nC: *\nS: 501 ok\n", `smtp: AUTH LOGIN: unknown challenge "Who?"`, nil},
		{"XOAUTH2 of one's own", xoauth2(),
			hello("XOAUTH2") + "C: AUTH XOAUTH2 " + b64("user=alice\x01auth=Bearer vF9d\x01\x01") + "\nS: 235 ok\n", "", nil},
		{"XOAUTH2, refused", xoauth2(),
			hello("XOAUTH2") + "C: AUTH XOAUTH2 *\nS: 334 " + b64(`{"status":"400"}`) + "\nC: *\nS: 501 ok\n", `{"status":"400"}`, errOfAuth},
		{"a success that the Auth refuses", suspicious(&heard),
			hello("X") + "C: AUTH X\nS: 334 " + b64("go") + "\nC: " + b64("proof") + "\nS: 235-2.7.0 one\nS: 235 2.7.0 two\n", "", errOfAuth},
		{"an error for a mechanism that is not offered", funcAuth{start: func(*smtp.ServerInfo) (string, []byte, error) {
			return "X", nil, errOfAuth
		}}, hello("PLAIN"), "smtp: AUTH: the token has expired (asked for", errOfAuth},
		{"a mechanism that is not offered", &loginAuth{"alice", "secret"}, hello("PLAIN"), "[PLAIN], and the credentials are for [LOGIN]", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(t, tt.script)
			c, err := client.Dial(t.Context(), "mail.example:465", overTLS(srv, tt.auth))
			if err == nil {
				c.Close()
			}
			if tt.wantErr == "" && tt.is == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) || tt.is != nil && !errors.Is(err, tt.is) ||
				!errors.As(err, new(*ext.AuthError)) {
				t.Errorf("%v", err)
			}
		})
	}
	if string(heard) != "2.7.0 one\n2.7.0 two" { // as net/textproto has it
		t.Errorf("with the success the Auth was told %q", heard)
	}
}

// TestServerInfo compares what an Auth is told with what the connection is.
func TestServerInfo(t *testing.T) {
	inTLS := hello("PLAIN x-own")
	inClear := strings.TrimPrefix(inTLS, "TLS\n")
	trusted := clienttest.TLSConfig()
	renamed := trusted.Clone()
	renamed.ServerName = "127.0.0.1"
	blind := &tls.Config{RootCAs: x509.NewCertPool(), InsecureSkipVerify: true}
	for _, tt := range []struct {
		name   string
		host   string
		script string
		config *tls.Config
		change func(*client.Options)
		want   string // "" if the Auth must not be asked
	}{
		{"verified", "mail.example", inTLS, trusted, nil, "mail.example true [PLAIN x-own]"},
		{"a host with a dot at its end", "mail.example.", inTLS, trusted, nil, "mail.example true [PLAIN x-own]"},
		{"the certificate is for another name", "mail.example", inTLS, renamed, nil, "127.0.0.1 true [PLAIN x-own]"},
		{"not verified", "mail.example", inTLS, blind, nil, ""},
		{"not verified, by permission", "mail.example", inTLS, blind, permit, "mail.example false [PLAIN x-own]"},
		{"in plaintext", "mail.example", inClear, nil, inPlaintext, ""},
		{"in plaintext to localhost", "localhost", inClear, nil, inPlaintext, ""},
		{"in plaintext, by permission", "mail.example", inClear, nil, func(o *client.Options) { permit(o); inPlaintext(o) },
			"mail.example false [PLAIN x-own]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(t, tt.script)
			var told *smtp.ServerInfo
			opt := overTLS(srv, funcAuth{start: func(s *smtp.ServerInfo) (string, []byte, error) {
				told = s
				return "", nil, errOfAuth
			}})
			opt.TLSConfig = tt.config
			if tt.change != nil {
				tt.change(opt)
			}
			_, err := client.Dial(t.Context(), tt.host+":465", opt)
			got := ""
			if told != nil {
				got = fmt.Sprint(told.Name, " ", told.TLS, " ", told.Auth)
			}
			if got != tt.want || errors.Is(err, errOfAuth) != (tt.want != "") {
				t.Errorf("the Auth was told %q, want %q; %v", got, tt.want, err)
			}
		})
	}
}

func permit(o *client.Options) { o.AllowPlaintextAuth, o.AllowUnverifiedAuth = true, true }

func inPlaintext(o *client.Options) { o.TLS = ext.TLSInsecureNone }

// TestNoCredentials takes an Auth that is nil for no authentication, as net/smtp does.
func TestNoCredentials(t *testing.T) {
	if netsmtp.Credentials(nil) != nil {
		t.Error("credentials from nothing")
	}
}

// TestReExports compares what the functions of the package make with what those of net/smtp make.
func TestReExports(t *testing.T) {
	info := &netsmtp.ServerInfo{Name: "mail.example", TLS: true}
	for _, pair := range [][2]netsmtp.Auth{
		{netsmtp.PlainAuth("i", "u", "p", "mail.example"), smtp.PlainAuth("i", "u", "p", "mail.example")},
		{netsmtp.CRAMMD5Auth("u", "s"), smtp.CRAMMD5Auth("u", "s")},
	} {
		var said [2]string
		for i, a := range pair {
			name, first, err := a.Start(info)
			next, _ := a.Next([]byte("challenge"), true)
			said[i] = fmt.Sprintf("%s %q %q %v", name, first, next, err)
		}
		if said[0] != said[1] {
			t.Errorf("%s, want %s", said[0], said[1])
		}
	}
}

// A user's LOGIN for net/smtp, with a client that keeps its connection.
func ExampleCredentials() {
	ctx := context.Background()
	var login smtp.Auth = &loginAuth{"alice", "secret"}
	opt := &client.Options{Credentials: netsmtp.Credentials(login)}
	c, err := client.Dial(ctx, "mail.example.org:587", opt)
	var refused *proto.Error
	if errors.As(err, &refused) && refused.Code == 535 {
		fmt.Println("wrong password:", refused.Text)
	}
	if err != nil {
		return
	}
	defer c.Close()
}
