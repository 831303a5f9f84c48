package ehlo

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// MTRK returns the extension MTRK (RFC 3885): servers keep a record of where a message went, for whoever has the secret.
// It requires [DSN], whose ENVID names the message.
//
// A server offers it if the session is a [MTRKSession]. A message with the parameter and without an ENVID of the form that
// section 3.2 demands is refused with 501 5.5.4. The session reads the parameter with [ReadTracking].
//
// On a client the caller adds the parameter with [Tracking.AddTo], and an ENVID. The message is refused with a [ext.UnsupportedError] if the
// server does not offer the extension. A relay sends what is left of the time, see [Tracking.After], and leaves the parameter
// out, but not ENVID and ORCPT, where the server does not offer it. The extension is not among those of [Default].
func MTRK() ext.Extension {
	return ext.Extension{
		Keyword:   "MTRK",
		Mail:      []ext.Param{{Key: "MTRK", MaxLength: 40, Check: checkTracking}}, // RFC 3885 section 2, although 43 can be needed
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

// A Tracker is a session that keeps records of messages.
type MTRKSession interface {
	// TracksMessages reports whether it keeps them for whoever asks by MTQP (RFC 3887), and passes MTRK on when it
	// relays.
	TracksMessages() bool
}

// Tracking is the parameter MTRK of a MAIL command.
type Tracking struct {
	// Certifier is the SHA-1 of the secret by which the sender later asks for the record.
	Certifier []byte
	// Timeout is how long the record is to be kept, in whole seconds of 9 digits at most. It counts if HasTimeout is set;
	// without it the server decides, usually on 8 to 10 days.
	Timeout    time.Duration
	HasTimeout bool
}

// ReadTracking returns the parameter MTRK of a MAIL command, if there is one.
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

// After returns what is left of t when a relay has kept the message for elapsed. It reports false if nothing is left: then
// the parameter must not be passed on (RFC 3885 section 3.1).
func (t Tracking) After(elapsed time.Duration) (left Tracking, ok bool) {
	if !t.HasTimeout {
		return t, true
	}
	t.Timeout = (t.Timeout - elapsed).Truncate(time.Second)
	return t, t.Timeout > 0
}

// The certifier is base64 without the "=" at the end, which cannot stand in a parameter. RFC 3885 section 3.1 calls it
// both a hash of 128 bits and one made with SHA-1, which has 160.
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
		return errors.New("MTRK has to be a SHA-1 in base64, without = at its end, and may have a colon and seconds behind it")
	}
	return nil
}

// isTrackable reports whether p has an ENVID of the form local-envid "@" fqhn.
func isTrackable(p proto.Params) bool {
	d, _ := ReadDSNMail(p)
	i := strings.LastIndexByte(d.EnvID, '@')
	return i > 0 && i < len(d.EnvID)-1
}
