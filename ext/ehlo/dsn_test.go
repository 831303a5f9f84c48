package ehlo

import (
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
)

func TestDSNParams(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params []ext.Param
		key    string
		cases  []paramCase
	}{
		{"R01 RET", DSN().Mail, "RET", []paramCase{
			{"FULL", true}, {"hdrs", true}, {"Full", true}, {"NONE", false}, {"FULL,HDRS", false},
		}},
		{"R01 ENVID", DSN().Mail, "ENVID", []paramCase{
			{"QQ314159", true}, {"a+20b+3Dc", true}, // a space and an equals sign
			{"a+2b", false}, {"a+2", false}, {"a+", false}, {"a\x00", false}, {"é", false},
		}},
		{"R04 ENVID", DSN().Mail, "ENVID", []paramCase{{strings.Repeat("x", 100), true}, {strings.Repeat("x", 101), false}}},
		{"R05 ENVID", DSN().Mail, "ENVID", []paramCase{ // it has to be printable once decoded
			{"a+0Ab", false}, {"a+0D+0ANOTIFY", false}, {"a+7F", false}, {"a+C3+A9", false},
		}},
		{"R02 NOTIFY", DSN().Rcpt, "NOTIFY", []paramCase{
			{"NEVER", true}, {"SUCCESS,FAILURE,DELAY", true},
			{"DELAY,SUCCESS", true}, {"SUCCESS,SUCCESS", true}, {"SUCCESS,,DELAY", true}, // RFC 822 section 2.7
			{"NEVER,SUCCESS", false}, {"SUCCESS,NEVER", false}, {"NEVER,", false}, {",", false}, {"ALWAYS", false},
			{"SUCCESS;DELAY", false},
		}},
		{"R06 NOTIFY", DSN().Rcpt, "NOTIFY", []paramCase{
			{"never", true}, {"Delay", true}, {"DELAY,success", true}, {"ſUCCESS", false}, // U+017F folds to s in Unicode
		}},
		{"R02 ORCPT", DSN().Rcpt, "ORCPT", []paramCase{
			{"rfc822;Bob@Example.com", true}, {"x400;/C+3DUS/", true}, {"rfc822;", true}, {"rfc822;a+20b@c", true},
			{"rfc822", false}, {";a@b", false}, {"rfc 822;a@b", false}, {"rfc.822;a@b", false},
			{"rfc822;a+zz", false}, {"rfc822;jörg@b", false}, {"é;a@b", false},
			{`utf-8;j\x{F6}rg@b.example`, true}, {"UTF-8;jörg@b.example", true}, {"utf-8;plain@b.example", true},
			{"utf-8;\xff@b", false}, {"utf-8;a\u0085b", false}, {`utf-8;\x{110000}ö`, false},
		}},
		{"R04 ORCPT", DSN().Rcpt, "ORCPT", []paramCase{ // of 500 octets, and of more
			{"rfc822;" + strings.Repeat("x", 493), true}, {"rfc822;" + strings.Repeat("x", 494), false},
		}},
		{"R05 ORCPT", DSN().Rcpt, "ORCPT", []paramCase{{"rfc822;a+0D+0A", false}, {`utf-8;a+0A`, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) { testParam(t, tt.params, tt.key, tt.cases) })
	}
}

func TestReadDSNMail(t *testing.T) {
	for text, want := range map[string]struct {
		d  DSNMail
		ok bool
	}{
		"":                       {DSNMail{}, false},
		"SIZE=1":                 {DSNMail{}, false},
		"RET=full":               {DSNMail{Return: ReturnFull}, true},
		"Ret=HDRS ENVID=a+2Bb":   {DSNMail{ReturnHeaders, "a+b"}, true},
		"ENVID=Case":             {DSNMail{EnvID: "Case"}, true},
		"ENVID=+0A":              {DSNMail{}, false},
		"RET=ALL":                {DSNMail{}, false},
		"RET=FULL REQUIRETLS":    {DSNMail{Return: ReturnHeaders}, true}, // R16: RFC 8689 section 5
		"REQUIRETLS":             {DSNMail{Return: ReturnHeaders}, true},
		"ENVID=a REQUIRETLS":     {DSNMail{ReturnHeaders, "a"}, true},
		"ENVID=+0A RET=FULL X=1": {DSNMail{}, false},
	} {
		if d, ok := ReadDSNMail(testkit.Params(text)); d != want.d || ok != want.ok {
			t.Errorf("%q: %+v, %v, want %+v, %v", text, d, ok, want.d, want.ok)
		}
	}
}

