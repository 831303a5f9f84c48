package queue

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// mailFrom returns the address of a MAIL command, as a lax server takes it.
func mailFrom(t testing.TB, path string) proto.Address {
	t.Helper()
	a, _, refused := proto.ParseMailArgs([]byte("FROM:"+path), true)
	if refused != nil {
		t.Fatalf("%s: %v", path, refused)
	}
	return a
}

// rcptTo returns the recipient of a RCPT command, as a lax server takes it.
func rcptTo(t testing.TB, args string) proto.Recipient {
	t.Helper()
	a, p, refused := proto.ParseRcptArgs([]byte("TO:"+args), true)
	if refused != nil {
		t.Fatalf("%s: %v", args, refused)
	}
	return proto.Recipient{Address: a, Params: p}
}

func TestMessageJSON(t *testing.T) {
	arrived := time.Date(2026, 11, 29, 13, 7, 5, 42e6, time.UTC)
	m := Message{
		ID: "06g3ckp0c2v0a1b2c3d4", Arrived: arrived, From: mailFrom(t, "<joe@example.org>"),
		Params: proto.Params{{Key: "SIZE", Value: "100", HasValue: true}, {Key: "smtputf8"},
			{Key: "ENVID", Value: "a+3Db", HasValue: true}},
		Needs: ext.EightBit | ext.UTF8, ReceivedFrom: report.MTA{Type: "dns", Name: "host.example", Comment: "192.0.2.1"},
		Tag: "a \"tag\"\n\u2028\U000e0001\x7f", Size: 1 << 40,
	}
	want := `{"id":"06g3ckp0c2v0a1b2c3d4","arrived":"2026-11-29T13:07:05.042Z","from":"joe@example.org",` +
		`"params":["SIZE=100","smtputf8","ENVID=a+3Db"],"needs":["8bit","utf8"],` +
		`"received_from":{"type":"dns","name":"host.example","comment":"192.0.2.1"},` +
		`"tag":"a \"tag\"\n\u2028\udb40\udc01\u007f","size":1099511627776}`
	got, err := m.MarshalJSON()
	if err != nil || string(got) != want {
		t.Fatalf("%s, %v\nwant %s", got, err, want)
	}
	var back Message
	if err := back.UnmarshalJSON(got); err != nil || !reflect.DeepEqual(m, back) {
		t.Fatalf("%+v, %v\nwant %+v", back, err, m)
	}
	roundTrip(t, Message{})
	roundTrip(t, Message{Needs: 0xff})
	roundTrip(t, Message{Arrived: time.Date(0, 1, 1, 0, 0, 0, 999e6, time.UTC)})
	roundTrip(t, Message{Arrived: time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)})
	// In another zone, and with more than milliseconds.
	m = Message{Arrived: time.Date(2026, 2, 28, 23, 59, 59, 1999999, time.FixedZone("", -3600))}
	if got, err = m.MarshalJSON(); err != nil || string(got) != `{"arrived":"2026-03-01T00:59:59.001Z"}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestJobJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	f := &Failure{
		Status: proto.Status{4, 2, 1}, Host: "mx.example", Text: "greylisted",
		Reply: proto.Reply{Code: 450, Status: proto.Status{4, 200, 1}, Text: "come\nback"},
	}
	j := Job{
		ID: JobID{"06g3ckp0c2v0a1b2c3d4", 3}, Destination: "example.net",
		To: []Recipient{
			{Recipient: rcptTo(t, "<ann@example.net> NOTIFY=NEVER ORCPT=rfc822;ann+40x"), Last: f},
			{Recipient: rcptTo(t, "<bob@example.net>")},
		},
		State: Held, Why: "looks wrong", Lane: 7, Due: at, Alarm: at.Add(time.Hour), Expires: at.Add(2 * time.Hour),
		Attempts: 4, LastAttempt: at.Add(-time.Hour), Told: true, Edits: 2, Epoch: -1 << 63,
	}
	want := `{"id":"06g3ckp0c2v0a1b2c3d4.3","destination":"example.net","to":[` +
		`{"address":"ann@example.net","params":["NOTIFY=NEVER","ORCPT=rfc822;ann+40x"],"last":{"status":"4.2.1",` +
		`"reply":{"code":450,"status":"4.200.1","text":"come\nback"},"host":"mx.example","text":"greylisted"}},` +
		`{"address":"bob@example.net"}],"state":"held","why":"looks wrong","lane":7,"due":"2026-01-02T03:04:05.006Z",` +
		`"alarm":"2026-01-02T04:04:05.006Z","expires":"2026-01-02T05:04:05.006Z","attempts":4,` +
		`"last_attempt":"2026-01-02T02:04:05.006Z","told":true,"edits":2,"epoch":-9223372036854775808}`
	got, err := j.MarshalJSON()
	if err != nil || string(got) != want {
		t.Fatalf("%s, %v\nwant %s", got, err, want)
	}
	roundTrip(t, j)
	roundTrip(t, Job{})
	// The package of the standard library finds the methods, of a value as well as of a pointer.
	for _, v := range []any{j, &j} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("json.Marshal: %s, %v", got, err)
		}
	}
}

// roundTrip writes v by its method and by encoding/json, and reads both back.
func roundTrip[T any](t *testing.T, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Errorf("%+v: %v", v, err)
		return
	}
	var back T
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(v, back) {
		t.Errorf("%s:\ngot  %+v, %v\nwant %+v", b, back, err, v)
	}
}

func TestAddressJSON(t *testing.T) {
	for _, tt := range []struct{ path, text string }{
		{`<joe@example.org>`, `joe@example.org`},
		{`<Joe.O'Neill+x=y@Example.ORG>`, `Joe.O'Neill+x=y@Example.ORG`},
		{`<"joe smith"@example.org>`, `"joe smith"@example.org`},
		{`<"a@b"@example.org>`, `"a@b"@example.org`},
		{`<"a\"b\\c"@example.org>`, `"a\"b\\c"@example.org`},
		{`<a..b.@example.org>`, `"a..b."@example.org`},
		{`<.@example.org>`, `"."@example.org`},
		{`<under@score_.example>`, `under@score_.example`},
		{`<joe@[192.0.2.1]>`, `joe@[192.0.2.1]`},
		{`<joe@[IPv6:2001:DB8::1]>`, `joe@[IPv6:2001:db8::1]`},
		{`<joe@[IPv6:::ffff:192.0.2.1]>`, `joe@[IPv6:::ffff:192.0.2.1]`},
		{`<用户@例子.example>`, `用户@例子.example`},
		{`<joe@xn--fsqu00a.example>`, `joe@xn--fsqu00a.example`},
		{`<"用 户"@münchen.example>`, `"用 户"@münchen.example`},
	} {
		m := Message{From: mailFrom(t, tt.path)}
		b, err := m.MarshalJSON()
		var got struct{ From string }
		if err != nil || json.Unmarshal(b, &got) != nil || got.From != tt.text {
			t.Errorf("%s is written as %s, %v", tt.path, b, err)
		}
		roundTrip(t, m)
	}
	roundTrip(t, Recipient{Recipient: rcptTo(t, "<Postmaster>")})
	roundTrip(t, Recipient{})
	domain := mailFrom(t, "<a@b.example>").Domain
	roundTrip(t, Recipient{Recipient: proto.Recipient{Address: proto.Address{Domain: domain}}})
	roundTrip(t, Recipient{Recipient: proto.Recipient{Address: proto.Address{Local: "a\r\n\x00b"}}})
	roundTrip(t, Recipient{Recipient: proto.Recipient{Address: proto.Address{Local: " "}}})
	long := strings.Repeat("x", 64) + "@" + strings.Repeat(strings.Repeat("y", 62)+".", 2) + "example"
	roundTrip(t, Recipient{Recipient: rcptTo(t, "<"+long+">")})
}

// What cannot be read back is not written.
func TestJSONRefused(t *testing.T) {
	for name, v := range map[string]json.Marshaler{
		"key":   Recipient{Recipient: proto.Recipient{Params: proto.Params{{Key: "A=B"}}}},
		"flag":  Recipient{Recipient: proto.Recipient{Params: proto.Params{{Key: "A", Value: "B"}}}},
		"year":  Job{Due: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"state": Job{State: 2},
	} {
		if b, err := v.MarshalJSON(); err == nil || !strings.HasPrefix(err.Error(), "smtp: ") {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}

// An octet that is not UTF-8 comes back, and does not harm others.
func TestJSONOctets(t *testing.T) {
	f := Failure{Text: "a\xffb\x01\xc3", Host: "\xed\xa0\x80\ufffd"}
	b, err := f.MarshalJSON()
	want := "{\"host\":\"\\udced\\udca0\\udc80\ufffd\"," +
		`"text":"a\udcffb\u0001\udcc3"}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
	roundTrip(t, f)
	roundTrip(t, Message{From: proto.Address{Local: "a\xff \x80"},
		Params: proto.Params{{Key: "X", Value: "\xff", HasValue: true}}})
}

