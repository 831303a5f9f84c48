package ehlo_test

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// An able session can do all that extensions ask of sessions, and notes the parameters that it gets.
type able struct {
	keeper
	mail, rcpt []proto.Params
	quota      ehlo.Quota
	highest    ehlo.Priority
}

func (a *able) Mail(_ context.Context, _ proto.Address, p proto.Params) error {
	a.mail = append(a.mail, p)
	return nil
}

func (a *able) Rcpt(_ context.Context, _ proto.Address, p proto.Params) error {
	a.rcpt = append(a.rcpt, p)
	if ehlo.ReadConNeg(p) {
		return ehlo.ContentReply("(image-file-structure=TIFF)").Err()
	}
	return nil
}

func (a *able) NotifiesSenders() bool          { return true }
func (a *able) KeepsTLS() bool                 { return true }
func (a *able) PriorityPolicy() string         { return "MIXER" }
func (a *able) HighestPriority() ehlo.Priority { return a.highest }
func (a *able) MinDeliverBy() time.Duration    { return time.Minute }
func (a *able) HoldsMail() bool                { return true }
func (a *able) TracksMessages() bool           { return true }
func (a *able) Converts() bool                 { return true }
func (a *able) NegotiatesContent() bool        { return true }
func (a *able) Quota() *ehlo.Quota             { return &a.quota }

func (a *able) CheckOwnership(_ context.Context, to proto.Address, _ time.Time) error {
	if to.Local == "sold" {
		return ehlo.ErrOwnerChanged
	}
	return nil
}

func (a *able) Unwanted(_ context.Context, to proto.Address) ([]string, error) {
	return []string{"org.example:" + to.Local}, nil
}

func (a *able) PermitsSubmitter(_ context.Context, who proto.Address) (bool, error) {
	return who.Local == "alice", nil
}

func (a *able) StartQueue(_ context.Context, node ehlo.Node) (int, error) {
	if node.Name == "limit.example" {
		a.quota.MailMax = 7
	}
	return 14, nil
}

// all returns the extensions of parameters that this package has, for a server where anybody may submit.
func all() []ext.Extension {
	anybody := ehlo.SubmissionPolicy{Trusted: func(ext.ServerConn) bool { return true }}
	return append(ehlo.Default(), ehlo.FutureRelease(ehlo.HoldLimits{Interval: time.Hour}), ehlo.NoSoliciting("net.example:ADV"), ehlo.MTRK(),
		ehlo.Submitter(), ehlo.ConPerm(), ehlo.ConNeg(), anybody.Extension())
}

// dialIn returns the extensions of a server that keeps mail for hosts that dial in.
func dialIn() []ext.Extension { return append(ehlo.Default(), ehlo.ETRN()) }

// say sends the lines to a server of all extensions one by one, and returns the last reply. Until the connection ends there
// is one to each.
func say(t *testing.T, s server.Session, lines ...string) string {
	t.Helper()
	return sayTo(t, all(), s, lines...)
}

// sayTo is say to a server with the extensions of list.
func sayTo(t *testing.T, list []ext.Extension, s server.Session, lines ...string) string {
	t.Helper()
	srv := newServer(t, s, &server.Options{Hostname: "mail.example", Extensions: list, MaxRcpts: 3})
	return talk(t, srv, lines...)
}

// talk sends the lines to srv one by one, and returns the last reply.
func talk(t *testing.T, srv *server.Server, lines ...string) string {
	t.Helper()
	_, raw := over(t, srv, nil)
	conn := raw()
	r := bufio.NewReader(conn)
	last := ""
	for i := 0; ; i++ {
		last = ""
		for len(last) < 4 || !strings.Contains(last[strings.LastIndexByte(last[:len(last)-1], '\n')+1:][:4], " ") {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("after %q: %v", lines[:i], err)
			}
			last += line
		}
		if i == len(lines) {
			return last
		}
		if _, err := io.WriteString(conn, lines[i]+"\r\n"); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	Caps  = "EHLO client.example"
	from  = "MAIL FROM:<a@b.example>"
	to    = "RCPT TO:<c@d.example>"
	mtrk  = "MTRK=5en6G6MezRroT3XKqkdPOmY/BfQ"
	since = "RRVS=2014-04-03T23:01:00Z"
)

