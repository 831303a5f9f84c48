// The certificates of the peer have to be trusted by net/smtp too, which takes no configuration.
//
//go:debug x509usefallbackroots=1

package netsmtp_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/smtp"
	"net/textproto"
	"reflect"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/client/netsmtp"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

func init() { x509.SetFallbackRoots(clienttest.TLSConfig().RootCAs) }

// A mail is what SendMail is called with.
type mail struct {
	auth smtp.Auth
	from string
	to   []string
	text string
}

const content = "From: alice@example.org\r\nTo: bob@example.net\r\nSubject: Hello\r\n\r\nHow are you?\r\n"

var (
	usual   = []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10000000", "AUTH PLAIN CRAM-MD5", "ENHANCEDSTATUSCODES"}
	trusted = clienttest.Certificate()
)

// both sends m by net/smtp and by this library, to a server that behaves as p, and returns what the server was told and
// what the callers were.
func both(t *testing.T, p peer, m mail) (theirs, ours session, theirErr, ourErr error) {
	t.Helper()
	addr, stop := p.start()
	t.Cleanup(stop)
	theirErr = smtp.SendMail(addr, m.auth, m.from, m.to, []byte(m.text))
	theirs = <-p.sessions
	ourErr = netsmtp.SendMail(addr, m.auth, m.from, m.to, []byte(m.text))
	if errors.As(ourErr, new(*client.MessageError)) {
		return theirs, session{}, theirErr, ourErr // there was no connection
	}
	return theirs, <-p.sessions, theirErr, ourErr
}

// refusal is a refusal as net/smtp returns it.
func refusal(err error) string {
	var e *textproto.Error
	if !errors.As(err, &e) {
		return fmt.Sprint("no refusal, failed: ", err != nil)
	}
	return e.Error()
}