func TestJSONRead(t *testing.T) {
	for _, in := range []string{
		``, `{`, `{}x`, `[]`, `{"id":}`, `{"id":"a"`, `{"id":"a",}`, `{"id":1}`, `{"arrived":"2026-02-30T00:00:00Z"}`,
		`{"arrived":"yesterday"}`, `{"from":"a@b_c d"}`, `{"from":"\"a"}`, `{"from":"\"a\"b"}`, `{"size":1.5}`,
		`{"size":9223372036854775808}`, `{"size":01}`, `{"needs":["X"]}`, `{"id":"\ud800"}`, `{"id":"\ud800\u0041"}`,
		"{\"id\":\"\xff\"}", "{\"id\":\"\\n\xff\"}", "{\"id\":\"\xff\\n\"}", "{\"id\":\"\n\"}", `{"id":"\x"}`,
		`{"id":"\u12"}`, `{"x":tru}`, `{"x":-}`, `{"x":1.}`,
		`{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, `{"id":"a" "tag":"b"}`, `{"id"`,
		`{"params":"x"}`, `{"params":["x"}`, `{"arrived":"9999-12-31T23:59:59-01:00"}`,
	} {
		m := Message{Tag: "before"}
		if err := m.UnmarshalJSON([]byte(in)); err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || m.Tag != "before" {
			t.Errorf("%s gives %+v, %v", in, m, err)
		}
	}
	for _, in := range []string{`{"id":"a"}`, `{"id":"a.b"}`, `{"state":"gone"}`, `{"lane":256}`, `{"told":1}`,
		`{"to":[{"address":"@@"}]}`, `{"to":[{"last":{"status":"4.2"}}]}`, `{"to":[{"last":{"status":"4.2.1.0"}}]}`,
		`{"to":[{"last":{"reply":{"code":"250"}}}]}`} {
		if err := new(Job).UnmarshalJSON([]byte(in)); err == nil {
			t.Errorf("%s is read", in)
		}
	}
	// Any order, white space, unknown members, every escape.
	in := ` { "x" : [ { "y" : [ 1 , -2.5e+10 , true , false , null , "" ] } , { } , [ ] ] , ` +
		`"tag":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00",` +
		`"size" : 7 } `
	var m Message
	if err := m.UnmarshalJSON([]byte(in)); err != nil || m.Tag != "\"\\/\b\f\n\r\té😀" || m.Size != 7 {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"id":"06g3ckp0c2v0a1b2c3d4","arrived":"2026-11-29T13:07:05.042Z","from":"\"a b\"@example.org",` +
		`"params":["SIZE=1","X"],"needs":["8bit","128"],"received_from":{"type":"dns","name":"a","comment":"b"},` +
		`"tag":"\ud83d\ude00","size":-1}`))
	f.Add([]byte(`{"id":"06g3ckp0c2v0a1b2c3d4.0","destination":"a.example",` +
		`"to":[{"address":"a@a_.example","params":["N=1"],"last":{"status":"4.0.0",` +
		`"reply":{"code":450,"status":"4.0.1","text":"x\n"},"host":"h","text":"t"}}],"state":"held","why":"w","lane":1,` +
		`"due":"2026-11-29T13:07:05.042Z","told":true,"edits":1,"epoch":2,"unknown":[{"a":null}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var m Message
		fuzzJSON(t, in, m.UnmarshalJSON(in) == nil, &m, new(Message))
		var j Job
		fuzzJSON(t, in, j.UnmarshalJSON(in) == nil, &j, new(Job))
	})
}

// fuzzJSON checks that what was read is JSON, and is written and read again as the same.
func fuzzJSON(t *testing.T, in []byte, read bool, v, again any) {
	if !read {
		return
	}
	if !json.Valid(in) {
		t.Fatalf("%q was read as %+v", in, v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%q was read as %+v, and cannot be written: %v", in, v, err)
	}
	if err := json.Unmarshal(b, again); err != nil || !reflect.DeepEqual(v, again) {
		t.Fatalf("%q was read as %+v, written as %s, and read as %+v, %v", in, v, b, again, err)
	}
}

func BenchmarkMessageJSON(b *testing.B) {
	m := Message{
		ID: "06g3ckp0c2v0a1b2c3d4", Arrived: time.Date(2026, 11, 29, 13, 7, 5, 42e6, time.UTC),
		From:   mailFrom(b, "<joe@example.org>"),
		Params: proto.Params{{Key: "SIZE", Value: "100", HasValue: true}}, Size: 4096, Tag: "joe",
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.MarshalJSON(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		text, _ := m.MarshalJSON()
		b.ReportAllocs()
		for b.Loop() {
			if err := new(Message).UnmarshalJSON(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