// TestParamReplies says to a server what a client of ours would not.
func TestParamReplies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"R01 RET", []string{from + " RET=ALL"}, "501 5.5.4 "},
		{"R01 RET twice", []string{from + " RET=FULL RET=FULL"}, "501 5.5.4 "},
		{"R01 ENVID twice", []string{from + " ENVID=1 envid=1"}, "501 5.5.4 "},
		{"R02 NOTIFY", []string{from, to + " NOTIFY=NEVER,SUCCESS"}, "501 5.5.4 "},
		{"R02 NOTIFY twice", []string{from, to + " NOTIFY=NEVER NOTIFY=NEVER"}, "501 5.5.4 "},
		{"R02 ORCPT", []string{from, to + " ORCPT=d@e.example"}, "501 5.5.4 "},
		{"R02 ORCPT twice", []string{from, to + " ORCPT=rfc822;a ORCPT=rfc822;a"}, "501 5.5.4 "},
		{"R02 in the other command", []string{from + " NOTIFY=NEVER"}, "555 5.5.4 "},
		{"R04 ENVID of 100 octets", []string{from + " RET=HDRS ENVID=" + strings.Repeat("x", 100)}, "250 2.1.0 "},
		{"R04 ENVID of 101 octets", []string{from + " ENVID=" + strings.Repeat("x", 101)}, "501 5.5.4 "},
		{"R04 NOTIFY and ORCPT", []string{from, to + " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + strings.Repeat("x", 493)}, "250 2.1.5 "},
		{"R04 ORCPT of 501 octets", []string{from, to + " ORCPT=rfc822;" + strings.Repeat("x", 494)}, "501 5.5.4 "},
		{"R05 ENVID with LF", []string{from + " ENVID=a+0A"}, "501 5.5.4 "},
		{"R12 DSN", []string{"MAIL FROM:<> ENVID=1", to + " NOTIFY=NEVER"}, "250 2.1.5 "},
		{"R17 UTF-8", []string{from + " SMTPUTF8", to + " ORCPT=utf-8;jörg@d.example"}, "250 2.1.5 "},
		{"R17 UTF-8 without leave", []string{from, to + " ORCPT=utf-8;jörg@d.example"}, "553 5.6.7 "},
		{"R17 in ASCII", []string{from, to + ` ORCPT=utf-8;j\x{F6}rg@d.example`}, "250 2.1.5 "},
		{"V02 REQUIRETLS in clear", []string{from + " REQUIRETLS"}, "555 5.5.4 "},
		{"W01 HOLDFOR", []string{from + " HOLDFOR=3601"}, "501 5.5.4 "},
		{"W01 HOLDUNTIL", []string{from + " HOLDUNTIL=9999-12-31T00:00:00Z"}, "501 5.5.4 "},
		{"W01 both", []string{from + " HOLDFOR=1 HOLDUNTIL=2001-01-01T00:00:00Z"}, "501 5.5.4 "},
		{"W01 both, the other way", []string{from + " HOLDUNTIL=2001-01-01T00:00:00Z HOLDFOR=1"}, "501 5.5.4 "},
		{"W01 twice", []string{from + " HOLDFOR=1 HOLDFOR=1"}, "501 5.5.4 "},
		{"W03 later than BY", []string{from + " BY=60;N HOLDFOR=61"}, "501 5.5.4 "},
		{"W05 BY", []string{from + " BY=0;R"}, "501 5.5.4 "},
		{"W06 BY too short", []string{from + " BY=59;R"}, "555 5.5.4 "},
		{"W08 MT-PRIORITY", []string{from + " MT-PRIORITY=+1"}, "501 5.5.2 "},
		{"W08 MT-PRIORITY twice", []string{from + " MT-PRIORITY=1 MT-PRIORITY=1"}, "501 5.5.4 "},
		{"W08 positive", []string{from + " MT-PRIORITY=1"}, "550 5.7.1 "},
		{"W08 negative", []string{from + " MT-PRIORITY=-1"}, "250 2.1.0 "},
		{"W10 RRVS", []string{from, to + " RRVS=2014-04-03T23:01:00.5Z"}, "501 5.5.4 "},
		{"W10 what to do if it is not known", []string{from, to + " " + since + ";C", to + " " + since + ";r"}, "250 2.1.5 "},
		{"W10 something else", []string{from, to + " " + since + ";X"}, "501 5.5.4 "},
		{"W11 owner changed", []string{from, "RCPT TO:<sold@d.example> " + since}, "550 5.7.17 "},
		{"W11 the same owner", []string{from, to + " " + since}, "250 2.1.5 Recipient OK\r\n"},
		{"SOLICIT of the server", []string{from + " SOLICIT=net.example:ADV"}, "550 5.7.1 SOLICIT=net.example:ADV "},
		{"SOLICIT of the recipient", []string{from + " SOLICIT=org.example:c", to}, "550 5.7.1 SOLICIT=org.example:c "},
		{"SOLICIT of another", []string{from + " SOLICIT=org.example:c", "RCPT TO:<e@d.example>"}, "250 2.1.5 "},
		{"MTRK without ENVID", []string{from + " " + mtrk}, "501 5.5.4 "},
		{"MTRK", []string{from + " " + mtrk + ":86400 ENVID=1@b.example"}, "250 2.1.0 "},
		{"SUBMITTER", []string{from + " SUBMITTER=bob@b.example"}, "550 5.7.1 Submitter not allowed.\r\n"},
		{"CONPERM", []string{from + " CONPERM=1"}, "501 5.5.4 "},
		{"CONNEG", []string{from + " CONPERM", to + " CONNEG"}, "250-2.1.5 Recipient OK\r\n250 2.1.5 CONNEG (image-file-structure=TIFF)\r\n"},
		{"E10 RCPTMAX", []string{from, to, to, to, to}, "452 4.5.3 "},
		{"29 SEND", []string{"SEND FROM:<a@b.example>"}, "502 5.5.1 "},
		{"29 SOML", []string{"SOML FROM:<a@b.example>"}, "502 5.5.1 "},
		{"29 SAML in a transaction", []string{from, "SAML FROM:<a@b.example>"}, "502 5.5.1 "},
		{"30 TURN", []string{"TURN"}, "502 5.5.1 "},
		{"30 TURN after RCPT", []string{from, to, "turn"}, "502 5.5.1 "},
		{"31 VERB", []string{"VERB ON"}, "502 5.5.1 "},
		{"31 ONEX", []string{"ONEX"}, "502 5.5.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := say(t, &able{}, append([]string{Caps}, tt.lines...)...); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q: %q, want %q", tt.lines, got, tt.want)
			}
		})
	}
	if got := say(t, &able{}, "TURN"); !strings.HasPrefix(got, "502 ") {
		t.Errorf("TURN before EHLO: %q", got)
	}
}

