package ehlo

import (
	"crypto/sha1"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// tracker is a session that tracks messages if true, and notifies senders.
type tracker bool

func (r tracker) TracksMessages() bool  { return bool(r) }
func (r tracker) NotifiesSenders() bool { return true }

func TestTracking(t *testing.T) {
	sum := sha1.Sum([]byte("secret"))
	const text = "5en6G6MezRroT3XKqkdPOmY/BfQ"
	testParam(t, MTRK().Mail, "MTRK", []paramCase{
		{text, true}, {text + ":0", true}, {text + ":999999999", true}, {strings.Repeat("A", 22), true},
		{text + ":", false}, {text + ":1000000000", false}, {text + ":-1", false}, {text + ":1:2", false},
		{text + "A", false}, {text[:26] + "R", false}, // bits that nothing stands for
		{strings.Repeat("A", 20), false}, {":5", false}, {"Zm9v_mFy", false}, {"é", false},
	})
	for _, tt := range []struct {
		t    Tracking
		want string
	}{
		{Tracking{Certifier: sum[:]}, text},
		{Tracking{sum[:], 8 * 24 * time.Hour, true}, text + ":691200"},
	} {
		p := tt.t.AddTo(nil)
		if !slices.Equal(p, testkit.One("MTRK", tt.want)) {
			t.Errorf("written as %v, want %s", p, tt.want)
		}
		if got, ok := ReadTracking(p); !ok || !slices.Equal(got.Certifier, sum[:]) || got.Timeout != tt.t.Timeout || got.HasTimeout != tt.t.HasTimeout {
			t.Errorf("%v is read as %+v", p, got)
		}
	}
	if _, ok := ReadTracking(nil); ok {
		t.Error("none is read")
	}
	if left, ok := (Tracking{Timeout: time.Hour, HasTimeout: true}).After(10 * time.Minute); !ok || left.Timeout != 50*time.Minute {
		t.Errorf("what is left is %v, %v", left.Timeout, ok)
	}
	if _, ok := (Tracking{Timeout: time.Hour, HasTimeout: true}).After(time.Hour); ok {
		t.Error("something is left (RFC 3885 section 3.1)")
	}
	if left, ok := (Tracking{}).After(time.Hour); !ok || left.HasTimeout {
		t.Error("a time has come up that the client did not name")
	}
}

func TestMTRKNeedsENVID(t *testing.T) {
	const mtrk = "MTRK=5en6G6MezRroT3XKqkdPOmY/BfQ"
	s := testkit.MakeSet(t, DSN(), MTRK())
	for text, ok := range map[string]bool{
		mtrk:                        false,
		mtrk + " ENVID=12345":       false,
		mtrk + " ENVID=@b.example":  false,
		mtrk + " ENVID=12345@":      false,
		mtrk + " ENVID=1@b.example": true,
		mtrk + " ENVID=a+40b@c":     true,
		"ENVID=12345":               true,
		"":                          true,
	} {
		got := fake.Refusal(MTRK().CheckMail(t.Context(), &fake.Server{}, proto.Address{}, testkit.Params(text)))
		if ok != (got == "") || !ok && !strings.HasPrefix(got, "501 5.5.4 MTRK needs") {
			t.Errorf("%s: %q", text, got)
		}
		c := fake.Caps("DSN", "MTRK")
		if err := s.Prepare(s.Offered(c), c, &ext.Envelope{Mail: testkit.Params(text)}); ok != (err == nil) {
			t.Errorf("a client with %s: %v", text, err)
		}
	}
	if _, err := ext.NewSet(proto.SMTP, []ext.Extension{MTRK()}); err == nil {
		t.Error("MTRK does without DSN")
	}
	for session, want := range map[tracker]string{true: "DSN MTRK", false: "DSN"} {
		if _, lines := s.Offer(fake.NewServer(session)); strings.Join(lines, " ") != want {
			t.Errorf("offered %q, want %s", lines, want)
		}
	}
	if o := s.Offered(fake.Caps("MTRK")); o != (ext.Offer{}) {
		t.Error("MTRK is taken for offered by a server without DSN")
	}
}

func FuzzMTRKParam(f *testing.F) {
	for _, s := range []string{"5en6G6MezRroT3XKqkdPOmY/BfQ", "5en6G6MezRroT3XKqkdPOmY/BfQ:86400", "AAAAAAAAAAAAAAAAAAAAAA:0", ":", "A\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := ReadTracking(testkit.One("MTRK", s))
		if ok != (checkTracking(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if !ok {
			return
		}
		again, ok := ReadTracking(v.AddTo(nil))
		if !ok || !slices.Equal(again.Certifier, v.Certifier) || again.Timeout != v.Timeout || again.HasTimeout != v.HasTimeout {
			t.Fatalf("%q is written as %v", s, v.AddTo(nil))
		}
	})
}
