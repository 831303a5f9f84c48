package client

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// ParseURL returns the server that a URL names, and the options in it. It is for configuration files and environment
// variables. Whether the server is there is not looked at; see [Endpoint.Verify].
//
//	smtp://alice:secret@mail.example.org              STARTTLS, required, on port 587
//	smtp://mail.example.org:25                        the same on port 25
//	smtps://alice:secret@mail.example.org             TLS from the first octet, on port 465
//	smtp+starttls://mail.example.org                  like smtp://, and says so
//	lmtp://mailbox.example.org                        LMTP with STARTTLS on port 24
//	lmtp+unix:/run/dovecot/lmtp                       LMTP over a unix socket, which needs no TLS; also lmtp:///run/…
//	smtp+unix:/run/smtp                               SMTP over a unix socket
//	smtp://[fe80::1%25eth0]:2525?tls=none             an IPv6 address with a zone, and no TLS
//
// On port 465 TLS comes first, so smtp://mail.example.org:465 is smtps://. Characters with a meaning in URLs are
// percent-encoded in a user name, a password, a path or a value: %2F for a slash, %3F for a question mark, %23 for a
// number sign, %25 for a percent sign. A name of a host in another script may be written as it is.
//
// These are the parameters. A parameter that is unknown, or given twice, is an error.
//
//	tls=required               TLS by STARTTLS, or Dial fails: the default of smtp:// and lmtp://
//	tls=implicit               TLS from the first octet: the default of smtps:// and for port 465
//	tls=opportunistic          TLS if the server offers it, whatever its certificate
//	tls=if-offered             TLS if the server offers it, and then with a certificate that verifies
//	tls=none                   no TLS
//	hostname=app.example.org   Options.Hostname, the name in EHLO
//	auth=SCRAM-SHA-256,PLAIN   the mechanisms for the password that are allowed; default: all of auth.Password
//	timeout=30s                each of Options.Timeouts, in the notation of time.ParseDuration; "none" for no timeout
//	timeout.connect=5s         one of them: connect, greeting, command, mail, rcpt, data, block, content or quit
//	allow-plaintext-auth=true  Options.AllowPlaintextAuth
//	allow-unverified-auth=true Options.AllowUnverifiedAuth
//
// A short timeout is also one for the reply to the content. If that comes late, it is unknown whether the message was
// accepted, and sending it again may deliver it twice (RFC 5321 section 4.5.3.2.6). Leave it long: timeout.content=10m.
//
// A URL with a user and without a password is not an error, since the password may come from elsewhere. It is one when
// the client authenticates, unless Options.Credentials has been set meanwhile.
//
// URLs written for other libraries are taken as follows. Where there is more than one meaning, or one with less
// protection, there is an error that names what to write here.
//
//	nodemailer      requireTLS=true    accepted
//	                name=, authMethod= are hostname= and auth=
//	                secure=, ignoreTLS=, opportunisticTLS=, tls.…, …Timeout=, pool=, others: an error
//	                smtps://host:587   an error: add tls=implicit if TLS does come first there
//	Symfony         require_tls=true, verify_peer=true: accepted
//	                local_domain=      is hostname=
//	                auto_tls=, verify_peer=false, peer_fingerprint=, source_ip=, …threshold=, others: an error
//	                smtp://host        is for port 25 there, and with TLS only if it is offered
//	Swift Mailer    auth_mode=         is auth=
//	                encryption=        an error
//	django-environ  smtp+tls://        is smtp+starttls://
//	                smtp+ssl://        is smtps://
//	                smtps://           is STARTTLS there: write smtp://
//	dj-email-url    submission://      is smtp+starttls://
//	                ssl=, tls=True     an error
//	RFC 8314        submissions://     is smtps://
//
// The errors and what [Endpoint.String] returns do not contain the password. An error names the mistake and what to
// write. White space around the URL is ignored.
func ParseURL(s string) (*Endpoint, error) {
	p, err := splitURL(strings.TrimSpace(s))
	if err != nil {
		return nil, err
	}
	e := &Endpoint{}
	user, password, err := p.user()
	if err != nil {
		return nil, err
	}
	params, err := parseQuery(p.query)
	if err != nil {
		return nil, err
	}
	e.User = user
	e.Options.Protocol = p.scheme.protocol
	for _, row := range urlParams {
		if v, ok := params[row.name]; ok {
			if err := row.set(e, v); err != nil {
				return nil, err
			}
		}
	}
	if err := p.address(e, params); err != nil {
		return nil, err
	}
	if e.User == "" && e.Mechanisms != nil {
		return nil, badURL("auth= is for a user: write user:password@ in front of the host, or leave it out")
	}
	e.Options.Credentials = e.credentials(password)
	if _, err := newConfig(&e.Options); err != nil {
		return nil, err
	}
	return e, nil
}