// TestSameAsNetSMTP sends well-formed messages by net/smtp and by this library. What arrives is the same, and so is the
// refusal, if there is one.
func TestSameAsNetSMTP(t *testing.T) {
	to := func(a ...string) []string { return a }
	plain := smtp.PlainAuth("", "alice", "secret", "127.0.0.1")
	other, _ := prototest.Certificate(t, "127.0.0.1")
	with := func(offers []string, replies ...string) peer {
		p := peer{offers: offers, replies: make(map[string]string)}
		for i := 0; i < len(replies); i += 2 {
			p.replies[replies[i]] = replies[i+1]
		}
		return p
	}
	secure := func(p peer, c *tls.Certificate) peer {
		p.certificate = c
		return p
	}
	bob := to("bob@example.net")
	three := to("bob@example.net", "carol@example.com", "dave@example.net")
	for _, tt := range []struct {
		name string
		peer peer
		mail mail
	}{
		{"one recipient", with(usual), mail{nil, "alice@example.org", bob, content}},
		{"several recipients", with(usual), mail{nil, "alice@example.org", three, content}},
		{"no extensions", with([]string{}), mail{nil, "alice@example.org", three, content}},
		{"HELO only", with(nil), mail{nil, "alice@example.org", three, content}},
		{"the null reverse-path", with(usual), mail{nil, "", bob, content}},
		{"a quoted local part", with(usual), mail{nil, `"a b"@example.org`, to(`"x@y"@example.net`), content}},
		{"lines that begin with a dot", with(usual), mail{nil, "alice@example.org", bob, "A: b\r\n\r\n.\r\n..\r\n.x\r\n"}},
		{"no end of line at the end", with(usual), mail{nil, "alice@example.org", bob, "A: b\r\n\r\nx"}},
		{"LF alone", with(usual), mail{nil, "alice@example.org", bob, "A: b\n\n.\nx\n"}},
		{"UTF-8 in the text", with(usual), mail{nil, "alice@example.org", bob, "A: b\r\n\r\nGrüße\r\n"}},
		{"UTF-8 in the header", with(usual), mail{nil, "alice@example.org", bob, "Subject: Grüße\r\n\r\nx\r\n"}},
		{"UTF-8 in the header, without SMTPUTF8", with([]string{"8BITMIME"}), mail{nil, "alice@example.org", bob, "Subject: ü\r\n\r\nx\r\n"}},
		{"a long text", with(usual), mail{nil, "alice@example.org", bob, content + strings.Repeat("0123456789\r\n", 50000)}},
		{"TLS if it is offered", secure(with(usual), &trusted), mail{nil, "alice@example.org", bob, content}},
		{"TLS with a certificate that is not trusted", secure(with(usual), &other), mail{nil, "alice@example.org", bob, content}},
		{"TLS refused", secure(with(usual, "STARTTLS", "454 4.7.0 later"), &trusted), mail{nil, "alice@example.org", bob, content}},
		{"PlainAuth with TLS", secure(with(usual), &trusted), mail{plain, "alice@example.org", bob, content}},
		{"PlainAuth to localhost", with(usual), mail{plain, "alice@example.org", bob, content}},
		{"PlainAuth for another host", with(usual), mail{smtp.PlainAuth("", "alice", "secret", "mail.example"), "alice@example.org", bob, content}},
		{"CRAMMD5Auth", with(usual), mail{smtp.CRAMMD5Auth("tim", "tanstaaftanstaaf"), "alice@example.org", bob, content}},
		{"a wrong password", with(usual, "AUTH", "535 5.7.8 no"), mail{plain, "alice@example.org", bob, content}},
		{"AUTH is not offered", with([]string{"SIZE"}), mail{plain, "alice@example.org", bob, content}},
		{"refused in the greeting", with(usual, "", "554 go away"), mail{nil, "alice@example.org", bob, content}},
		{"the sender refused", with(usual, "MAIL", "550 5.7.1 not you"), mail{nil, "alice@example.org", bob, content}},
		{"the only recipient refused", with(usual, "RCPT", "550 5.1.1 who?"), mail{nil, "alice@example.org", bob, content}},
		{"the first of three refused", with(usual, "RCPT TO:<b", "550 5.1.1 who?"), mail{nil, "alice@example.org", three, content}},
		{"the second of three refused", with(usual, "RCPT TO:<c", "550-5.1.1 who?\n550 5.1.1 nobody"), mail{nil, "alice@example.org", three, content}},
		{"the last of three refused for now", with([]string{}, "RCPT TO:<d", "450 later"), mail{nil, "alice@example.org", three, content}},
		{"DATA refused", with([]string{}, "DATA", "451 later"), mail{nil, "alice@example.org", three, content}},
		{"the content refused", with(usual, "content", "554 5.6.0 spam"), mail{nil, "alice@example.org", three, content}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			theirs, ours, theirErr, ourErr := both(t, tt.peer, tt.mail)
			if got, want := refusal(ourErr), refusal(theirErr); got != want {
				t.Errorf("%q (%v), want %q (%v)", got, ourErr, want, theirErr)
			}
			// TestDifferences has these. Who was accepted before another was refused is of no importance.
			for _, s := range []*session{&theirs, &ours} {
				s.Hello, s.Params = "", ""
				if !s.Accepted && s.Content == "" {
					s.From, s.To = "", nil
				}
			}
			if !reflect.DeepEqual(ours, theirs) {
				t.Errorf("the server was told\n%+v, want\n%+v", ours, theirs)
			}
		})
	}
}

