package tlsrpt

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns/dnstest"
)

// TestX31_HTTPS sends reports to a server of net/http on loopback, whose certificate is for example.com.
func TestX31_HTTPS(t *testing.T) {
	type request struct{ method, uri, host, contentType, body string }
	var got []request
	mux := http.NewServeMux()
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/v1?a=b", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) })
	mux.HandleFunc("/v1", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, request{r.Method, r.URL.String(), r.Host, r.Header.Get("Content-Type"), string(body)})
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, strings.Repeat("thanks\n", 10000))
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done() // the client hangs up
	})
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	config := srv.Client().Transport.(*http.Transport).TLSClientConfig
	resolver := dnstest.New("example.com. A 127.0.0.1\nother.test. A 127.0.0.1\nempty.test. MX 0 .\n" +
		"broken.test. A SERVFAIL\n" +
		"broken.test. AAAA SERVFAIL\nhalf.test. AAAA ::1\nhalf.test. A 127.0.0.1\nshared.test. A 100.64.0.1")
	for _, tt := range []struct {
		name, uri string
		change    func(*Options)
		ok        bool
		temporary bool
		status    int
	}{
		{"accepted", "https://example.com:PORT/v1?a=b", nil, true, false, 0},
		{"address", "https://127.0.0.1:PORT/v1", nil, true, false, 0},
		{"redirect", "https://example.com:PORT/moved", nil, false, false, 307},
		{"busy", "https://example.com:PORT/busy", nil, false, true, 503},
		{"not found", "https://example.com:PORT/x", nil, false, false, 404},
		{"certificate for another name", "https://other.test:PORT/v1", nil, false, true, 0},
		{"certificate not trusted", "https://example.com:PORT/v1", func(o *Options) { o.TLSConfig = nil }, false, true, 0},
		{"no address", "https://empty.test:PORT/v1", nil, false, true, 0},
		{"no answer", "https://broken.test:PORT/v1", nil, false, true, 0},
		{"loopback", "https://example.com:PORT/v1", func(o *Options) { o.AllowPrivate = false }, false, false, 0},
		{"loopback address", "https://127.0.0.1:PORT/v1", func(o *Options) { o.AllowPrivate = false }, false, false, 0},
		{"shared address", "https://shared.test:PORT/v1", func(o *Options) { o.AllowPrivate = false }, false, false, 0},
		{"one address fails", "https://half.test:PORT/v1", func(o *Options) {
			o.TLSConfig.ServerName = "example.com"
			o.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if strings.HasPrefix(addr, "[::1]") {
					if end, ok := ctx.Deadline(); !ok || time.Until(end) > 2*time.Minute {
						t.Error("the first address may take all of the time")
					}
					return nil, errors.New("no route")
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			o.Timeout = 5 * time.Minute
		}, true, false, 0},
		{"none", "https://example.com:PORT/v1", func(o *Options) { o.Resolver = nil }, false, false, 0},
		{"stopped", "https://example.com:PORT/silent", nil, false, false, 0}, // the last one, since it ends ctx
	} {
		t.Run(tt.name, func(t *testing.T) {
			got = nil
			c := collector(t, func(o *Options) {
				o.Resolver, o.TLSConfig, o.AllowPrivate = resolver, config.Clone(), true
				if tt.change != nil {
					tt.change(o)
				}
			})
			u, err := url.Parse(strings.Replace(tt.uri, "PORT", port, 1))
			if err != nil {
				t.Fatal(err)
			}
			c.Record(Event{Domain: "example.org"})
			r := c.Reports(time.Now())[0]
			body, err := r.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			err = c.sendTo(ctx, r, u, body)
			if (err == nil) != tt.ok || client.Temporary(err) != tt.temporary {
				t.Fatalf("%v, want success: %v, temporary: %v", err, tt.ok, tt.temporary)
			}
			if tt.ok {
				want := request{"POST", u.RequestURI(), u.Host, "application/tlsrpt+gzip", string(body)}
				if len(got) != 1 || got[0] != want {
					t.Errorf("the server got %+v, want %+v", got, want)
				}
				return
			}
			var e *DeliveryError
			if !errors.As(err, &e) || e.HTTPStatus != tt.status || e.Destination != u.String() || len(got) != 0 {
				t.Errorf("%+v, and the server got %+v", e, got)
			}
		})
	}
}

// TestSilentHandshake checks that nothing is left of an attempt when its context ends, though TLS was being negotiated.
func TestSilentHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			there.Read(make([]byte, 1))
			cancel()
			io.Copy(io.Discard, there)
		}()
		c := collector(t, func(o *Options) {
			o.Resolver, o.AllowPrivate = dnstest.New(""), true
			o.DialContext = func(context.Context, string, string) (net.Conn, error) { return here, nil }
		})
		begin := time.Now()
		err := c.post(ctx, &url.URL{Scheme: "https", Host: "192.0.2.1"}, strings.NewReader("x"))
		<-closed
		if took := time.Since(begin); !errors.Is(err, context.Canceled) || took != 0 {
			t.Errorf("%v, and closed after %v", err, took)
		}
	})
}

// TestPublicAddresses checks to which addresses of strangers nothing is sent.
func TestPublicAddresses(t *testing.T) {
	for _, a := range []string{"0.0.0.0", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.169.254",
		"172.16.0.1", "192.168.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1"} {
		if isPublic(netip.MustParseAddr(a)) {
			t.Errorf("%s is public", a)
		}
	}
	for _, a := range []string{"8.8.8.8", "100.128.0.1", "172.32.0.1", "2a00:1450::1", "::ffff:8.8.8.8"} {
		if !isPublic(netip.MustParseAddr(a)) {
			t.Errorf("%s is not public", a)
		}
	}
}
