package queuehttp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// A Queue is what a handler needs of a queue: a [*queue.Queue] has it.
type Queue interface {
	List(ctx context.Context, f queue.Filter, after queue.JobID, max int) ([]queue.Listed, queue.JobID, error)
	Shape(ctx context.Context) ([]queue.Shape, error)
	Sites() []queue.SiteState
	Usage(ctx context.Context) (queue.Usage, error)
	Open(ctx context.Context, id queue.ID) (queue.Content, error)
	Hold(ctx context.Context, f queue.Filter, why string) (int, error)
	Release(ctx context.Context, f queue.Filter) (int, error)
	Retry(ctx context.Context, f queue.Filter) (int, error)
	Reroute(ctx context.Context, f queue.Filter, route string, domain proto.Domain) (int, error)
	Expire(ctx context.Context, f queue.Filter) (int, error)
	Drop(ctx context.Context, f queue.Filter) (int, error)
	Suspend(ctx context.Context, site string, until time.Time, why string) error
}

// Options are the settings of a handler. Nil stands for the defaults.
type Options struct {
	// Hosts are further names and addresses in URLs of the handler, without ports, such as "queue.example.org". A request
	// for another host is refused, unless that is localhost or a loopback address.
	Hosts []string
	// Authorize decides whether a request is answered. If it returns an error the answer is 401, which asks a browser for
	// name and password: r.BasicAuth has them in the next request. The error is in the log. If Authorize is nil, requests
	// are answered that come from a loopback address or by a Unix socket. With Authorize, use TLS.
	Authorize func(r *http.Request) error
	// Logger gets each change that is made, with who asked for it, and what was refused. The default is slog.Default.
	Logger *slog.Logger
}

// New returns a handler for a queue. It can be mounted below a path, which has to end in "/", with http.StripPrefix:
//
//	mux.Handle("/queue/", http.StripPrefix("/queue", queuehttp.New(q, nil)))
//
// It answers requests from this machine only: see [Options].Authorize. It refuses what pages of other origins send: a
// Host that is not its own (DNS rebinding), and a request for a change with another Origin, or with a Sec-Fetch-Site
// that says so. A request with neither comes from no browser. Bodies have at most 1 MiB. Answers may not be stored,
// framed or interpreted as something else, and nothing in mail becomes HTML.
func New(q Queue, opt *Options) http.Handler {
	h := &handler{queue: q, origin: http.NewCrossOriginProtection()}
	if opt != nil {
		h.opt = *opt
		h.opt.Hosts = slices.Clone(opt.Hosts)
	}
	if h.opt.Logger == nil {
		h.opt.Logger = slog.Default()
	}
	h.mux.HandleFunc("GET /{$}", h.page)
	h.mux.HandleFunc("POST /{$}", h.form)
	h.mux.HandleFunc("GET /style.css", h.style)
	h.mux.HandleFunc("GET /api/jobs", h.jobs)
	h.mux.HandleFunc("GET /api/shape", h.shape)
	h.mux.HandleFunc("GET /api/sites", h.sites)
	h.mux.HandleFunc("GET /api/usage", h.usage)
	h.mux.HandleFunc("GET /api/messages/{id}", h.message)
	h.mux.HandleFunc("GET /api/messages/{id}/content", h.content)
	h.mux.HandleFunc("POST /api/{op}", h.change)
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "there is no "+r.Method+" of this path: see the documentation of package queuehttp")
	})
	return h
}

type handler struct {
	queue  Queue
	opt    Options
	mux    http.ServeMux
	origin *http.CrossOriginProtection
}

// maxBody is how long the body of a request may be.
const maxBody = 1 << 20

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; "+
		"base-uri 'none'; frame-ancestors 'none'")
	head.Set("X-Frame-Options", "DENY")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Cache-Control", "no-store")
	// Not no-referrer: with that the Origin of our own forms would be "null".
	head.Set("Referrer-Policy", "same-origin")
	if status, text, err := h.refuse(r); err != nil {
		h.opt.Logger.Warn("smtp: a request to the queue was refused", "remote", r.RemoteAddr, "host", r.Host,
			"method", r.Method, "path", r.URL.Path, "err", err)
		if status == http.StatusUnauthorized {
			head.Set("WWW-Authenticate", `Basic realm="queue", charset="UTF-8"`)
		}
		fail(w, status, text)
		return
	}
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	h.mux.ServeHTTP(w, r)
}

// refuse returns why r may not be answered, with the status and text of the answer.
func (h *handler) refuse(r *http.Request) (status int, text string, err error) {
	if !h.isOurs(r.Host) {
		err = errors.New("the Host " + r.Host + " is not ours: use localhost, or add it to Options.Hosts of queuehttp")
		return http.StatusForbidden, err.Error(), err
	}
	if err := h.origin.Check(r); err != nil {
		return http.StatusForbidden, "a page of another origin may not change the queue", err
	}
	if h.opt.Authorize != nil {
		if err := h.opt.Authorize(r); err != nil {
			return http.StatusUnauthorized, "not authorized", err
		}
		return 0, "", nil
	}
	if !isLocal(r) {
		err = errors.New("the request comes from another machine: set Options.Authorize of queuehttp to allow that")
		return http.StatusForbidden, err.Error(), err
	}
	return 0, "", nil
}

// isOurs reports whether host, with or without a port, is a name or address of the handler.
func (h *handler) isOurs(host string) bool {
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	if addr, err := netip.ParseAddr(name); err == nil && addr.IsLoopback() {
		return true
	}
	return name != "" && slices.ContainsFunc(h.opt.Hosts, func(ours string) bool {
		return strings.EqualFold(strings.Trim(ours, "[]"), name)
	})
}

// isLocal reports whether r comes from this machine.
func isLocal(r *http.Request) bool {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return true
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && remote.Addr().IsLoopback()
}

// fail answers with an error.
func fail(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, map[string]string{"error": text})
}