func TestReadDSNRcpt(t *testing.T) {
	for text, want := range map[string]struct {
		d  DSNRcpt
		ok bool
	}{
		"":                                 {DSNRcpt{}, false},
		"NOTIFY=never":                     {DSNRcpt{Notify: NotifyNever}, true},
		"NOTIFY=DELAY,SUCCESS":             {DSNRcpt{Notify: NotifySuccess | NotifyDelay}, true},
		"NOTIFY=NEVER,DELAY":               {DSNRcpt{}, false},
		"ORCPT=RFC822;A+2Bb@C.example":     {DSNRcpt{0, OriginalRecipient{"RFC822", "A+b@C.example"}}, true},
		"NOTIFY=FAILURE ORCPT=rfc822;a@b":  {DSNRcpt{NotifyFailure, OriginalRecipient{"rfc822", "a@b"}}, true},
		"NOTIFY=FAILURE ORCPT=rfc822":      {DSNRcpt{}, false},
		`ORCPT=utf-8;a\x{20}\x{10FFFD}@b`:  {DSNRcpt{0, OriginalRecipient{"utf-8", "a \U0010fffd@b"}}, true},
		`ORCPT=utf-8;\x{5C}\x{2B}ö`:        {DSNRcpt{0, OriginalRecipient{"utf-8", `\+ö`}}, true},
		`ORCPT=utf-8;\x{0D}\x{D800}\x{41}`: {DSNRcpt{0, OriginalRecipient{"utf-8", `\x{0D}\x{D800}\x{41}`}}, true}, // not unitext
		// Postfix sends this.
		"ORCPT=rfc822;bj+C3+B8rn@b": {DSNRcpt{0, OriginalRecipient{"utf-8", "bjørn@b"}}, true},
		"ORCPT=utf-8;bj+C3+B8rn@b":  {DSNRcpt{0, OriginalRecipient{"utf-8", "bjørn@b"}}, true},
		"ORCPT=rfc822;a+C2+85@b":    {DSNRcpt{}, false}, // a control character
		"ORCPT=rfc822;a+C3@b":       {DSNRcpt{}, false}, // not UTF-8
		"ORCPT=x400;bj+C3+B8rn@b":   {DSNRcpt{}, false},
		`ORCPT=utf-8;\x{00F6}`:      {DSNRcpt{0, OriginalRecipient{"utf-8", `\x{00F6}`}}, true},
	} {
		if d, ok := ReadDSNRcpt(testkit.Params(text)); d != want.d || ok != want.ok {
			t.Errorf("%q: %+v, %v, want %+v, %v", text, d, ok, want.d, want.ok)
		}
	}
}

func TestDSNAddTo(t *testing.T) {
	base := testkit.Params("SIZE=1")
	mail := DSNMail{Return: ReturnFull, EnvID: "a b=c+d"}.AddTo(base)
	if want := testkit.Params("SIZE=1 RET=FULL ENVID=a+20b+3Dc+2Bd"); !slices.Equal(mail, want) {
		t.Errorf("%v, want %v", mail, want)
	}
	if got := (DSNMail{}).AddTo(base); !slices.Equal(got, base) {
		t.Errorf("nothing becomes %v", got)
	}
	if got := (DSNMail{Return: ReturnHeaders}).AddTo(nil); !slices.Equal(got, testkit.Params("RET=HDRS")) {
		t.Errorf("headers become %v", got)
	}
	rcpt := DSNRcpt{NotifySuccess | NotifyFailure | NotifyDelay, NewOriginalRecipient(testkit.Address(t, "a+b@c.example"))}.AddTo(nil)
	if want := testkit.Params("NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+2Bb@c.example"); !slices.Equal(rcpt, want) {
		t.Errorf("%v, want %v", rcpt, want)
	}
	if got := (DSNRcpt{}).AddTo(nil); len(got) != 0 {
		t.Errorf("nothing becomes %v", got)
	}
}

