package proto_test

import (
	"reflect"
	"testing"

	"smtpkit.example/smtp/proto"
)

func TestParamsGet(t *testing.T) {
	p := proto.Params{{Key: "Size", Value: "5", HasValue: true}, {Key: "SMTPUTF8"}}
	for _, test := range []struct {
		key, value string
		ok         bool
	}{
		{"SIZE", "5", true}, // C19
		{"size", "5", true},
		{"smtputf8", "", true},
		{"BODY", "", false},
		{"", "", false},
		{"\u017fIZE", "", false}, // U+017F folds to s in Unicode
	} {
		value, ok := p.Get(test.key)
		if value != test.value || ok != test.ok || p.Has(test.key) != test.ok {
			t.Errorf("%q: %q, %v, has %v", test.key, value, ok, p.Has(test.key))
		}
	}
	if (proto.Params)(nil).Has("SIZE") {
		t.Error("no parameters have a SIZE")
	}
}

func TestParamsSet(t *testing.T) {
	backing := make(proto.Params, 2, 8)
	backing[0] = proto.Param{Key: "SIZE", Value: "5", HasValue: true}
	backing[1] = proto.Param{Key: "BODY", Value: "7BIT", HasValue: true}
	before := append(proto.Params(nil), backing...)

	one, two := backing.Set("A", "1"), backing.SetFlag("B")
	if want := append(before[:2:2], proto.Param{Key: "A", Value: "1", HasValue: true}); !reflect.DeepEqual(one, want) {
		t.Errorf("set: %v, want %v", one, want)
	}
	if want := append(before[:2:2], proto.Param{Key: "B"}); !reflect.DeepEqual(two, want) {
		t.Errorf("flag: %v, want %v", two, want)
	}
	replaced := backing.Set("size", "6").SetFlag("body")
	if want := (proto.Params{{Key: "size", Value: "6", HasValue: true}, {Key: "body"}}); !reflect.DeepEqual(replaced, want) {
		t.Errorf("replaced: %v, want %v", replaced, want)
	}
	if !reflect.DeepEqual(backing, before) || backing[:3][2] != (proto.Param{}) {
		t.Errorf("the original has become %v", backing[:3])
	}
	if p := proto.Params(nil).Set("A", "1"); len(p) != 1 || p[0] != (proto.Param{Key: "A", Value: "1", HasValue: true}) {
		t.Errorf("set in none: %v", p)
	}
}

func TestParamsAllocs(t *testing.T) {
	p := proto.Params{{Key: "Size", Value: "5", HasValue: true}, {Key: "SMTPUTF8"}}
	if n := testing.AllocsPerRun(100, func() { p.Get("SMTPUTF8"); p.Has("BODY") }); n != 0 {
		t.Errorf("looking up costs %v allocations", n)
	}
}
