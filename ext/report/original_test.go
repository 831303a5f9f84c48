package report

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

// R13, R16, V06: what is returned as the header of a message has its fields, no other lines, and nothing of its body,
// also if they are not told apart by an empty line (RFC 6522 section 4, RFC 8689 section 5).
func TestR13R16V06_ReturnedHeader(t *testing.T) {
	wide := strings.Repeat("0123456789abcdef", 1<<10)
	for name, tt := range map[string]struct{ content, want string }{
		"body without a line between": {"Subject: x\r\nthe secret\r\nX-No: field\r\n\r\nrest\r\n", "Subject: x\r\n"},
		"body alone":                  {"the secret\r\nof the body\r\n", ""},
		"body alone, indented":        {" the secret\r\nX: y\r\n\r\n", ""},
		"body in a long line":         {"Subject: x\n" + wide + wide + ": y\nX: y\n", "Subject: x\r\n"},
		"a name in UTF-8":             {"Subject: x\nGrüße: an alle\nX: y\n", "Subject: x\r\n"},
		"no name":                     {"Subject: x\n: y\nX: y\n", "Subject: x\r\n"},
		"folded":                      {"Subject: x\n\ty\n z: a\nX : y\n\nthe secret\n", "Subject: x\r\n\ty\r\n z: a\r\nX : y\r\n"},
		"from a mailbox file":         {"From a@b.example Sun Nov 22 04:00:00 2026\nSubject: x\n\nthe secret\n", "Subject: x\r\n"},
		"From in the middle":          {"Subject: x\nFrom here on, a secret\nX: y\n", "Subject: x\r\n"},
		"CR":                          {"Subject: x\rX-Injected: yes\r\r\nX: y\r\n\r\n", "Subject: x?X-Injected: yes?\r\nX: y\r\n"},
		"CR alone":                    {"Subject: x\r\rthe secret\r", "Subject: x??the secret?\r\n"},
		"CR in UTF-8":                 {"Subject: ü\rX-Injected: yes\n\n", "Subject: ü?X-Injected: yes\r\n"},
		"CRLF where a buffer ends":    {"Subject: " + wide[len("Subject: \r"):] + "\r\nX: y\n\nz\n", "Subject: " + wide[len("Subject: \r"):] + "\r\nX: y\r\n"},
	} {
		for _, carries := range []ext.Feature{0, ext.EightBit, ext.UTF8} {
			opt := &Options{Hostname: "mail.example.org", Carries: carries}
			n := made(t, message(t, "REQUIRETLS", tt.content), failed(t, "b@example.com"), opt)
			if _, leaves := dissect(t, n); leaves[2].content != tt.want {
				t.Errorf("%s: %.200q, want %.200q", name, leaves[2].content, tt.want)
			}
		}
	}
}
