package ehlo

import (
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/testkit"
)

// paramCase is a value of a parameter, and whether it is well-formed.
type paramCase struct {
	value string
	ok    bool
}

// testParam checks which values the description of a parameter accepts.
func testParam(t *testing.T, params []ext.Param, key string, cases []paramCase) {
	t.Helper()
	s := testkit.MakeSet(t, ext.Extension{Keyword: "XTEST", Mail: params})
	for _, c := range cases {
		e := s.CheckMail(testkit.All(s), testkit.One(key, c.value))
		if c.ok && e != nil || !c.ok && (e == nil || e.Code != 501) {
			t.Errorf("%s=%.60s is taken for well-formed: %v", key, c.value, e)
		}
	}
}
