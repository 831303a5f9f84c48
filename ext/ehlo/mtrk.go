package ehlo

import (
	"context"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// MTRK returns the extension MTRK (RFC 3885), by which a sender can later ask servers where a message went. The sender
// keeps a secret, which is the right to ask. The extension requires [DSN], whose ENVID names the message.
//
// A server offers it if the session implements [MTRKSession] and its TracksMessages is true. The session reads the
// parameter with [ReadTracking]. The server refuses the parameter with 501 5.5.4 without an ENVID of the form
// name@host.example (RFC 3885 section 3.2).
//
// On a client, add the parameter with [Tracking.AddTo], and an ENVID with [DSNMail.AddTo]. If the server does not offer
// the extension, the client refuses the message with an [ext.UnsupportedError]. A relay sends the time that is left,
// see [Tracking.After]. It drops MTRK if the next server does not offer the extension, and keeps ENVID and ORCPT.
//
// The extension is not in [Default].
func MTRK() ext.Extension {
	return ext.Extension{
		Keyword:    "MTRK",
		Interfaces: []reflect.Type{reflect.TypeFor[MTRKSession]()},
		// A parameter can have 43 octets, although RFC 3885 section 2 says 40.
		Mail:      []ext.Param{{Key: "MTRK", MaxLength: 40, Check: checkTracking}},
		Requires:  []string{"DSN"},
		Advertise: advertiseIf(MTRKSession.TracksMessages),
		CheckMail: func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			if p.Has("MTRK") && !isTrackable(p) {
				return grammar.BadArgs(grammar.Cause(errUntrackable))
			}
			return nil
		},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			if e.Mail.Has("MTRK") && !isTrackable(e.Mail) {
				return errUntrackable
			}
			return nil
		},
	}
}

var errUntrackable = errors.New("smtp: MTRK needs an ENVID of the form name@host.example (RFC 3885 section 3.2)")

// An MTRKSession is a session that keeps records of messages.
type MTRKSession interface {
	// TracksMessages reports whether the session keeps records that senders can ask for by MTQP (RFC 3887), and passes
	// MTRK on when it relays.
	TracksMessages() bool
}

// Tracking is the parameter MTRK of a MAIL command.
type Tracking struct {
	// Certifier is the SHA-1 of the secret by which the sender can later ask for the record.
	Certifier []byte
	// Timeout is how long to keep the record, in whole seconds of at most 9 digits. It counts if HasTimeout is set.
	// Otherwise the server decides; 8 to 10 days are usual.
	Timeout    time.Duration
	HasTimeout bool
}

// ReadTracking returns the parameter MTRK of a MAIL command. It reports false if there is none.
func ReadTracking(p proto.Params) (t Tracking, ok bool) {
	return readParam(p, "MTRK", parseTracking)
}

// AddTo returns p with the parameter MTRK.
func (t Tracking) AddTo(p proto.Params) proto.Params {
	value := base64.RawStdEncoding.EncodeToString(t.Certifier)
	if t.HasTimeout {
		value += ":" + formatSeconds(t.Timeout)
	}
	return p.Set("MTRK", value)
}

// After returns what is left of t after a relay has kept the message for elapsed. It reports false if no time is left:
// then the relay must not pass the parameter on (RFC 3885 section 3.1).
func (t Tracking) After(elapsed time.Duration) (left Tracking, ok bool) {
	if !t.HasTimeout {
		return t, true
	}
	t.Timeout = (t.Timeout - elapsed).Truncate(time.Second)
	return t, t.Timeout > 0
}

// The lengths of a certifier in octets. RFC 3885 section 3.1 calls it both a hash of 128 bits and one made with SHA-1,
// which has 160. It is sent in base64 without the "=" at the end, which the value of a parameter cannot have.
const (
	minCertifier = 128 / 8
	maxCertifier = 160 / 8
)

// parseTracking reads mtrk-certifier [ ":" mtrk-timeout ].
func parseTracking(value string) (t Tracking, ok bool) {
	text, timeout, has := strings.Cut(value, ":")
	if has {
		if t.Timeout, ok = parseSeconds(timeout); !ok {
			return Tracking{}, false
		}
		t.HasTimeout = true
	}
	if len(text) > base64.RawStdEncoding.EncodedLen(maxCertifier) || strings.ContainsAny(text, "\r\n") {
		return Tracking{}, false
	}
	var err error
	t.Certifier, err = base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(t.Certifier) < minCertifier {
		return Tracking{}, false
	}
	return t, true
}

func checkTracking(value string) error {
	if _, ok := parseTracking(value); !ok {
		return errors.New("MTRK has to be a SHA-1 in base64, without = at its end, " +
			"and may have a colon and seconds behind it")
	}
	return nil
}

// isTrackable reports whether p has an ENVID of the form local-envid "@" fqhn (RFC 3885 section 3.2).
func isTrackable(p proto.Params) bool {
	d, _ := ReadDSNMail(p)
	i := strings.LastIndexByte(d.EnvID, '@')
	return i > 0 && i < len(d.EnvID)-1
}
