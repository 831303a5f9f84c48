package ehlo

import (
	"context"
	"math/big"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// fullDisk is a session with room for 500 octets.
type fullDisk struct{ asked int64 }

func (f *fullDisk) CheckSize(_ context.Context, size int64) error {
	f.asked = size
	if size > 500 {
		return proto.Refuse(452, proto.Status{4, 3, 1}, "Disk full")
	}
	return nil
}

func TestSizeCheckMail(t *testing.T) {
	for _, tt := range []struct {
		name, params string
		max          int64
		session      any
		want         string
	}{
		{"none declared", "", 1000, &fullDisk{}, ""},
		{"at the limit", "SIZE=1000", 1000, nil, ""},
		{"M02 above", "SIZE=1001", 1000, nil, "552 5.3.4 "},
		{"M04 above int64", "SIZE=99999999999999999999", 1000, nil, "552 5.3.4 "},
		{"M04 above int64 without a limit", "SIZE=99999999999999999999", 0, nil, "552 5.3.4 "},
		{"large without a limit", "SIZE=4294967297", 0, nil, ""},
		{"above 2^32", "SIZE=4294967297", 1000, nil, "552 5.3.4 "},
		{"M03 no room", "SIZE=501", 1000, testkit.Wrap(&fullDisk{}), "452 4.3.1 Disk full"},
		{"room", "SIZE=500", 1000, testkit.Wrap(&fullDisk{}), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := &fake.Server{Conn: fake.ServerState{MaxSize: tt.max, Session: tt.session}}
			err := Size().CheckMail(t.Context(), x, proto.Address{}, testkit.Params(tt.params))
			if got := fake.Refusal(err); tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestSizeAdvertise(t *testing.T) {
	for n, want := range map[int64]string{0: "SIZE", -1: "SIZE", 10240: "SIZE 10240"} {
		t.Run("M01 "+want, func(t *testing.T) {
			_, lines := testkit.MakeSet(t, Size()).Offer(&fake.Server{Conn: fake.ServerState{MaxSize: n}})
			if len(lines) != 1 || lines[0] != want {
				t.Errorf("the limit %d is offered as %q", n, lines)
			}
		})
	}
}

func FuzzSizeParam(f *testing.F) {
	for _, s := range []string{"0", "1", "007", "9223372036854775807", "9223372036854775808", "99999999999999999999",
		"000000000000000000001", "-1", "+1", "1e3", "0x1", "", " 1", "١"} {
		f.Add(s)
	}
	limit := new(big.Int).SetUint64(1<<63 - 1)
	f.Fuzz(func(t *testing.T, s string) {
		p := proto.Params{{Key: "SIZE", Value: s, HasValue: true}}
		n, ok := ReadSize(p)
		valid := len(s) >= 1 && len(s) <= 20 && strings.Trim(s, "0123456789") == ""
		if ok != valid {
			t.Fatalf("%q: taken for a size: %v", s, ok)
		}
		if !ok {
			return
		}
		want, _ := new(big.Int).SetString(s, 10)
		if want.Cmp(limit) > 0 {
			want = limit
		}
		if want.Cmp(big.NewInt(n)) != 0 {
			t.Fatalf("%q is %d", s, n)
		}
	})
}