// TestDifferences shows what differs from net/smtp. The documentation of the package has the list.
func TestDifferences(t *testing.T) {
	plain := smtp.PlainAuth("", "alice", "secret", "127.0.0.1")
	hello := mail{nil, "alice@example.org", []string{"bob@example.net"}, content}
	for _, tt := range []struct {
		name   string
		peer   peer
		mail   mail
		differ func(theirs, ours session, theirErr, ourErr error) bool
	}{
		{"the name in EHLO is not localhost", peer{offers: usual}, hello,
			func(theirs, ours session, theirErr, ourErr error) bool {
				return theirs.Hello == "localhost" && ours.Hello != "localhost" && strings.ContainsAny(ours.Hello, ".:")
			}},
		{"MAIL has no parameters that the message does not need", peer{offers: []string{"8BITMIME", "SMTPUTF8"}}, hello,
			func(theirs, ours session, theirErr, ourErr error) bool {
				return theirs.Params == "BODY=8BITMIME SMTPUTF8" && ours.Params == ""
			}},
		{"a message with octets above 127 needs 8BITMIME", peer{offers: []string{}},
			mail{nil, "alice@example.org", hello.to, "A: b\r\n\r\nü\r\n"},
			func(theirs, ours session, theirErr, ourErr error) bool {
				return theirs.Accepted && !ours.Accepted && errors.As(ourErr, new(*ext.UnsupportedError))
			}},
		{"a CR alone is sent as CRLF", peer{offers: usual}, mail{nil, "alice@example.org", hello.to, "A: b\r\n\r\nx\ry\r\n"},
			func(theirs, ours session, theirErr, ourErr error) bool {
				return theirs.Content == "A: b\r\n\r\nx\ry\r\n" && ours.Content == "A: b\r\n\r\nx\r\ny\r\n"
			}},
		{"a refused QUIT is no error", peer{offers: usual, replies: map[string]string{"QUIT": "451 no"}}, hello,
			func(theirs, ours session, theirErr, ourErr error) bool {
				return theirs.Accepted && ours.Accepted && theirErr != nil && ourErr == nil
			}},
		{"credentials are not left out for a server without EHLO", peer{}, mail{plain, hello.from, hello.to, content},
			func(theirs, ours session, theirErr, ourErr error) bool {
				return theirs.Accepted && !ours.Accepted && ours.From == "" && ourErr != nil
			}},
		{"a mechanism that is not offered is not tried", peer{offers: []string{"AUTH LOGIN"}}, mail{plain, hello.from, hello.to, content},
			func(theirs, ours session, theirErr, ourErr error) bool {
				return theirs.Auth != "" && ours.Auth == "" && errors.As(ourErr, new(*ext.AuthError))
			}},
		{"there has to be a recipient", peer{offers: usual}, mail{nil, "alice@example.org", nil, content},
			func(theirs, ours session, theirErr, ourErr error) bool {
				return theirs.From != "" && errors.As(ourErr, new(*client.MessageError))
			}},
		{"an address is checked before there is a connection", peer{offers: usual},
			mail{nil, "alice@example.org> SIZE=1", hello.to, content},
			func(theirs, ours session, theirErr, ourErr error) bool {
				return strings.HasPrefix(theirs.Params, "SIZE=1>") && errors.As(ourErr, new(*client.MessageError))
			}},
		{"the error tells the outcome for each recipient", peer{offers: usual, replies: map[string]string{"RCPT TO:<b": "550 no"}},
			mail{nil, "alice@example.org", []string{"bob@example.net", "carol@example.com"}, content},
			func(theirs, ours session, theirErr, ourErr error) bool {
				var failed *client.SendError
				if !errors.As(ourErr, &failed) || len(failed.Result.Recipients) != 2 {
					return false
				}
				bob, carol := failed.Result.Recipients[0], failed.Result.Recipients[1]
				return errors.As(bob.Err, new(*proto.Error)) && carol.Err != nil && !errors.As(carol.Err, new(*proto.Error))
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			theirs, ours, theirErr, ourErr := both(t, tt.peer, tt.mail)
			if !tt.differ(theirs, ours, theirErr, ourErr) {
				t.Errorf("net/smtp: %+v, %v\nsmtpkit: %+v, %v", theirs, theirErr, ours, ourErr)
			}
		})
	}
}

// TestSMTPUTF8 checks when MAIL has the parameter SMTPUTF8 (RFC 6531 section 3.4, RFC 6532): the header tells, and the
// server has to take it.
func TestSMTPUTF8(t *testing.T) {
	for _, tt := range []struct {
		name   string
		offers []string
		text   string
		want   bool
	}{
		{"in the header", usual, "Subject: ü\r\n\r\nx\r\n", true},
		{"in the text", usual, "Subject: x\r\n\r\nü\r\n", false},
		{"in the header, and the server has it not", []string{"8BITMIME"}, "Subject: ü\r\n\r\nx\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, ours, _, err := both(t, peer{offers: tt.offers}, mail{nil, "alice@example.org", []string{"bob@example.net"}, tt.text})
			if has := strings.Contains(ours.Params, "SMTPUTF8"); err != nil || has != tt.want || !ours.Accepted {
				t.Errorf("%+v, %v", ours, err)
			}
		})
	}
}
