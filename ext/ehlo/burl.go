package ehlo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// BURL returns the extension BURL (RFC 4468), by which a client submits a message without uploading it: the server
// fetches the message, or parts of it, from a URL. The message may be a draft in the user's IMAP mailbox, for example.
// BURL and BDAT may be mixed; Data of the session gets one content.
//
// Args are the arguments of the keyword. "imap" stands for URLs that grant access by themselves (RFC 4467).
// "imap://imap.example.com" stands for URLs of a server that trusts this one; only clients that have authenticated see
// it.
//
// A server offers it if the session implements [BURLSession], but not on port 25 (RFC 4468 section 3.1). It refuses
// BURL with 530 before the client has authenticated. It refuses IMAP URLs that args do not cover (RFC 4468 section
// 3.3), and URLs that grant access to another user. It can use the extension only with a [SubmissionPolicy], and with
// 8BITMIME.
//
// On a client, call [SendBURL].
//
// The extension is not in [Default], but in the list of [Submission].
func BURL(args ...string) ext.Extension {
	const states = proto.Rcpt | proto.Chunks
	// Secret: whoever knows a URL with URLAUTH can read the message (RFC 4467 section 8).
	last := &proto.Verb{
		Name: "BURL", In: states, Last: true, OK: proto.Ready, Fail: proto.Ready, PerRcpt: true, Secret: true,
	}
	public := ""
	for _, a := range args {
		if !strings.Contains(a, "://") {
			public = strings.TrimPrefix(public+" "+a, " ")
		}
	}
	all := strings.Join(args, " ")
	return ext.Extension{
		Keyword:    "BURL",
		Interfaces: []reflect.Type{reflect.TypeFor[BURLSession]()},
		Role:       ext.SubmissionOnly,
		Verbs: []proto.Verb{{
			// As with BDAT, a refused part spoils the message, whatever follows it in the group.
			Name: "BURL", In: states, OK: proto.Chunks, Fail: proto.Broken, Secret: true,
			Variant: func(args []byte) *proto.Verb {
				if _, isLast := splitBURL(string(args)); isLast {
					return last
				}
				return nil
			},
		}},
		Requires: []string{"8BITMIME"},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[BURLSession](x.Session())
			if x.Identity() == "" {
				return public, ok
			}
			return all, ok
		},
		Fetch: func(ctx context.Context, x ext.ServerConn, text string) (io.ReadCloser, error) {
			return fetchURL(ctx, x, text, args)
		},
	}
}

// A BURLSession is a session that fetches the content of URLs.
type BURLSession interface {
	// ResolveURL returns the content of an absolute URL, and its size, or -1 if the size is unknown. The content is a
	// message or a part of one, with CRLF line endings. The server reads it to its end before it replies, and then closes
	// it. An error of the reader refuses the message.
	//
	// The URL is untrusted input, checked only as far as [BURL] says. Fetch only content that is public or that the
	// authenticated user may read, and only from servers you trust. Identity of server.Conn is the user.
	//
	// Return [ErrURLFailed], [ErrURLTrust] or [ErrURLDenied] (RFC 4468 section 6), or another *proto.Error. The server
	// logs any other error, and answers 451.
	ResolveURL(ctx context.Context, url string) (r io.ReadCloser, size int64, err error)
}

// The refusals of a [BURLSession] (RFC 4468 section 6).
var (
	ErrURLFailed error = proto.Refuse(554, proto.Status{5, 6, 6}, "URL resolution failed")
	ErrURLTrust  error = proto.Refuse(554, proto.Status{5, 7, 8}, "URL resolution requires trust relationship")
	ErrURLDenied error = proto.Refuse(554, proto.Status{5, 7, 0}, "URL authorization failed")
)

