package client

import (
	"context"
	"crypto/tls"
	"log/slog"
	"regexp"

	"smtpkit.example/smtp/proto"
)

// LogOptions are the options of [LogTrace]. The zero value is ready to use, and nil stands for it.
type LogOptions struct {
	// Addresses says that the log may have the addresses of senders and recipients. Otherwise "***" stands for them.
	Addresses bool
}

// LogTrace returns a Trace that logs to l, with the context of the event. If opt is nil, the defaults are used.
//
//	level   message           attributes
//	Info    smtp: connected
//	Info    smtp: TLS         version, cipher, verified
//	Debug   smtp: command     verb, args
//	Debug   smtp: reply       verb, code, status, text
//	Warn    smtp: refusal     verb, code, status, text: a reply of 4yz or 5yz
//	Info    smtp: content     octets, code, status, text: the reply to content that was sent to its end
//	Info    smtp: closed      the client ended the connection
//	Warn    smtp: closed      err: something else did
//
// Each has conn, the number of the connection among those that the Trace has seen, and remote, the server's address.
//
// Secrets and content are not logged, as with any [Trace]. By default addresses are not either: hidden are the
// arguments of MAIL, RCPT and the commands of extensions, and whatever has the form of an address in the text of a
// reply or an error. Shown are the mechanism of AUTH and the lengths of chunks. A server may write of a mailbox in
// another form, such as its local part alone.
func LogTrace(l *slog.Logger, opt *LogOptions) *Trace {
	t := &logger{l: l}
	if opt != nil {
		t.opt = *opt
	}
	return &Trace{
		Connected: func(ctx context.Context, c *Client) { t.log(ctx, slog.LevelInfo, c, "smtp: connected") },
		Secured: func(ctx context.Context, c *Client, state tls.ConnectionState) {
			t.log(ctx, slog.LevelInfo, c, "smtp: TLS", slog.String("version", tls.VersionName(state.Version)),
				slog.String("cipher", tls.CipherSuiteName(state.CipherSuite)), slog.Bool("verified", c.Verified()))
		},
		Command: t.command,
		Reply:   t.reply,
		Content: func(ctx context.Context, c *Client, octets int64, r proto.Reply) {
			if l.Enabled(ctx, slog.LevelInfo) {
				t.log(ctx, slog.LevelInfo, c, "smtp: content", append([]slog.Attr{slog.Int64("octets", octets)}, t.attrs(r)...)...)
			}
		},
		Closed: func(ctx context.Context, c *Client, err error) {
			if err == nil {
				t.log(ctx, slog.LevelInfo, c, "smtp: closed")
			} else {
				t.log(ctx, slog.LevelWarn, c, "smtp: closed", slog.String("err", t.hide(err.Error())))
			}
			t.conns.forget(c)
		},
	}
}

// A logger logs what happens on the connections of several clients.
type logger struct {
	l     *slog.Logger
	opt   LogOptions
	conns numbers
}

func (t *logger) log(ctx context.Context, level slog.Level, c *Client, msg string, attrs ...slog.Attr) {
	conn := t.conns.of(c) // also if it is not logged: numbers are those of connections
	if t.l.Enabled(ctx, level) {
		who := []slog.Attr{slog.Int("conn", conn), slog.String("remote", addrText(c))}
		t.l.LogAttrs(ctx, level, msg, append(who, attrs...)...)
	}
}

func (t *logger) command(ctx context.Context, c *Client, verb, args string) {
	if !t.l.Enabled(ctx, slog.LevelDebug) {
		return
	}
	if args != "" && !t.opt.Addresses && c.cfg.mayNameUsers(verb) {
		args = redacted
	}
	t.log(ctx, slog.LevelDebug, c, "smtp: command", slog.String("verb", verb), slog.String("args", args))
}

// mayNameUsers reports whether the arguments of the command can have addresses or other names of users in them. Those
// of RFC 5321 that name a host do not, nor do lengths, nor what the trace has redacted already.
func (cfg *config) mayNameUsers(verb string) bool {
	v := cfg.set.Table().Lookup(verb)
	if v == nil || v == cfg.verbs.mail || v == cfg.verbs.rcpt {
		return true
	}
	owner, _ := cfg.set.Owner(v)
	return owner != nil && v.Payload == nil && v.More != proto.Exchange
}

func (t *logger) reply(ctx context.Context, c *Client, verb string, r proto.Reply) {
	level, msg := slog.LevelDebug, "smtp: reply"
	if r.Code >= 400 {
		level, msg = slog.LevelWarn, "smtp: refusal"
	}
	if t.l.Enabled(ctx, level) {
		t.log(ctx, level, c, msg, append([]slog.Attr{slog.String("verb", verb)}, t.attrs(r)...)...)
	}
}

func (t *logger) attrs(r proto.Reply) []slog.Attr {
	return []slog.Attr{
		slog.Int("code", r.Code), slog.String("status", r.Status.String()), slog.String("text", t.hide(r.Text)),
	}
}

// hide replaces addresses in text, unless they may be logged.
func (t *logger) hide(text string) string {
	if t.opt.Addresses {
		return text
	}
	return address.ReplaceAllString(text, redacted)
}

// address matches what has the form of an address: in angle brackets, with a local part in quotes, or as a word.
var address = regexp.MustCompile(`<[^<>]*@[^<>]*>|"(?:[^"\\]|\\.)*"@\S*|[^\s<>]*@[^\s<>]*`)
