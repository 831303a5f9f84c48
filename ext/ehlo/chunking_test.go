package ehlo

import (
	"math"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

func TestBDATArgs(t *testing.T) {
	row := testkit.MakeSet(t, Default()...).Table().Lookup("BDAT")
	for _, tt := range []struct {
		args string
		n    int64
		last bool
		ok   bool
	}{
		{"0", 0, false, true},
		{"5", 5, false, true},
		{"05", 5, false, true},
		{"000000000000000000000000000000000005", 5, false, true},
		{"86401 LAST", 86401, true, true},
		{"0 LAST", 0, true, true},
		{"5 last", 5, true, true},
		{"5 LaSt", 5, true, true},
		{"9223372036854775807", math.MaxInt64, false, true},
		// The size is known: the engine skips 5 octets.
		{"5 LAST junk", 5, false, false},
		{"5 FIRST", 5, false, false},
		{"5  LAST", 5, false, false},
		{"5 LAST ", 5, false, false},
		{"5 LAſT", 5, false, false},
		{"5 LASTLAST", 5, false, false},
		// The size is unknown.
		{"", -1, false, false},
		{"LAST", -1, false, false},
		{"-1", -1, false, false},
		{"+5", -1, false, false},
		{"5a", -1, false, false},
		{"0x5", -1, false, false},
		{"1e3", -1, false, false},
		{" 5", -1, false, false},
		{"5\tLAST", -1, false, false},
		{"5LAST", -1, false, false},
		{"٥", -1, false, false},
		{"9223372036854775808", -1, false, false},
		{"18446744073709551616", -1, false, false},
		{"99999999999999999999999999", -1, false, false},
	} {
		n, err := row.Payload([]byte(tt.args))
		if n != tt.n || (err == nil) != tt.ok {
			t.Errorf("BDAT %q: %d octets, %v", tt.args, n, err)
		}
		if err != nil && !strings.HasPrefix(fake.Refusal(err), "501 5.5.4 ") {
			t.Errorf("BDAT %q: %v", tt.args, err)
		}
		if got := row.Variant([]byte(tt.args)) != nil; got != tt.last {
			t.Errorf("BDAT %q: last is %v", tt.args, got)
		}
	}
}

// drive gives a machine the steps, each a command or the code of a reply, and returns its state.
func drive(t *testing.T, p proto.Protocol, steps ...any) proto.State {
	t.Helper()
	s, err := ext.NewSet(p, DefaultFor(p))
	if err != nil {
		t.Fatal(err)
	}
	m := proto.NewMachine(s.Table())
	if _, err := m.Reply(220); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		switch step := step.(type) {
		case string:
			name, args, _ := strings.Cut(step, " ")
			if err := m.Command(s.Table().Lookup(name), []byte(args)); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		case int:
			if _, err := m.Reply(step); err != nil {
				t.Fatalf("%d: %v", step, err)
			}
		}
	}
	return m.Now()
}

func TestBDATStates(t *testing.T) {
	mail := []any{"EHLO x", 250, "MAIL FROM:<>", 250, "RCPT TO:<a@b>", 250, "RCPT TO:<c@d>", 250}
	lmtp := append([]any{"LHLO x"}, mail[1:]...)
	for _, tt := range []struct {
		name  string
		p     proto.Protocol
		steps []any
		want  proto.State
	}{
		{"N01 chunk", proto.SMTP, append(mail[:8:8], "BDAT 5", 250), proto.Chunks},
		{"N01 two", proto.SMTP, append(mail[:8:8], "BDAT 5", 250, "BDAT 5", 250), proto.Chunks},
		{"N01 last", proto.SMTP, append(mail[:8:8], "BDAT 5", 250, "BDAT 0 LAST", 250), proto.Ready},
		{"N07 refused", proto.SMTP, append(mail[:8:8], "BDAT 5", 552), proto.Broken},
		{"N07 then RSET", proto.SMTP, append(mail[:8:8], "BDAT 5", 552, "RSET", 250), proto.Ready},
		{"N08 RSET between", proto.SMTP, append(mail[:8:8], "BDAT 5", 250, "RSET", 250), proto.Ready},
		{"last refused", proto.SMTP, append(mail[:8:8], "BDAT 5 LAST", 552), proto.Ready},
		{"LMTP chunk has one reply", proto.LMTP, append(lmtp[:8:8], "BDAT 5", 250), proto.Chunks},
		{"LMTP last has two", proto.LMTP, append(lmtp[:8:8], "BDAT 5 LAST", 250), proto.Rcpt},
		{"LMTP last has two, in full", proto.LMTP, append(lmtp[:8:8], "BDAT 5 LAST", 250, 550), proto.Ready},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := drive(t, tt.p, tt.steps...); got != tt.want {
				t.Errorf("state %v, want %v", got, tt.want)
			}
		})
	}
}

var chunkSyntax = regexp.MustCompile(`^([0-9]+)( (?i:LAST))?$`)

var chunkFrame = regexp.MustCompile(`^([0-9]+)( |$)`)

func FuzzBDATArgs(f *testing.F) {
	for _, s := range []string{"5", "5 LAST", "05 last", "", "-1", "5 x", "9223372036854775808", "5a", " 5", "5 "} {
		f.Add([]byte(s))
	}
	limit := big.NewInt(math.MaxInt64)
	f.Fuzz(func(t *testing.T, args []byte) {
		n, last, err := parseChunk(args)
		frame := chunkFrame.FindSubmatch(args)
		var want *big.Int
		if frame != nil {
			want, _ = new(big.Int).SetString(string(frame[1]), 10)
		}
		if want == nil || want.Cmp(limit) > 0 {
			if n != -1 || err == nil {
				t.Fatalf("%q: %d octets, %v; nobody knows", args, n, err)
			}
			return
		}
		if want.Cmp(big.NewInt(n)) != 0 {
			t.Fatalf("%q: %d octets, want %v", args, n, want)
		}
		m := chunkSyntax.FindSubmatch(args)
		if (err == nil) != (m != nil) || err == nil && last != (len(m[2]) > 0) {
			t.Fatalf("%q: last %v, error %v", args, last, err)
		}
	})
}
