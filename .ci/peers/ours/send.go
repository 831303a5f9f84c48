package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server/proxyproto"
)

// job is what the command line of send says.
type job struct {
	server, tls, serverName, ca, cert, key string
	maxTLS                                 string
	user, password, token, mechanism       string
	external                               bool
	guest                                  string
	proxy                                  string
	proxyClient                            string
	xclient, xforward                      string
	etrn                                   string
	do                                     string
	from, to, notify, ret, envID           string
	originalTo                             bool
	requireTLS                             bool
	file                                   string
	options                                client.Options
}

// An outcome is what came of it.
type outcome struct {
	Offered    []string      `json:"offered"`
	TLS        string        `json:"tls"`
	Identity   string        `json:"identity"`
	Recipients []rcptOutcome `json:"recipients"`
	Reply      string        `json:"reply"`   // to the content
	Done       string        `json:"done"`    // the reply to the command of -do
	Pending    int           `json:"pending"` // of ETRN
	Dialogue   []string      `json:"dialogue"`
	Error      string        `json:"error"`
	Code       int           `json:"code"` // of the refusal that the error is
}

type rcptOutcome struct {
	Address string `json:"address"`
	Reply   string `json:"reply"`
	OK      bool   `json:"ok"`
}

func parseSend(args []string) (*job, error) {
	j := new(job)
	f := flag.NewFlagSet("send", flag.ContinueOnError)
	f.StringVar(&j.server, "server", "", "`host:port` of the server")
	f.StringVar(&j.tls, "tls", "required", "required, implicit, if-offered, opportunistic or none")
	f.StringVar(&j.serverName, "server-name", "peer.example", "name that the certificate has to be for")
	f.StringVar(&j.ca, "ca", "", "file with the certificate to trust")
	f.StringVar(&j.maxTLS, "max-tls", "1.3", "highest version of TLS, 1.2 or 1.3")
	f.StringVar(&j.cert, "cert", "", "file with a certificate of our own")
	f.StringVar(&j.key, "key", "", "file with its private key")
	f.StringVar(&j.user, "user", "", "name to authenticate with")
	f.StringVar(&j.password, "password", "", "password")
	f.StringVar(&j.token, "token", "", "bearer token, in place of a password")
	f.BoolVar(&j.external, "external", false, "authenticate by the certificate")
	f.StringVar(&j.guest, "guest", "", "authenticate as a guest, to be traced by this")
	f.StringVar(&j.mechanism, "mechanism", "", "the only mechanism to use; empty: the best")
	f.StringVar(&j.proxy, "proxy", "", "send a PROXY header of version v1 or v2, for the client -proxy-client")
	f.StringVar(&j.proxyClient, "proxy-client", "192.0.2.7:4321", "address and port of the client")
	f.StringVar(&j.xclient, "xclient", "", "ext.Origin in JSON, told by XCLIENT")
	f.StringVar(&j.xforward, "xforward", "", "ext.Origin in JSON, told by XFORWARD")
	f.StringVar(&j.etrn, "etrn", "", "domain to send ETRN for")
	f.StringVar(&j.do, "do", "", "a command to send, such as \"VRFY bert\"")
	f.StringVar(&j.from, "from", "anna@client.example", "sender")
	f.StringVar(&j.to, "to", "bert@receive.example", "recipients, separated by commas")
	f.StringVar(&j.ret, "ret", "", "HDRS or FULL")
	f.StringVar(&j.envID, "envid", "", "ENVID")
	f.StringVar(&j.notify, "notify", "", "NOTIFY of every recipient, such as SUCCESS,FAILURE")
	f.BoolVar(&j.originalTo, "orcpt", false, "say ORCPT")
	f.BoolVar(&j.requireTLS, "requiretls", false, "say REQUIRETLS")
	err := f.Parse(args)
	j.file = f.Arg(0)
	return j, err
}

