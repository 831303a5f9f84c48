package ehlo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// BURL returns the extension BURL (RFC 4468), by which a client that submits a message has the server fetch it, or
// parts of it, such as one that lies in the user's IMAP mailbox already. BURL and BDAT may be mixed; the session's
// Data gets one content.
//
// A server offers it if the session is a [BURLSession], and refuses it with 530 as long as the client has not
// authenticated. Args are those of the keyword: "imap" for URLs that grant access by themselves (RFC 4467), and such as
// "imap://imap.example.com" for servers that trust this one, which are told only to clients that have authenticated. URLs
// of IMAP that args say nothing of are refused (RFC 4468 section 3.3), and so are those that grant access to the submission
// server on behalf of a user who is not the one that has authenticated.
//
// It is among the extensions of [Submission] alone, and a server without a [SubmissionPolicy] cannot use it; nor is it on
// offer on port 25 (RFC 4468 section 3.1). It requires 8BITMIME. A client calls [SendBURL].
func BURL(args ...string) ext.Extension {
	const states = proto.Rcpt | proto.Chunks
	// A URL may have in it what lets whoever knows it read the message (RFC 4467 section 8).
	last := &proto.Verb{Name: "BURL", In: states, Last: true, OK: proto.Ready, Fail: proto.Ready, PerRcpt: true, Secret: true}
	public := ""
	for _, a := range args {
		if !strings.Contains(a, "://") {
			public = strings.TrimPrefix(public+" "+a, " ")
		}
	}
	all := strings.Join(args, " ")
	return ext.Extension{
		Keyword: "BURL",
		Role:    ext.SubmissionOnly,
		Verbs: []proto.Verb{{
			// As with BDAT, a part that is refused spoils the message, whatever follows it in the group.
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

// A BURLSession is a session that can get at the content of URLs.
type BURLSession interface {
	// ResolveURL returns the content that the URL, an absolute one, refers to, and its size, -1 if that is not known.
	// The content is a message or a part of one, with CRLF at the end of its lines. It is read to its end before the
	// client is answered, and then closed; an error of the reader refuses the message.
	//
	// A URL comes from a stranger, and has been looked at only so far as [BURL] says: nothing but what is meant to be public, or what the user has access to, may be
	// fetched for it, from servers that are trusted. ServerConn.Identity is the user. The errors of RFC 4468 section 6 are
	// [ErrURLFailed], [ErrURLTrust] and [ErrURLDenied]; any other, unless it is a *proto.Error, is logged, and the client
	// is told with 451 to try again.
	ResolveURL(ctx context.Context, url string) (r io.ReadCloser, size int64, err error)
}

// The refusals of a [BURLSession].
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

// splitBURL takes the arguments of BURL apart: absolute-URI [SP "LAST"].
func splitBURL(args string) (text string, last bool) {
	before, word, ok := strings.Cut(args, " ")
	if ok && grammar.EqualFold(word, "LAST") {
		return before, true
	}
	return args, false
}

// A messageURL is where content is to be fetched.
type messageURL struct {
	*url.URL
	access string // who may use it, "submit+" and a user for example; "" if it does not grant access by itself
}

// parseURL returns nil if text is not an absolute URL.
func parseURL(text string) *messageURL {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() || !grammar.Printable(text) || strings.Contains(text, " ") {
		return nil
	}
	m := &messageURL{URL: u}
	const mark = ";URLAUTH="
	for i := range len(text) - len(mark) + 1 {
		if grammar.EqualFold(text[i:i+len(mark)], mark) {
			// With two of them, it is the last that counts for some and the first for others.
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

// permit says why the URL must not be resolved for the user, if so (RFC 4468 section 3.3).
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

// offered reports whether the arguments of the keyword, or those given to [BURL], say that such URLs of IMAP are resolved.
func (m *messageURL) isResolved(args []string) bool {
	for _, a := range args {
		if m.access != "" {
			if grammar.EqualFold(a, "imap") {
				return true
			}
			continue
		}
		trusted, err := url.Parse(a)
		if err == nil && grammar.EqualFold(trusted.Scheme, "imap") && grammar.EqualFold(trusted.Hostname(), m.Hostname()) && port(trusted) == port(m.URL) {
			return true
		}
	}
	return false
}

// port returns the port of a URL of IMAP (RFC 5092 section 3).
func port(u *url.URL) string { return cmp.Or(u.Port(), "143") }

// SendBURL has the server at the other end of c, such as a *client.Client, add the content of an absolute URL to the
// message of the open transaction, whose MAIL and RCPT commands have been sent by Do. With last the message is complete,
// and nil means that the server has accepted it. A refusal is a *proto.Error; the transaction has then failed. A URL of
// IMAP that grants access by itself, where the server says what it resolves and that is something else, is a UnsupportedError.
func SendBURL(ctx context.Context, c ext.Client, url string, last bool) error {
	u := parseURL(url)
	if u == nil {
		return fmt.Errorf("smtp: BURL cannot be sent: %q is not an absolute URL in printable ASCII", url)
	}
	// What other URLs it resolves a server tells after the client has authenticated, if at all.
	if offered, _ := c.Caps().Args("BURL"); offered != "" && u.access != "" && grammar.EqualFold(u.Scheme, "imap") && !u.isResolved(strings.Fields(offered)) {
		return &ext.UnsupportedError{Keyword: "BURL imap", What: "a URL of IMAP with URLAUTH"}
	}
	args := url
	if last {
		args += " LAST"
	}
	_, err := sendCommand(ctx, c, "BURL", args, nil)
	return err
}
