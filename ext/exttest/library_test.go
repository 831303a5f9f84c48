package exttest_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/exttest"
	"smtpkit.example/smtp/proto"
)

// An able session takes part in all extensions of the library.
type able struct{ quota ehlo.Quota }

func (able) AuthPause(int) time.Duration    { return 0 }
func (able) NotifiesSenders() bool          { return true }
func (able) KeepsTLS() bool                 { return true }
func (able) PriorityPolicy() string         { return "MIXER" }
func (able) HighestPriority() ehlo.Priority { return 9 }
func (able) MinDeliverBy() time.Duration    { return time.Minute }
func (able) HoldsMail() bool                { return true }
func (able) TracksMessages() bool           { return true }
func (able) Converts() bool                 { return true }
func (able) NegotiatesContent() bool        { return true }
func (a *able) Quota() *ehlo.Quota          { return &a.quota }

func (able) Authenticate(_ context.Context, user, password string) error {
	if user != "alice" || password != "secret" {
		return auth.ErrCredentials
	}
	return nil
}

func (able) CheckOwnership(context.Context, proto.Address, time.Time) error { return nil }

func (able) PermitsSubmitter(context.Context, proto.Address) (bool, error) { return true, nil }

func (able) Unwanted(context.Context, proto.Address) ([]string, error) { return nil, nil }

func (able) StartQueue(context.Context, ehlo.Node) (int, error) { return 3, nil }

func (able) RecordOrigin(context.Context, ext.Origin) error { return nil }

func (able) ResolveURL(context.Context, string) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader("Subject: x\r\n\r\nx\r\n")), -1, nil
}

func (able) Reverse(_ context.Context, domains []proto.Domain) (func(context.Context, net.Conn) error, error) {
	if len(domains) > 0 {
		return nil, ehlo.ErrNoMail
	}
	return func(context.Context, net.Conn) error { return nil }, nil
}

func (able) Verify(context.Context, string) (ehlo.Mailbox, error) {
	return ehlo.Mailbox{Name: "Alice", Address: alice}, nil
}

func (able) Expand(_ context.Context, list string) ([]ehlo.Mailbox, error) {
	if list != "staff" {
		return nil, proto.Refuse(550, proto.Status{}, "There is no such list")
	}
	return []ehlo.Mailbox{{Address: alice}, {Address: alice}}, nil
}

func (able) DataEach(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
	_, err := io.Copy(io.Discard, r)
	result(0, proto.Reply{}, err)
	return err
}

var alice = func() proto.Address {
	a, err := proto.ParseAddress("alice@example.org")
	if err != nil {
		panic(err)
	}
	return a
}()

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// opened begins a dialogue in which a message is sent.
const opened = "C: MAIL FROM:<a@b.example>\nS: 250 *\nC: RCPT TO:<c@d.example>\nS: 250 *\n"