func send(args []string) error {
	j, err := parseSend(args)
	if err != nil {
		return err
	}
	if err := j.prepare(); err != nil {
		return err
	}
	out := &outcome{Pending: ehlo.PendingUnknown}
	j.options.Trace = &client.Trace{
		Command: func(_ context.Context, _ *client.Client, verb, args string) {
			out.Dialogue = append(out.Dialogue, "C: "+strings.TrimSpace(verb+" "+args))
		},
		Reply: func(_ context.Context, _ *client.Client, _ string, r proto.Reply) {
			out.Dialogue = append(out.Dialogue, "S: "+show(r))
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := j.run(ctx, out); err != nil {
		out.Error = err.Error()
		var refused *proto.Error
		if errors.As(err, &refused) {
			out.Code = refused.Code
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

var modes = map[string]ext.TLSMode{
	"required": ext.TLSRequired, "implicit": ext.TLSImplicit, "opportunistic": ext.TLSOpportunistic,
	"if-offered": ext.TLSIfOffered, "none": ext.TLSInsecureNone,
}

// prepare makes the options of the client.
func (j *job) prepare() error {
	o := &j.options
	o.Hostname, o.Extensions = "client.example", withAll(ehlo.XCLIENT(), ehlo.XFORWARD())
	o.TLSConfig = &tls.Config{ServerName: j.serverName}
	if j.maxTLS == "1.2" {
		o.TLSConfig.MaxVersion = tls.VersionTLS12
	}
	var ok bool
	if o.TLS, ok = modes[j.tls]; !ok {
		return fmt.Errorf("-tls cannot be %q", j.tls)
	}
	var err error
	if o.TLSConfig.RootCAs, err = authority(j.ca); err != nil {
		return err
	}
	if j.cert != "" {
		pair, err := tls.LoadX509KeyPair(j.cert, j.key)
		if err != nil {
			return err
		}
		o.TLSConfig.Certificates = []tls.Certificate{pair}
	}
	j.authenticate()
	return j.viaProxy()
}

// authenticate chooses the credentials.
func (j *job) authenticate() {
	var only []string
	if j.mechanism != "" {
		only = []string{j.mechanism}
	}
	o := &j.options
	switch {
	case j.external:
		o.Credentials = auth.External("")
	case j.guest != "":
		o.Credentials = auth.Anonymous(j.guest)
	case j.token != "":
		o.Credentials = auth.Token(j.user, func(context.Context) (string, error) { return j.token, nil }, only...)
	case j.user != "":
		o.Credentials = auth.Password(j.user, j.password, only...)
	}
}

// viaProxy makes the client speak as a proxy for another.
func (j *job) viaProxy() error {
	if j.proxy == "" {
		return nil
	}
	header := map[string]func([]byte, netip.AddrPort, netip.AddrPort) []byte{
		"v1": proxyproto.AppendV1, "v2": proxyproto.AppendV2,
	}[j.proxy]
	from, err := netip.ParseAddrPort(j.proxyClient)
	if header == nil || err != nil {
		return errors.New("-proxy is v1 or v2, and -proxy-client an address and a port")
	}
	to := netip.MustParseAddrPort("192.0.2.25:25")
	j.options.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		_, err = conn.Write(header(nil, from, to))
		return conn, err
	}
	return nil
}

// run does what there is to do over one connection.
func (j *job) run(ctx context.Context, out *outcome) error {
	c, err := client.Dial(ctx, j.server, &j.options)
	if err != nil {
		return err
	}
	defer c.Close()
	if j.xclient != "" {
		var o ext.Origin
		if err := errors.Join(json.Unmarshal([]byte(j.xclient), &o), ehlo.SendXCLIENT(ctx, c, o)); err != nil {
			return err
		}
	}
	out.Offered, out.Identity = c.Caps().Keywords(), c.Identity()
	if s := c.TLS(); s != nil {
		out.TLS = tls.VersionName(s.Version)
	}
	if j.etrn != "" {
		if out.Pending, err = ehlo.SendETRN(ctx, c, ehlo.Node{Name: j.etrn}); err != nil {
			return err
		}
	}
	if j.do != "" {
		verb, args, _ := strings.Cut(j.do, " ")
		r, err := c.Do(ctx, verb, args)
		if err != nil {
			return err
		}
		out.Done = show(r)
	}
	if j.xforward != "" {
		var o ext.Origin
		if err := errors.Join(json.Unmarshal([]byte(j.xforward), &o), ehlo.SendXFORWARD(ctx, c, o)); err != nil {
			return err
		}
	}
	if j.file == "" {
		return nil
	}
	return j.deliver(ctx, c, out)
}

// deliver sends the message with what was asked for in its envelope.
func (j *job) deliver(ctx context.Context, c *client.Client, out *outcome) error {
	m, err := j.message()
	if err != nil {
		return err
	}
	result, err := c.Send(ctx, m)
	if result != nil {
		out.Reply = show(result.Reply)
		for _, r := range result.Recipients {
			out.Recipients = append(out.Recipients, rcptOutcome{r.Address.String(), show(r.Reply), r.Err == nil})
		}
	}
	return err
}

func (j *job) message() (*client.Message, error) {
	content, err := os.ReadFile(j.file)
	if err != nil {
		return nil, err
	}
	m, err := client.NewMessage(j.from, strings.Split(j.to, ","), bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	mail := ehlo.DSNMail{EnvID: j.envID}
	switch j.ret {
	case "HDRS":
		mail.Return = ehlo.ReturnHeaders
	case "FULL":
		mail.Return = ehlo.ReturnFull
	}
	m.Mail = mail.AddTo(m.Mail)
	if j.requireTLS {
		m.Mail = ehlo.AddRequireTLS(m.Mail)
	}
	for i := range m.To {
		to := &m.To[i]
		var rcpt ehlo.DSNRcpt
		if j.notify != "" {
			var ok bool
			if rcpt, ok = ehlo.ReadDSNRcpt(proto.Params{}.Set("NOTIFY", j.notify)); !ok {
				return nil, fmt.Errorf("-notify cannot be %q", j.notify)
			}
		}
		if j.originalTo {
			rcpt.Original = ehlo.NewOriginalRecipient(to.Address)
		}
		to.Params = rcpt.AddTo(to.Params)
	}
	return m, nil
}