// R18: a program that submits messages keeps to 38 octets (RFC 3461 section 5.4).
func TestR18_EnvID(t *testing.T) {
	one, other := NewEnvID(), NewEnvID()
	if one == other {
		t.Errorf("%q twice", one)
	}
	for id, want := range map[string]bool{
		one: false, "": false, strings.Repeat("x", 38): false, strings.Repeat("x", 39): true,
		strings.Repeat("+", 12) + "xx": false, strings.Repeat("+", 12) + "xxx": true, // "+" takes three octets
	} {
		d := DSNMail{EnvID: id}
		if d.LongEnvID() != want {
			t.Errorf("%q is too long: %v", id, !want)
		}
		if back, _ := ReadDSNMail(d.AddTo(nil)); back != d {
			t.Errorf("%q is read as %q", id, back.EnvID)
		}
	}
}

// TestR09_R10_R11_Notify checks the tables of RFC 3461 sections 5.2.2 to 5.2.7.
func TestR09_R10_R11_Notify(t *testing.T) {
	for _, tt := range []struct {
		n    Notify
		want string // the actions of which the sender is told
	}{
		{0, "failed delayed"},
		{NotifyNever, ""},
		{NotifySuccess, "delivered relayed expanded"},
		{NotifyFailure, "failed"},
		{NotifyDelay, "delayed"},
		{NotifySuccess | NotifyFailure | NotifyDelay, "failed delayed delivered relayed expanded"},
	} {
		var got []string
		for _, a := range []Action{Failed, Delayed, Delivered, Relayed, Expanded} {
			if tt.n.Wants(a) {
				got = append(got, string(a))
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("NOTIFY=%v: %v, want %s", tt.n, got, tt.want)
		}
	}
}

func TestR08_SplitDSN(t *testing.T) {
	dsn, others := SplitDSN(testkit.Params("size=1 envid=A+2Bb RET=full BODY=7BIT"))
	if !slices.Equal(dsn, testkit.Params("envid=A+2Bb RET=full")) || !slices.Equal(others, testkit.Params("size=1 BODY=7BIT")) {
		t.Errorf("%v and %v", dsn, others)
	}
	dsn, others = SplitDSN(testkit.Params("Orcpt=RFC822;a+4A@b Notify=success RRVS=x"))
	if !slices.Equal(dsn, testkit.Params("Orcpt=RFC822;a+4A@b Notify=success")) || !slices.Equal(others, testkit.Params("RRVS=x")) {
		t.Errorf("%v and %v", dsn, others)
	}
}

func FuzzEnvIDParam(f *testing.F) {
	for _, s := range []string{"QQ314159", "a+2Bb", "+20", "+0A", "+", "", "=", strings.Repeat("+41", 34)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := ReadDSNMail(testkit.One("ENVID", s))
		if ok != (checkEnvID(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if !ok {
			return
		}
		if !grammar.Printable(d.EnvID) || len(d.EnvID) > 100 {
			t.Fatalf("%q is read as %q", s, d.EnvID)
		}
		back := d.AddTo(nil)
		if value, _ := back.Get("ENVID"); len(value) > 100 {
			return // what was an octet too many in xtext was there in another form
		}
		if again, ok := ReadDSNMail(back); !ok || again != d {
			t.Fatalf("%q is written as %v and read as %+v", s, back, again)
		}
	})
}

func FuzzNotifyParam(f *testing.F) {
	for _, s := range []string{"NEVER", "success,failure,delay", "SUCCESS,,DELAY", ",", "NEVER,NEVER", "DELAY "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := ReadDSNRcpt(testkit.One("NOTIFY", s))
		if ok != (checkNotify(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if !ok {
			return
		}
		if d.Notify&NotifyNever != 0 && d.Notify != NotifyNever {
			t.Fatalf("%q is both never and something else", s)
		}
		if again, ok := ReadDSNRcpt(d.AddTo(nil)); !ok || again != d {
			t.Fatalf("%q is written as %v", s, d.AddTo(nil))
		}
	})
}