// address sets the address of the server, and the mode of TLS, which depend on each other.
func (p *urlParts) address(e *Endpoint, params map[string]string) (err error) {
	_, given := params["tls"]
	_, wanted := params[needTLS]
	if p.scheme.unix {
		path, err := url.PathUnescape(p.path)
		switch {
		case err != nil:
			return errURLPercent
		case p.host != "" || len(path) < 2 || path[0] != '/' || strings.ContainsFunc(path, isControl):
			return errURLUnix
		case wanted || given && e.Options.TLS == ext.TLSRequired:
			return badURL("a unix socket needs no TLS: leave tls=required out")
		}
		e.Addr = "unix:" + path
		return nil
	}
	if p.path != "" && p.path != "/" {
		return errURLPath
	}
	host, port, err := p.hostPort()
	if err != nil {
		return err
	}
	mode := p.scheme.tls
	smtp := p.scheme.protocol == proto.SMTP
	first := port == submissionsPort // where TLS comes first
	later := port == submissionPort || port == relayPort
	switch {
	case given && p.scheme.fixed && e.Options.TLS != mode:
		return badURL("%s:// and tls=%s contradict each other: write smtp://", p.scheme.name, params["tls"])
	case given:
		mode = e.Options.TLS
	case smtp && first && !p.scheme.fixed:
		mode = ext.TLSImplicit
	case smtp && first && mode == ext.TLSRequired:
		return badURL("on port 465 TLS comes first: write smtps://, or add tls=required if it is started later there")
	case smtp && later && mode == ext.TLSImplicit:
		return badURL("on port %s TLS is started later: write smtp://, or add tls=implicit if TLS comes first",
			port)
	}
	if wanted && mode != ext.TLSRequired && mode != ext.TLSImplicit {
		return badURL("tls=%s contradicts the parameter by which TLS is required", params["tls"])
	}
	e.Options.TLS = mode
	if port == "" {
		port = defaultPort(p.scheme.protocol, mode)
	}
	e.Addr = net.JoinHostPort(host, port)
	return nil
}

const (
	relayPort = "25"
	lmtpPort  = "24" // as Dovecot and Cyrus have it; RFC 2033 section 5 only forbids 25
)

