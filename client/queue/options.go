package queue

import (
	"context"
	"log/slog"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// Options are the settings of a Queue. Nil stands for the defaults, but Hostname is needed for reports.
//
// A function that panics ends nothing; the stack is in the log. If it is Route, Add refuses the message with 451 4.3.0.
// If it is PolicyFor, the site is treated by Policy, and if it is Site, the domain is a site of its own.
type Options struct {
	// Hostname is the name of this host in reports. It is required.
	Hostname string

	// Route names the route of a recipient: a key of Routes. By default, and where it returns "", the message goes to the
	// domain of the recipient by the Sender of the Queue. It is called once for each recipient, in Add.
	Route func(m *Message, to proto.Address) string
	// Routes are further ways to deliver. All mail of a route waits in one line, whatever its domain. If the Sender of a
	// route is nil, its mail waits until somebody fetches it: see Queue.Fetch.
	Routes map[string]client.Sender

	// Site returns the site of a domain: a name that domains with the same servers share. Limits hold for a site. The
	// default is the method of the Sender, if it has one as mx.Deliverer does; otherwise each domain is a site. The
	// site of a route is "=" and its name. It is called by several goroutines.
	Site func(ctx context.Context, domain proto.Domain) (string, error)

	// Policy is how a site is treated, and PolicyFor what is different for one of them. It gets Policy with all defaults,
	// and is called when a message is added, and when the site is used after a pause. It must not call the Queue.
	Policy    Policy
	PolicyFor func(site string, p Policy) Policy

	// Limits bound what the queue takes.
	Limits Limits

	// MaxRecipients is how many recipients one job has at most, which is one transaction. The default is 100.
	MaxRecipients int
	// MaxActive is the number of attempts at once, to all sites together. The default is 100. A site has at most four
	// times as many of them as are left: four fifths, or less if others have many too.
	MaxActive int

	// Report are the options of reports. Hostname and Date are set by the queue.
	Report report.Options

	// Trace is told what happens, and Logger gets what an operator has to know. The default Logger is slog.Default.
	Trace  *Trace
	Logger *slog.Logger
}

// A Policy says when, how often and how fast the queue tries to deliver to a site.
type Policy struct {
	// Retry are the pauses between attempts; the last one repeats. Each is made up to a tenth longer or shorter by chance.
	// The default is 5m, 15m, 30m, 1h, 2h, 4h (RFC 5321 section 4.5.4.1 wants two attempts in the first hour).
	Retry []time.Duration
	// Expire is how long the queue tries. The default is 5 days, the longest that RFC 5321 section 4.5.4.1 names.
	Expire time.Duration
	// DelayReport is when the sender is told of a delay, once. The default is 4h; a negative value means never.
	DelayReport time.Duration
	// Window is how many attempts are made at once, at the beginning, and MaxWindow at most. While the site takes mail,
	// the window grows by one for each window full of messages; it shrinks likewise while connections fail. After as
	// many failures in a row as the window has room for, the site is suspended for a pause of Retry, half an hour at most.
	// The defaults are 5 and 20.
	Window, MaxWindow int
	// Rate is the number of attempts in a second. Zero means no limit.
	Rate float64
}

// Limits bound what a queue takes. A message that would exceed one of them is refused by Add with 452 4.3.1, which is
// temporary. Messages that are being added count. Reports do not count while they are added: they are never refused.
type Limits struct {
	// Messages and Octets are what is queued at most. Zero means no limit.
	Messages, Octets int64
	// Share is the part of Messages, and of Octets, that messages of one Tag may take, such as 0.25. Zero means all.
	Share float64
	// FreeDisk is how many octets the disk must have left, if the Store can tell. The default is 64 MiB; negative: none.
	FreeDisk int64
	// Lag is how long writing a message of at most 256 KiB may take. While one takes longer, others are refused. The
	// default is 5 s; negative: no limit.
	Lag time.Duration
}

// An Envelope is a message to be added, without its content.
type Envelope struct {
	// ID is the ID to use, from NewID. If it is "", Add makes one.
	ID ID
	// From is the reverse-path, Params the parameters of MAIL, and To the recipients with the parameters of RCPT, all as
	// they came from a client or are wanted. The extensions DSN, DELIVERBY, FUTURERELEASE, MT-PRIORITY and REQUIRETLS have
	// their parameters here.
	From   proto.Address
	Params proto.Params
	To     []proto.Recipient
	// Needs is what the content needs beyond what its octets tell: see client.Message. BODY=BINARYMIME and SMTPUTF8 in
	// Params are added to it.
	Needs ext.Feature
	// ReceivedFrom is the client, for reports. It may be zero.
	ReceivedFrom report.MTA
	// Tag names who has to share the queue with others: a user, a tenant, or a network. See Limits.Share.
	Tag string
}

// A Trace has functions that are told what happens to mail. Each may be nil. They are called by several goroutines, and
// what they do delays the queue.
type Trace struct {
	// Added: the queue has taken the message m, with its jobs. It is durable.
	Added func(m *Message, jobs []*Job)
	// Attempted: an attempt has been made for the recipients of j, as it was before. Each has its outcome in result.
	Attempted func(m *Message, j *Job, result *client.Result, took time.Duration)
	// Deferred: recipients of j are left after an attempt, and Last of each says why. The next attempt is made at j.Due,
	// unless an operator changes that.
	Deferred func(m *Message, j *Job)
	// Done: the recipient r has a final outcome: it is delivered if f is nil, and otherwise has failed or expired.
	Done func(m *Message, r Recipient, f *Failure)
	// Reported: a report on m was added to the queue, as message id.
	Reported func(m *Message, r *report.Report, id ID)
	// Suspended: no attempts are made at a site until a time, because it does not answer or an operator has said so.
	// Resumed: they are made again.
	Suspended func(s Suspension)
	Resumed   func(site string)
	// Failed: the store has failed. While it does, the queue takes no mail and makes no attempts.
	Failed func(err error)
}
