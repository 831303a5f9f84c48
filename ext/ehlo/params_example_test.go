package ehlo_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// printMail prints the arguments of a MAIL command with the parameters.
func printMail(p proto.Params) {
	args, err := proto.AppendMailArgs(nil, proto.Address{}, p, false)
	fmt.Println(string(args), err)
}

// A sender asks to be told when the message has been delivered.
func ExampleDSN() {
	m, err := client.NewMessage("a@example.org", []string{"b@example.com"}, strings.NewReader("Subject: Hello\r\n\r\nHello\r\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Mail = ehlo.DSNMail{Return: ehlo.ReturnHeaders, EnvID: "order 4711"}.AddTo(m.Mail)
	for i := range m.To {
		dsn := ehlo.DSNRcpt{
			Notify:   ehlo.NotifySuccess | ehlo.NotifyFailure,
			Original: ehlo.NewOriginalRecipient(m.To[i].Address),
		}
		m.To[i].Params = dsn.AddTo(m.To[i].Params)
	}
	printMail(m.Mail)
	fmt.Println(m.To[0].Params)
	// Output:
	// FROM:<> RET=HDRS ENVID=order+204711 <nil>
	// [{NOTIFY SUCCESS,FAILURE true} {ORCPT rfc822;b@example.com true}]
}

// reporter is a session that notifies senders.
type reporter struct{ want ehlo.Notify }

func (r *reporter) NotifiesSenders() bool { return true }

func (r *reporter) Mail(context.Context, proto.Address, proto.Params) error { return nil }

func (r *reporter) Rcpt(_ context.Context, _ proto.Address, p proto.Params) error {
	dsn, _ := ehlo.ReadDSNRcpt(p) // without parameters, the zero value is right
	r.want = dsn.Notify
	return nil
}

func (r *reporter) Data(_ context.Context, body io.Reader) error {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	if r.want.Wants(ehlo.Delivered) {
		fmt.Println("to be reported as delivered")
	}
	return nil
}

var _ server.Session = (*reporter)(nil)

// A session that notifies senders has one method for DSN to be on offer, and asks what is wanted.
func ExampleNotify_Wants() {
	r := &reporter{}
	params := ehlo.DSNRcpt{Notify: ehlo.NotifySuccess}.AddTo(nil)
	fmt.Println(r.Rcpt(context.Background(), proto.Address{}, params), r.Data(context.Background(), strings.NewReader("")))
	// Output:
	// to be reported as delivered
	// <nil> <nil>
}

// The message must not travel but by TLS between servers that are known.
func ExampleRequireTLS() {
	printMail(ehlo.AddRequireTLS(nil))
	// Output: FROM:<> REQUIRETLS <nil>
}

func ExampleMTPriority() {
	printMail(ehlo.Priority(4).AddTo(nil))
	// Output: FROM:<> MT-PRIORITY=4 <nil>
}

// A relay that has kept a message for a while sends what is left of its time.
func ExampleDeliverBy() {
	b := ehlo.By{In: 2 * time.Minute, Return: true}
	left, ok := b.After(45 * time.Second)
	if !ok {
		fmt.Println("too late")
		return
	}
	printMail(left.AddTo(nil))
	// Output: FROM:<> BY=75;R <nil>
}

func ExampleFutureRelease() {
	printMail(ehlo.Hold{Until: time.Date(2030, 1, 1, 8, 0, 0, 0, time.UTC)}.AddTo(nil))
	printMail(ehlo.Hold{For: time.Hour}.AddTo(nil))
	// Output:
	// FROM:<> HOLDUNTIL=2030-01-01T08:00:00Z <nil>
	// FROM:<> HOLDFOR=3600 <nil>
}

// A password is sent only to the person who had the mailbox when she signed up.
func ExampleRRVS() {
	signedUp := time.Date(2014, 4, 3, 23, 1, 0, 0, time.UTC)
	fmt.Println(ehlo.ValidSince{Time: signedUp}.AddTo(nil))
	// Output: [{RRVS 2014-04-03T23:01:00Z true}]
}

// The classes are those of the header field Solicitation.
func ExampleNoSoliciting() {
	printMail(ehlo.Solicitation{"net.example:ADV", "org.example:ADV:ADLT"}.AddTo(nil))
	// Output: FROM:<> SOLICIT=net.example:ADV,org.example:ADV:ADLT <nil>
}

func ExampleReadLimits() {
	caps := proto.ParseCaps(proto.Reply{Code: 250, Text: "mail.example\nLIMITS RCPTMAX=50 MAILMAX=10"})
	if limits, ok := ehlo.ReadLimits(caps); ok {
		fmt.Println(limits.RcptMax, "recipients in a message,", limits.MailMax, "messages over a connection")
	}
	// Output: 50 recipients in a message, 10 messages over a connection
}