func defaultPort(p proto.Protocol, mode ext.TLSMode) string {
	switch {
	case p == proto.LMTP:
		return lmtpPort
	case mode == ext.TLSImplicit:
		return submissionsPort
	}
	return submissionPort
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// urlModes are the values of the parameter tls.
var urlModes = []struct {
	name string
	mode ext.TLSMode
}{
	{"required", ext.TLSRequired},
	{"implicit", ext.TLSImplicit},
	{"opportunistic", ext.TLSOpportunistic},
	{"if-offered", ext.TLSIfOffered},
	{"none", ext.TLSInsecureNone},
}

// A urlParam is a parameter of a URL. Get returns "" if the parameter need not be there.
type urlParam struct {
	name string
	set  func(e *Endpoint, value string) error
	get  func(e *Endpoint) string
}

// urlParams are the parameters, in the order in which they are set and printed.
var urlParams = slices.Concat([]urlParam{
	{"tls", setTLS, getTLS},
	{"hostname", setHostname, func(e *Endpoint) string { return e.Options.Hostname }},
	{"auth", setMechanisms, func(e *Endpoint) string { return strings.Join(e.Mechanisms, ",") }},
	{"timeout", setTimeout, getTimeout},
}, timeoutParams(), []urlParam{
	permission("allow-plaintext-auth", func(o *Options) *bool { return &o.AllowPlaintextAuth }),
	permission("allow-unverified-auth", func(o *Options) *bool { return &o.AllowUnverifiedAuth }),
})

func setTLS(e *Endpoint, value string) error {
	var names []string
	for _, m := range urlModes {
		if m.name == value {
			e.Options.TLS = m.mode
			return nil
		}
		names = append(names, m.name)
	}
	return badURL("tls=%s is none of the modes: write one of %s", value, strings.Join(names, ", "))
}

// getTLS returns the mode, unless the rest of the URL says it.
func getTLS(e *Endpoint) string {
	mode := e.Options.TLS
	_, port, _ := net.SplitHostPort(e.Addr)
	smtp := e.Options.Protocol == proto.SMTP && !strings.HasPrefix(e.Addr, "unix:")
	switch {
	case mode == ext.TLSRequired && !(smtp && port == submissionsPort),
		mode == ext.TLSImplicit && smtp && port != submissionPort && port != relayPort:
		return ""
	}
	for _, m := range urlModes {
		if m.mode == mode {
			return m.name
		}
	}
	return ""
}

func setHostname(e *Endpoint, value string) error {
	if _, err := proto.ParseDomain(value); err != nil {
		return badURL("hostname=%s has to be a domain name or an address literal: %s", value, cause(err))
	}
	e.Options.Hostname = value
	return nil
}

// urlMechanisms are those of auth.Password.
var urlMechanisms = []string{
	"SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN",
}

func setMechanisms(e *Endpoint, value string) error {
	for _, name := range strings.Split(strings.ToUpper(value), ",") {
		switch {
		case name == "OAUTHBEARER" || name == "XOAUTH2":
			return badURL("a token for %s expires: set Options.Credentials to auth.Token", name)
		case name == "EXTERNAL" || name == "ANONYMOUS":
			return badURL("%s has no password: set Options.Credentials, see package auth", name)
		case !slices.Contains(urlMechanisms, name):
			return badURL("auth=%s is none of the mechanisms for a password: write some of %s, with commas", value,
				strings.Join(urlMechanisms, ", "))
		}
		e.Mechanisms = append(e.Mechanisms, name)
	}
	return nil
}

// permission returns a parameter for a permission, which is false by default.
func permission(name string, field func(*Options) *bool) urlParam {
	return urlParam{name, func(e *Endpoint, value string) (err error) {
		if *field(&e.Options), err = strconv.ParseBool(value); err != nil {
			return badURL("%s=%s: write true or false", name, value)
		}
		return nil
	}, func(e *Endpoint) string {
		if *field(&e.Options) {
			return "true"
		}
		return ""
	}}
}

// urlTimeouts are the timeouts, by the names in parameters.
var urlTimeouts = []struct {
	name  string
	field func(*Timeouts) *time.Duration
}{
	{"connect", func(t *Timeouts) *time.Duration { return &t.Connect }},
	{"greeting", func(t *Timeouts) *time.Duration { return &t.Greeting }},
	{"command", func(t *Timeouts) *time.Duration { return &t.Command }},
	{"mail", func(t *Timeouts) *time.Duration { return &t.Mail }},
	{"rcpt", func(t *Timeouts) *time.Duration { return &t.Rcpt }},
	{"data", func(t *Timeouts) *time.Duration { return &t.Data }},
	{"block", func(t *Timeouts) *time.Duration { return &t.Block }},
	{"content", func(t *Timeouts) *time.Duration { return &t.Content }},
	{"quit", func(t *Timeouts) *time.Duration { return &t.Quit }},
}

func timeoutParams() (list []urlParam) {
	for _, row := range urlTimeouts {
		name := "timeout." + row.name
		list = append(list, urlParam{name, func(e *Endpoint, value string) (err error) {
			*row.field(&e.Options.Timeouts), err = parseTimeout(name, value)
			return err
		}, func(e *Endpoint) string {
			if d := *row.field(&e.Options.Timeouts); d != 0 && d != commonTimeout(e) {
				return formatTimeout(d)
			}
			return ""
		}})
	}
	return list
}

func setTimeout(e *Endpoint, value string) error {
	d, err := parseTimeout("timeout", value)
	e.Options.Timeouts = AllTimeouts(d)
	return err
}

func getTimeout(e *Endpoint) string {
	if d := commonTimeout(e); d != 0 {
		return formatTimeout(d)
	}
	return ""
}

// commonTimeout returns the timeout that most have, if none has its default, and 0 otherwise.
func commonTimeout(e *Endpoint) (common time.Duration) {
	count := map[time.Duration]int{}
	for _, row := range urlTimeouts {
		d := *row.field(&e.Options.Timeouts)
		if count[d]++; d == 0 {
			return 0
		}
		if count[d] > count[common] {
			common = d
		}
	}
	return common
}

func parseTimeout(name, value string) (time.Duration, error) {
	if value == "none" {
		return -1, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, badURL("%s=%s has to be a duration with its unit, such as 30s or 2m, or none", name, value)
	}
	return d, nil
}

func formatTimeout(d time.Duration) string {
	if d < 0 {
		return "none"
	}
	return d.String()
}