func TestW12_ETRNReplies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"at once", []string{Caps, "ETRN @example.org"}, "253 2.0.0 OK, 14 pending messages for node @example.org started\r\n"},
		{"before EHLO", []string{"ETRN example.org"}, "503 "},
		{"in a transaction", []string{Caps, from, "ETRN example.org"}, "503 5.5.1 "},
		{"after RCPT", []string{Caps, from, to, "ETRN example.org"}, "503 5.5.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := sayTo(t, dialIn(), &able{}, tt.lines...); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestB04_Offered compares what is offered to a session that can do everything with what is to one that can do nothing, and
// finds that the parameters are known only where they are offered.
func TestB04_Offered(t *testing.T) {
	for _, tt := range []struct {
		session server.Session
		want    string
		code    string
	}{
		{&able{quota: ehlo.Quota{MailMax: 50}}, "DSN|MT-PRIORITY MIXER|DELIVERBY 60|RRVS|LIMITS RCPTMAX=3 MAILMAX=50|FUTURERELEASE 3600 *|" +
			"NO-SOLICITING net.example:ADV|MTRK|SUBMITTER|CONPERM|CONNEG", "250 "},
		{&keeper{}, "LIMITS RCPTMAX=3|NO-SOLICITING net.example:ADV", "555 5.5.4 "},
	} {
		reply := say(t, tt.session, Caps)
		var lines []string
		_, reply, _ = strings.Cut(reply, "VRFY\r\n")
		for line := range strings.Lines(reply) {
			line = strings.TrimRight(line[4:], "\r\n")
			if keyword, args, _ := strings.Cut(line, " "); keyword == "FUTURERELEASE" {
				interval, until, _ := strings.Cut(args, " ")
				if _, err := time.Parse(time.RFC3339, until); err == nil {
					line = keyword + " " + interval + " *"
				}
			}
			lines = append(lines, line)
		}
		if got := strings.Join(lines, "|"); got != tt.want {
			t.Errorf("%T: offered %s, want %s", tt.session, got, tt.want)
		}
		for _, param := range []string{"RET=FULL", "ENVID=1", "MT-PRIORITY=0", "BY=60;R", "HOLDFOR=60", mtrk + " ENVID=1@b", "SUBMITTER=alice@b", "CONPERM"} {
			if got := say(t, tt.session, Caps, from+" "+param); !strings.HasPrefix(got, tt.code) {
				t.Errorf("%T: MAIL with %s: %q, want %s", tt.session, param, got, tt.code)
			}
		}
		for _, param := range []string{"NOTIFY=NEVER", "ORCPT=rfc822;a", since} {
			if got := say(t, tt.session, Caps, from, to+" "+param); !strings.HasPrefix(got, tt.code) {
				t.Errorf("%T: RCPT with %s: %q, want %s", tt.session, param, got, tt.code)
			}
		}
	}
}

// RFC 3461 section 5.1: the reply is the same with and without parameters of DSN that are well-formed.
func TestR03_SameReply(t *testing.T) {
	for _, tt := range [][2]string{
		{from, from + " RET=HDRS ENVID=QQ314159"},
		{"MAIL FROM:<>", "MAIL FROM:<> RET=FULL"},
	} {
		if a, b := say(t, &able{}, Caps, tt[0]), say(t, &able{}, Caps, tt[1]); a != b {
			t.Errorf("%q to %s, %q to %s", a, tt[0], b, tt[1])
		}
	}
	if a, b := say(t, &able{}, Caps, from, to), say(t, &able{}, Caps, from, to+" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob@Example.com"); a != b {
		t.Errorf("%q to %s, %q with parameters", a, to, b)
	}
}

// TestR04_Lines finds that the command lines are as long as RFC 5321 section 4.5.3.1.4 wants them, and not an octet longer: 512
// octets and what each extension in use declares in its RFC.
func TestR04_Lines(t *testing.T) {
	const (
		mail = 26 + 16 + 500 + 10 + 9 + 107 + 11 + 15 + 17 + 34 + 1007 + 40 + 265 + 8 // as all has them
		rcpt = 29 + 507 + 33 + 7
	)
	if 512+rcpt < 1036 {
		t.Error("RFC 3461 section 5.4 demands lines of 1036 octets")
	}
	full := to + " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + strings.Repeat("x", 493) + " " + since + ";C"
	for _, tt := range []struct {
		lines []string
		limit int
		want  string
	}{
		{[]string{Caps, from}, 512 + mail, "250 2.1.0 "},
		{[]string{Caps, from, full}, 512 + rcpt, "250 2.1.5 "},
	} {
		last := len(tt.lines) - 1
		line := tt.lines[last]
		for extra, want := range map[int]string{0: tt.want, 1: "500 5.5."} {
			padded := line + strings.Repeat(" ", tt.limit-len(line)-len("\r\n")+extra)
			if got := say(t, &able{}, append(slices.Clone(tt.lines[:last]), padded)...); !strings.HasPrefix(got, want) {
				t.Errorf("%.20s... with %d octets: %q, want %q", line, len(padded)+2, got, want)
			}
		}
	}
	set, err := ext.NewSet(proto.SMTP, all())
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Table().Lookup("MAIL").Grow; got != mail {
		t.Errorf("MAIL grows by %d octets, want %d", got, mail)
	}
	if got := set.Table().Lookup("RCPT").Grow; got != rcpt {
		t.Errorf("RCPT grows by %d octets, want %d", got, rcpt)
	}
}

// TestLengths compares what each extension declares with its RFC.
func TestLengths(t *testing.T) {
	for _, tt := range []struct {
		e          ext.Extension
		mail, rcpt int
		source     string
	}{
		{ehlo.Size(), 26, 0, "RFC 1870 section 3"},
		{ehlo.SMTPUTF8(), 10, 0, "RFC 6531 section 3.1"},
		{auth.Auth(), 500, 0, "RFC 4954 section 3"},
		{ehlo.DSN(), 9 + 107, 29 + 507, "RFC 3461 section 5.4 with RFC 3885 section 2"},
		{ehlo.RequireTLS(), 11, 0, "RFC 8689 section 2"},
		{ehlo.MTPriority(), 15, 0, "RFC 6710 section 3"},
		{ehlo.FutureRelease(ehlo.HoldLimits{}), 34, 0, "RFC 4865 section 3"},
		{ehlo.DeliverBy(), 17, 0, "RFC 2852 section 2"},
		{ehlo.RRVS(), 0, 33, "RFC 7293 section 3.1"},
		{ehlo.NoSoliciting(), 1007, 0, "RFC 3865 section 4.1"},
		{ehlo.Limits(), 0, 0, "RFC 9422 section 3"},
		{ehlo.Obsolete(), 0, 0, "they cannot be used"},
	} {
		t.Run(tt.e.Keyword, func(t *testing.T) {
			set, err := ext.NewSet(proto.SMTP, append([]ext.Extension{tt.e}, base(tt.e)...))
			if err != nil {
				t.Fatal(err)
			}
			if got := set.Table().Lookup("MAIL").Grow; got != tt.mail+more(tt.e) {
				t.Errorf("MAIL grows by %d octets, %s has %d", got, tt.source, tt.mail)
			}
			if got := set.Table().Lookup("RCPT").Grow; got != tt.rcpt {
				t.Errorf("RCPT grows by %d octets, %s has %d", got, tt.source, tt.rcpt)
			}
		})
	}
}

// base returns what e requires, and more what that adds to MAIL.
func base(e ext.Extension) []ext.Extension {
	if slices.Contains(e.Requires, "8BITMIME") {
		return []ext.Extension{ehlo.EightBitMIME()}
	}
	return nil
}

func more(e ext.Extension) int { return len(base(e)) * 16 }
