package ehlo_test

import (
	"errors"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// foreign are keywords of other servers, with the commands and the parameters of MAIL that their clients would send.
var foreign = []struct {
	name, offer    string // the line in the reply to EHLO
	command, param string
}{
	{"a26 CHECKPOINT", "CHECKPOINT", "", "TRANSID=<1@b.example>"},
	{"a28 UTF8SMTP", "UTF8SMTP", "", "ALT-ADDRESS=a@b.example"},
	{"PIPECONNECT", "PIPECONNECT", "", ""},
	{"X_PIPE_CONNECT", "X_PIPE_CONNECT", "", ""},
	{"WELLKNOWN", "WELLKNOWN", "WELLKNOWN smtp", ""},
	{"XVERP", "XVERP", "", "XVERP"},
	{"X-EXPS", "X-EXPS GSSAPI NTLM LOGIN", "X-EXPS LOGIN", ""},
	{"X-EXPS=LOGIN", "X-EXPS=LOGIN", "X-EXPS LOGIN", ""},
	{"X-ANONYMOUSTLS", "X-ANONYMOUSTLS", "X-ANONYMOUSTLS", ""},
	{"X-LINK2STATE", "X-LINK2STATE", "X-LINK2STATE LAST CHUNK={x}", ""},
	{"XSHADOW", "XSHADOW", "XSHADOW x", "XSHADOW=x"},
	{"XSHADOWREQUEST", "XSHADOWREQUEST", "XQDISCARD 1", ""},
	{"XRDST", "XRDST", "", "XRDST=x"},
	{"XEXCH50", "XEXCH50", "XEXCH50 8 2", ""},
	{"CLIENTID", "CLIENTID", "CLIENTID UUID 1", ""},
}

// TestForeign checks that our client ignores unknown keywords, and that our server rejects the commands and parameters
// that belong to them.
func TestForeign(t *testing.T) {
	for _, tt := range foreign {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(t, "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\nS: 250-"+tt.offer+`
S: 250 SIZE
C: MAIL FROM:<a@b.example> SIZE=3
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: x
C: .
S: 250 ok`)
			c, err := client.Dial(t.Context(), clienttest.Hostname+":25",
				&client.Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, Extensions: all(), DialContext: srv.Dial})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			send(t, c, "x\r\n")
			if tt.command != "" {
				verb, args, _ := strings.Cut(tt.command, " ")
				if _, err := c.Do(t.Context(), verb, args); err == nil || errors.Is(err, client.ErrClosed) {
					t.Errorf("%q: %v, want it not to be sent", tt.command, err)
				}
				if got := say(t, &able{}, Caps, tt.command); !strings.HasPrefix(got, "500 5.5.1 ") {
					t.Errorf("%s: the server says %q", tt.command, got)
				}
			}
			if tt.param == "" {
				return
			}
			m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			key, value, hasValue := strings.Cut(tt.param, "=")
			m.Mail = proto.Params{{Key: key, Value: value, HasValue: hasValue}}
			_, err = c.Send(t.Context(), m)
			if _, ok := grammar.AsType[*ext.UnsupportedError](err); !ok {
				t.Errorf("MAIL with %s: %v, want an UnsupportedError", tt.param, err)
			}
			if got := say(t, &able{}, Caps, from+" "+tt.param); !strings.HasPrefix(got, "555 5.5.4 ") {
				t.Errorf("MAIL with %s: the server says %q", tt.param, got)
			}
		})
	}
}
