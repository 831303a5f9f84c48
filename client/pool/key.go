package pool

import (
	"crypto/tls"
	"reflect"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A key says which messages may share a connection: those to the same server, under the same options.
type key struct {
	addr string

	// What is the same for two Options that have nothing else.

	hostname string
	protocol proto.Protocol
	tls      ext.TLSMode
	config   *tls.Config

	options *client.Options // the Options, if they have something else: functions cannot be compared
}

func newKey(addr string, opt *client.Options) key {
	k := key{addr: addr}
	if opt == nil {
		return k
	}
	rest := *opt
	rest.Hostname, rest.Protocol, rest.TLS, rest.TLSConfig = "", 0, 0, nil
	if !reflect.ValueOf(rest).IsZero() {
		k.options = opt
		return k
	}
	k.hostname, k.protocol, k.tls, k.config = opt.Hostname, opt.Protocol, opt.TLS, opt.TLSConfig
	return k
}
