package main

import (
	"fmt"
	"io"
	netsmtp "net/smtp"
	"runtime"
	"slices"
	"strings"
	"time"

	kitsmtp "smtpkit.example/smtp/client/netsmtp"
)

// sendMails are the functions that send a message over a connection of its own. The second is compared with the first.
var sendMails = []contestant{
	{"smtpkit", "netsmtp.SendMail", "SendMail"},
	{"net/smtp", "smtp.SendMail", "SendMail"},
}

// sendMailFunc calls one of them for each message.
func (r *role) sendMailFunc(send func(string, netsmtp.Auth, string, []string, []byte) error) (func(int) error, error) {
	to, text := r.recipients(), r.load().text()
	return r.callers(func() error { return send(r.Addr, nil, mailFrom, to, text) }), nil
}

func (r *role) kitSendMail() (func(int) error, error) { return r.sendMailFunc(kitsmtp.SendMail) }
func (r *role) netSendMail() (func(int) error, error) { return r.sendMailFunc(netsmtp.SendMail) }

// printSendMail writes the table of SendMail: by one caller, over the loopback interface and over the line.
func (p poolPlan) printSendMail(w io.Writer) error {
	near, far := p, p
	near.conns, far.conns = 1, 1
	near.rounds, near.time, near.messages = 3*p.rounds, p.time/3, min(p.messages, 2000) // so that ports do not run out
	r := role{Is: "pool", Size: 1 << 10, Rcpts: 1, Conns: 1, Callers: 1}
	type measured struct{ near, far []score }
	var offers []measured
	for _, r.NoChunking = range []bool{false, true} {
		var m measured
		var err error
		r.Delay = 0
		if m.near, err = near.measure(r, sendMails); err != nil {
			return err
		}
		r.Delay = p.delay
		if m.far, err = far.measure(r, sendMails); err != nil {
			return err
		}
		offers = append(offers, m)
	}
	fmt.Fprint(w, "\n| A connection for each message | CHUNKING: smtpkit | net/smtp, 1.0 = smtpkit "+
		"| PIPELINING alone: smtpkit | net/smtp, 1.0 = smtpkit |\n|---|--:|--:|--:|--:|\n")
	row := func(title string, times func(measured) (kit, other []time.Duration)) {
		cells := []string{title}
		for _, m := range offers {
			kit, other := times(m)
			cells = append(cells, short(median(slices.Clone(kit))), multiple(other, kit))
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	if runtime.GOOS == "linux" {
		row("loopback, processor time", func(m measured) (kit, other []time.Duration) { return m.near[0].cpu, m.near[1].cpu })
	}
	row("loopback, time", func(m measured) (kit, other []time.Duration) { return m.near[0].wall, m.near[1].wall })
	row(fmt.Sprintf("a round trip of %v, time", p.delay),
		func(m measured) (kit, other []time.Duration) { return m.far[0].wall, m.far[1].wall })
	return nil
}
