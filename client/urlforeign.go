package client

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// urlAliases are parameters of other libraries that have one of ours.
var urlAliases = map[string]string{
	"name":         "hostname", // nodemailer
	"local_domain": "hostname", // Symfony
	"authMethod":   "auth",     // nodemailer
	"auth_mode":    "auth",     // Swift Mailer
	"requireTLS":   needTLS,    // nodemailer
	"require_tls":  needTLS,    // Symfony
	"verify_peer":  verifyPeer, // Symfony
}

// Parameters of other libraries that ask for what is the default here: true is accepted, and false is not.
const (
	needTLS    = "require_tls"
	verifyPeer = "verify_peer"
)

const (
	hintTLS  = "write tls=required, tls=implicit, tls=opportunistic or tls=none"
	hintSSL  = "write smtps:// where TLS comes first, as on port 465, and smtp:// where it is started later"
	hintCert = "certificates are verified; to trust an authority of your own, set RootCAs in Options.TLSConfig"
	hintConf = "that is a matter of Options.TLSConfig: set it in the Endpoint"
	hintPool = "a URL says nothing of a pool: set its bounds where the program makes it"
	hintDial = "that is a matter of Options.DialContext: set it in the Endpoint"
	hintTime = "write timeout=30s, or timeout.connect=5s and the like"
	hintHost = "write user:password@host:port behind the two slashes"
	hintLog  = "set Options.Trace in the Endpoint"
)

// urlHints tell what to write in place of parameters of other libraries.
var urlHints = map[string]string{
	needTLS: "TLS is required by default: " + hintTLS, verifyPeer: hintCert,

	// nodemailer
	"secure": hintSSL, "ignoreTLS": hintTLS, "opportunisticTLS": hintTLS,
	"tls.rejectUnauthorized": hintCert, "tls.servername": hintConf, "servername": hintConf, "tls.ca": hintConf,
	"tls.minVersion": hintConf, "tls.ciphers": hintConf,
	"pool": hintPool, "maxConnections": hintPool, "maxMessages": hintPool, "rateLimit": hintPool, "rateDelta": hintPool,
	"connectionTimeout": hintTime, "greetingTimeout": hintTime, "socketTimeout": hintTime, "dnsTimeout": hintTime,
	"localAddress": hintDial, "proxy": hintDial, "logger": hintLog, "debug": hintLog,
	"host": hintHost, "port": hintHost, "user": hintHost, "pass": hintHost, "service": hintHost,
	"auth.user": hintHost, "auth.pass": hintHost,

	// Symfony and Swift Mailer
	"auto_tls": hintTLS, "encryption": hintSSL, "verify_peer_name": hintCert, "peer_fingerprint": hintConf,
	"source_ip": hintDial, "max_per_second": hintPool, "restart_threshold": hintPool, "restart_threshold_sleep": hintPool,
	"ping_threshold": hintPool, "username": hintHost, "password": hintHost,

	// Python
	"ssl": hintSSL, "EMAIL_USE_TLS": hintSSL, "EMAIL_USE_SSL": hintSSL, "starttls": hintTLS,
}

// parseQuery returns the parameters of a URL by our names.
func parseQuery(query string) (map[string]string, error) {
	params := map[string]string{}
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := url.PathUnescape(name)
		value, err2 := url.PathUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, errURLPercent
		}
		ours := name
		if alias, ok := urlAliases[name]; ok {
			ours = alias
		}
		switch _, twice := params[ours]; {
		case twice:
			return nil, badURL("%s is there twice, or under two names: write it once", name)
		case ours == needTLS || ours == verifyPeer:
			if yes, err := strconv.ParseBool(value); err != nil || !yes {
				return nil, badURL("%s=%s is not for this library: %s", name, value, urlHints[ours])
			}
		case !slices.ContainsFunc(urlParams, func(p urlParam) bool { return p.name == ours }):
			return nil, unknownParam(name)
		}
		params[ours] = value
	}
	return params, nil
}

// unknownParam returns the error for a parameter that is none of ours.
func unknownParam(name string) error {
	if hint, ok := urlHints[name]; ok {
		return badURL("the parameter %s is not for this library: %s", name, hint)
	}
	var names []string
	for _, p := range urlParams {
		names = append(names, p.name)
	}
	return badURL("there is no parameter %q; there are %s", name, strings.Join(names, ", "))
}
