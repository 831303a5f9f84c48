package exttest

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// library returns the extensions of packages auth and ehlo, with arguments by which a server can advertise them.
func library() []ext.Extension {
	return append(ehlo.Default(), ehlo.ATRN(), ehlo.BURL("imap"), ehlo.ConNeg(), ehlo.ConPerm(), ehlo.ETRN(),
		ehlo.FutureRelease(ehlo.HoldLimits{}), ehlo.MTRK(), ehlo.NoSoliciting(), ehlo.PRDR(), ehlo.Submitter(),
		ehlo.XCLIENT(), ehlo.XFORWARD())
}

// replaces reports whether a list can have only one of a and b: they have the same keyword, or both only refuse the
// same verbs.
func replaces(a, b *ext.Extension) bool {
	if a.Keyword != "" || b.Keyword != "" {
		return a.Keyword == b.Keyword
	}
	return slices.ContainsFunc(a.Verbs, func(v proto.Verb) bool {
		return slices.ContainsFunc(b.Verbs, func(w proto.Verb) bool { return v.Name == w.Name })
	})
}

// without returns list without the extension that e replaces.
func without(list []ext.Extension, e *ext.Extension) []ext.Extension {
	return slices.DeleteFunc(slices.Clone(list), func(other ext.Extension) bool { return replaces(e, &other) })
}

func has(list []ext.Extension, keyword string) bool {
	return slices.ContainsFunc(list, func(e ext.Extension) bool { return e.Keyword == keyword })
}

// required returns the extensions that e requires, and those that they require, if with or the library has them and
// list does not.
func required(e *ext.Extension, with, list []ext.Extension) []ext.Extension {
	var found []ext.Extension
	need := slices.Clone(e.Requires)
	for len(need) > 0 {
		keyword := need[0]
		need = need[1:]
		if has(list, keyword) || has(found, keyword) || keyword == e.Keyword {
			continue
		}
		for _, other := range append(slices.Clone(with), library()...) {
			if other.Keyword == keyword {
				found = append(found, other)
				need = append(need, other.Requires...)
				break
			}
		}
	}
	return found
}

// beside returns the list of extensions beside which e is tested. Those that e requires come first.
func (s *suite) beside(sample *Sample) []ext.Extension {
	list := without(ehlo.Default(), &s.e)
	for i := range sample.With {
		list = append(without(list, &sample.With[i]), sample.With[i])
	}
	list = append(required(&s.e, sample.With, list), list...)
	if s.e.Role == ext.SubmissionOnly {
		list = append([]ext.Extension{trusting.Extension()}, list...)
	}
	if sample.Identity != "" {
		list = append([]ext.Extension{login(sample.Identity)}, list...)
	}
	return list
}

// trusting makes a server a submission server at which clients need not authenticate.
var trusting = ehlo.SubmissionPolicy{Trusted: func(ext.ServerConn) bool { return true }}

// protocols returns the protocols in which a server can use the extension.
func (s *suite) protocols() []proto.Protocol {
	if s.e.Role == ext.SubmissionOnly || s.e.Role == ext.MakesSubmission {
		return []proto.Protocol{proto.SMTP} // RFC 6409 section 3.1
	}
	return []proto.Protocol{proto.SMTP, proto.LMTP}
}

// lacking returns list without the extensions that require the one of that keyword, directly or not.
func lacking(list []ext.Extension, keyword string) []ext.Extension {
	gone := []string{keyword}
	for before := 0; before != len(gone); {
		before = len(gone)
		list = slices.DeleteFunc(slices.Clone(list), func(e ext.Extension) bool {
			builds := slices.ContainsFunc(e.Requires, func(k string) bool { return slices.Contains(gone, k) })
			if builds {
				gone = append(gone, e.Keyword)
			}
			return builds
		})
	}
	return list
}

// A setting is where something is tried: sessions of one sample, in one protocol, with TLS or in plaintext.
type setting struct {
	sample   *Sample
	taking   bool // the sessions take part in the extension
	protocol proto.Protocol
	tls      bool
	list     []ext.Extension // with the extension
	others   []ext.Extension // without it and those that require it
	offered  bool            // the extension is advertised
	refusing *setting        // one in which the extension is not advertised, or nil
	offering []*setting      // all in which it is
	srv      *server.Server
	delays   *delays
}

func (s *suite) setting(sample *Sample, taking bool, p proto.Protocol, secure bool) *setting {
	beside := s.beside(sample)
	return &setting{sample: sample, taking: taking, protocol: p, tls: secure,
		list: append(slices.Clone(beside), s.spied), others: lacking(beside, s.e.Keyword), delays: &s.delays}
}

// String describes the setting for errors.
func (st *setting) String() string {
	text := "in " + st.protocol.String()
	if st.tls {
		text += " with TLS"
	}
	if !st.taking {
		text += ", with a session that takes no part"
	}
	return text
}

// server returns a server with the extensions in list. Its sessions write to rec, which may be nil.
func (st *setting) server(list []ext.Extension, rec *record) (*server.Server, error) {
	backend := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		session := &minimalSession{rec: rec}
		if st.taking && st.sample.Session != nil {
			session.part = st.sample.Session()
		}
		return session, nil
	})
	return server.New(backend, &server.Options{
		Hostname: clienttest.Hostname, Protocol: st.protocol, Extensions: list, TLSConfig: serverTLS(),
		Limits: server.Limits{Errors: -1, RefusedRcpts: -1, Junk: -1}, Logger: slog.New(slog.DiscardHandler),
	})
}

// hello returns the command by which a client introduces itself.
func (st *setting) hello() string {
	if st.protocol == proto.LMTP {
		return "LHLO client.example"
	}
	return "EHLO client.example"
}

// enter connects to the server of the setting and introduces the client. It returns the reply to EHLO.
func (st *setting) enter() (*peer, answer) { return st.enterTo(st.srv) }

func (st *setting) enterTo(srv *server.Server) (*peer, answer) {
	t := st.dial(srv)
	a := t.command(st.hello())
	if st.sample.Identity != "" {
		t.command("XEXTTEST")
		a = t.command(st.hello())
	}
	return t, a
}

// run sends commands to srv on a new connection and returns the last reply.
func (st *setting) run(srv *server.Server, lines ...string) answer {
	t, a := st.enterTo(srv)
	defer t.close()
	for _, line := range lines {
		a = t.command(line)
	}
	return a
}

const (
	from = "MAIL FROM:<a@b.example>"
	to   = "RCPT TO:<c@d.example>"
)

// with returns a command with parameters.
func with(command, params string) string { return strings.TrimRight(command+" "+params, " ") }