func fetchURL(ctx context.Context, x ext.ServerConn, args string, offered []string) (io.ReadCloser, error) {
	text, _ := splitBURL(args)
	u := parseURL(text)
	if u == nil {
		return nil, grammar.BadArgs("BURL needs an absolute URL")
	}
	r, ok := ext.As[BURLSession](x.Session())
	if !ok {
		return nil, proto.Refuse(502, proto.Status{5, 5, 1}, "URLs are not resolved here")
	}
	if x.Identity() == "" {
		return nil, proto.Refuse(530, proto.Status{5, 7, 0}, "Authentication required")
	}
	if err := u.checkAccess(offered, x.Identity()); err != nil {
		return nil, err
	}
	content, size, err := r.ResolveURL(ctx, text)
	switch {
	case err != nil:
		return nil, err
	case content == nil:
		return nil, errors.New("smtp: the session returned neither the content of a URL nor an error")
	case x.MaxSize() > 0 && size > x.MaxSize():
		_ = content.Close()
		return nil, proto.Refuse(554, proto.Status{5, 3, 4}, "Message too big for system")
	}
	return content, nil
}

// splitBURL parses the arguments of BURL: absolute-URI [SP "LAST"].
func splitBURL(args string) (text string, last bool) {
	before, word, ok := strings.Cut(args, " ")
	if ok && grammar.EqualFold(word, "LAST") {
		return before, true
	}
	return args, false
}

// A messageURL is a URL of a message or of a part of one.
type messageURL struct {
	*url.URL
	access string // the access identifier of URLAUTH (RFC 4467 section 3), such as "submit+alice"; "" without URLAUTH
}

// parseURL parses an absolute URL. It returns nil if text is none.
func parseURL(text string) *messageURL {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() || !grammar.Printable(text) || strings.Contains(text, " ") {
		return nil
	}
	m := &messageURL{URL: u}
	const mark = ";URLAUTH="
	for i := range len(text) - len(mark) + 1 {
		if grammar.EqualFold(text[i:i+len(mark)], mark) {
			// Of two access identifiers some readers heed the first, and some the last.
			if m.access != "" {
				return nil
			}
			m.access, _, _ = strings.Cut(text[i+len(mark):], ":")
			if m.access == "" {
				return nil
			}
		}
	}
	return m
}

// checkAccess returns why the user must not have the URL resolved, or nil (RFC 4468 section 3.3).
func (m *messageURL) checkAccess(offered []string, user string) error {
	prefix, name, ok := strings.Cut(m.access, "+")
	if ok && grammar.EqualFold(prefix, "submit") {
		if who, err := url.PathUnescape(name); err != nil || who != user {
			return ErrURLDenied
		}
	}
	if !grammar.EqualFold(m.Scheme, "imap") {
		return nil
	}
	if !m.isResolved(offered) {
		return ErrURLTrust
	}
	return nil
}

// isResolved reports whether args, those of [BURL] or of the keyword in a server's offer, cover the IMAP URL.
func (m *messageURL) isResolved(args []string) bool {
	for _, a := range args {
		if m.access != "" {
			if grammar.EqualFold(a, "imap") {
				return true
			}
			continue
		}
		trusted, err := url.Parse(a)
		if err == nil && grammar.EqualFold(trusted.Scheme, "imap") && grammar.EqualFold(trusted.Hostname(), m.Hostname()) &&
			port(trusted) == port(m.URL) {
			return true
		}
	}
	return false
}

// port returns the port of an IMAP URL, by default 143 (RFC 5092 section 3).
func port(u *url.URL) string { return cmp.Or(u.Port(), "143") }

// SendBURL sends BURL over c, such as a *client.Client: the server adds the content of an absolute URL to the message
// of the open transaction. Send MAIL and RCPT with Do before. With last the message is complete, and nil means that the
// server has accepted it.
//
// A refusal is a *proto.Error, and the transaction has failed. An [ext.UnsupportedError] means that the URL is an IMAP
// URL with URLAUTH, and that the server states that it resolves others; nothing was sent.
func SendBURL(ctx context.Context, c ext.Client, url string, last bool) error {
	u := parseURL(url)
	if u == nil {
		return fmt.Errorf("smtp: BURL cannot be sent: %q is not an absolute URL in printable ASCII", url)
	}
	// Of other URLs a server need not say that it resolves them.
	offered, _ := c.Caps().Args("BURL")
	if offered != "" && u.access != "" && grammar.EqualFold(u.Scheme, "imap") && !u.isResolved(strings.Fields(offered)) {
		return &ext.UnsupportedError{Keyword: "BURL imap", What: "a URL of IMAP with URLAUTH"}
	}
	args := url
	if last {
		args += " LAST"
	}
	_, err := sendCommand(ctx, c, "BURL", args, nil)
	return err
}