// library has the extensions of packages auth and ehlo, each with a sample.
var library = []struct {
	e      ext.Extension
	sample exttest.Sample
}{
	{ehlo.Pipelining(), exttest.Sample{}},
	{ehlo.Size(), exttest.Sample{
		Mail:    []string{"SIZE=10", "SIZE=00000000000000000010"},
		BadMail: []string{"SIZE=-1", "SIZE=000000000000000000010"},
	}},
	{ehlo.EightBitMIME(), exttest.Sample{Mail: []string{"BODY=8BITMIME", "BODY=7BIT"}, BadMail: []string{"BODY=8BIT"}}},
	{ehlo.EnhancedStatusCodes(), exttest.Sample{}},
	{ehlo.StartTLS(), exttest.Sample{Dialogues: []string{"C: STARTTLS now\nS: 501 5.5.4 *\n"}}},
	{auth.Auth(), exttest.Sample{
		Mail: []string{"AUTH=<>", "AUTH=e+3Dmc2@example.com"}, BadMail: []string{"AUTH=alice", "AUTH=a+zz@example.com"},
		Dialogues: []string{"C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 2.7.0 *\nC: AUTH PLAIN\nS: 503 5.5.1 *\n",
			"C: AUTH PLAIN\nS: 334 *\nC: *\nS: 501 5.7.0 *\n", "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 5.7.8 *\n"},
	}},
	{ehlo.SMTPUTF8(), exttest.Sample{Mail: []string{"SMTPUTF8 BODY=8BITMIME"}}},
	{ehlo.Chunking(), exttest.Sample{Dialogues: []string{
		opened + "C: BDAT 3\nC~ \"x\\r\\n\"\nS: 250 *\nC: BDAT 0 LAST\nS: 250 *\n",
		"C: BDAT 3 LAST\nC~ \"x\\r\\n\"\nS: 503 *\n"}}},
	{ehlo.BinaryMIME(), exttest.Sample{Mail: []string{"BODY=BINARYMIME"}}},
	{ehlo.Help(), exttest.Sample{Dialogues: []string{"C: HELP\nS... 214\nC: HELP XYZZY\nS: 504 *\n"}}},
	{ehlo.VRFY(), exttest.Sample{
		Dialogues: []string{"C: VRFY alice\nS: 250 2.1.5 Alice <alice@example.org>\nC: VRFY\nS: 501 *\n"},
	}},
	{ehlo.EXPN(), exttest.Sample{Dialogues: []string{"C: EXPN staff\nS... 250\nC: EXPN nobody\nS: 550 *\n"}}},
	{ehlo.DSN(), exttest.Sample{
		Mail: []string{"RET=HDRS ENVID=QQ314159"}, BadMail: []string{"RET=ALL", "ENVID=a+0A"},
		Rcpt:    []string{"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob@Example.com", "NOTIFY=NEVER"},
		BadRcpt: []string{"NOTIFY=NEVER,SUCCESS", "NOTIFY=", "ORCPT=d@e.example"},
	}},
	{ehlo.RequireTLS(), exttest.Sample{Mail: []string{"REQUIRETLS"}}},
	{ehlo.MTPriority(), exttest.Sample{
		Mail:    []string{"MT-PRIORITY=-9", "MT-PRIORITY=9"},
		BadMail: []string{"MT-PRIORITY=+1", "MT-PRIORITY=10"},
	}},
	{ehlo.DeliverBy(), exttest.Sample{Mail: []string{"BY=60;R", "BY=-99;NT"}, BadMail: []string{"BY=0;R", "BY=60"}}},
	{ehlo.RRVS(), exttest.Sample{
		Rcpt:    []string{"RRVS=2014-04-03T23:01:00Z", "RRVS=2014-04-03T23:01:00+00:00;C"},
		BadRcpt: []string{"RRVS=yesterday"},
	}},
	{ehlo.Limits(), exttest.Sample{Session: func() any { return &able{quota: ehlo.Quota{MailMax: 50, RcptDomainMax: 7}} }}},
	{ehlo.Obsolete(), exttest.Sample{
		Dialogues: []string{"C: TURN\nS: 502 5.5.1 *\nC: SEND FROM:<a@b.example>\nS: 502 5.5.1 *\n"},
	}},
	{ehlo.SubmissionPolicy{Trusted: func(ext.ServerConn) bool { return true }}.Extension(), exttest.Sample{}},
	{ehlo.ConNeg(), exttest.Sample{Rcpt: []string{"CONNEG"}}},
	{ehlo.ConPerm(), exttest.Sample{Mail: []string{"CONPERM"}}},
	{ehlo.ETRN(), exttest.Sample{
		Dialogues: []string{"C: ETRN @example.org\nS: 253 2.0.0 OK, 3 *\nC: ETRN\nS: 500 *\nC: ETRN x\nS: 501 *\n"},
	}},
	{ehlo.FutureRelease(ehlo.HoldLimits{Interval: time.Hour, Until: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}), exttest.Sample{
		Mail:    []string{"HOLDFOR=60", "HOLDUNTIL=2030-01-01T00:00:00Z"},
		BadMail: []string{"HOLDFOR=3601", "HOLDFOR=0", "HOLDUNTIL=2030-01-01"},
	}},
	{ehlo.MTRK(), exttest.Sample{Mail: []string{"MTRK=5en6G6MezRroT3XKqkdPOmY/BfQ ENVID=1@b.example"},
		BadMail: []string{"MTRK=5en6G6MezRroT3XKqkdPOmY/BfQ", "MTRK=x ENVID=1@b.example"}}},
	{ehlo.NoSoliciting("net.example:ADV"), exttest.Sample{
		Mail:    []string{"SOLICIT=org.example:ADV,org.example:XYZ"},
		BadMail: []string{"SOLICIT=,"},
	}},
	{ehlo.Submitter(), exttest.Sample{
		Mail:    []string{"SUBMITTER=alice@example.org"},
		BadMail: []string{"SUBMITTER=alice"},
	}},
	{ehlo.ATRN(), exttest.Sample{Identity: "alice", Dialogues: []string{
		"C: ATRN example.org\nS: 453 *\nC: ATRN [192.0.2.1]\nS: 501 *\n", "C: ATRN\nS: 250 *\nCLOSE\n"}}},
	{ehlo.BURL("imap", "imap://imap.example"), exttest.Sample{Identity: "alice", Dialogues: []string{
		opened + "C: BURL imap://imap.example/1 LAST\nS: 250 *\n"}}},
	{ehlo.PRDR(), exttest.Sample{Mail: []string{"PRDR"}}},
	{ehlo.XCLIENT(loopback), exttest.Sample{Dialogues: []string{
		"C: XCLIENT ADDR=192.0.2.1 NAME=a.example\nS: 220 *\nC: EHLO x.example\nS... 250\n",
		"C: XCLIENT NONSENSE\nS: 501 *\n"}}},
	{ehlo.XFORWARD(loopback), exttest.Sample{
		Dialogues: []string{"C: XFORWARD ADDR=192.0.2.1 NAME=a.example\nS: 250 *\nC: XFORWARD\nS: 501 *\n"},
	}},
}

// TestLibrary tests every extension of the library.
func TestLibrary(t *testing.T) {
	for _, tt := range library {
		t.Run(tt.e.Keyword, func(t *testing.T) {
			if tt.sample.Session == nil {
				tt.sample.Session = func() any { return &able{} }
			}
			exttest.Test(t, tt.e, tt.sample)
		})
	}
}

// TestLibraryComplete compares the list with the table in the documentation of package ehlo.
func TestLibraryComplete(t *testing.T) {
	doc, err := os.ReadFile("../ehlo/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^//\t(\(none\)|[A-Z0-9-]{3,}) {2,}\S`).FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 30 {
		t.Fatalf("%d rows in the table of package ehlo", len(rows))
	}
	seen := make(map[string]bool)
	for _, tt := range library {
		seen[tt.e.Keyword] = true
	}
	for _, row := range rows {
		if keyword := strings.TrimSuffix(row[1], "(none)"); !seen[keyword] {
			t.Errorf("%s is not tested: add it to the list", row[1])
		}
	}
}
