package proto

import "testing"

func TestQ05_ParseStatus(t *testing.T) {
	tests := []struct {
		in   string
		want Status
		ok   bool
	}{
		{"2.0.0", Status{2, 0, 0}, true},
		{"4.4.7", Status{4, 4, 7}, true},
		{"5.7.26", Status{5, 7, 26}, true},
		{"5.999.999", Status{5, 999, 999}, true},
		{"", Status{}, false},
		{"5", Status{}, false},
		{"5.1", Status{}, false},
		{"5.1.", Status{}, false},
		{"5..1", Status{}, false},
		{"5.1.1.1", Status{}, false},
		{"5.1.1 ", Status{}, false},
		{" 5.1.1", Status{}, false},
		{"1.1.1", Status{}, false},
		{"3.1.1", Status{}, false},
		{"6.1.1", Status{}, false},
		{"0.0.0", Status{}, false},
		{"5.01.1", Status{}, false},
		{"5.1.00", Status{}, false},
		{"5.1000.1", Status{}, false},
		{"5.1.1000", Status{}, false},
		{"5.-1.1", Status{}, false},
		{"5.1.1x", Status{}, false},
		{"10.0.0.1", Status{}, false},
		{"5,1,1", Status{}, false},
		{"5.1.٣", Status{}, false},
	}
	for _, tt := range tests {
		got, ok := ParseStatus(tt.in)
		if got != tt.want && tt.ok || ok != tt.ok {
			t.Errorf("ParseStatus(%q) = %v, %v, want %v, %v", tt.in, got, ok, tt.want, tt.ok)
		}
		if ok && got.String() != tt.in {
			t.Errorf("ParseStatus(%q).String() = %q", tt.in, got)
		}
	}
}

func TestQ07_DefaultStatus(t *testing.T) {
	tests := map[int]string{
		220: "2.0.0", 221: "2.0.0", 235: "2.7.0", 250: "2.0.0", 251: "2.1.5", 299: "2.0.0",
		334: "", 354: "", 199: "", 600: "", 0: "", -450: "",
		421: "4.3.2", 432: "4.7.12", 451: "4.3.0", 452: "4.3.1", 454: "4.7.0", 455: "4.5.4", 459: "4.0.0",
		500: "5.5.2", 501: "5.5.4", 502: "5.5.1", 503: "5.5.1", 504: "5.5.4", 521: "5.3.2", 530: "5.7.0", 534: "5.7.9",
		535: "5.7.8", 538: "5.7.11", 550: "5.0.0", 551: "5.1.6", 552: "5.3.4", 554: "5.0.0", 555: "5.5.4", 556: "5.1.10",
	}
	for code, want := range tests {
		if got := DefaultStatus(code).String(); got != want {
			t.Errorf("DefaultStatus(%d) = %q, want %q", code, got, want)
		}
	}
	for code := 200; code < 600; code++ {
		if s := DefaultStatus(code); !s.IsZero() && s.Class() != code/100 {
			t.Errorf("DefaultStatus(%d) = %v: the class must agree with the code (RFC 2034 section 4)", code, s)
		}
	}
}

func FuzzStatus(f *testing.F) {
	for _, s := range []string{"2.0.0", "5.7.26", "4.01.1", "5.1.1.1", "10.0.0.1", "5.999.1000", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		st, ok := ParseStatus(s)
		if !ok {
			return
		}
		if st.String() != s {
			t.Fatalf("ParseStatus(%q) = %v", s, st)
		}
		if st.Class() != 2 && st.Class() != 4 && st.Class() != 5 || st[1] > 999 || st[2] > 999 {
			t.Fatalf("ParseStatus(%q) = %#v, which is out of range", s, st)
		}
	})
}

// TestStatusClass: the class says whether a delivery succeeded, may succeed later, or has failed (RFC 3463 section 2).
func TestStatusClass(t *testing.T) {
	for text, want := range map[string]int{"2.1.5": 2, "4.4.7": 4, "5.1.1": 5, "5.999.999": 5} {
		s, ok := ParseStatus(text)
		if !ok || s.Class() != want {
			t.Errorf("the class of %s is %d, want %d (%t)", text, s.Class(), want, ok)
		}
	}
	if got := (Status{}).Class(); got != 0 {
		t.Errorf("the class of no status is %d", got)
	}
}
