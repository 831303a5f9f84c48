package exttest_test

import (
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/exttest"
)

// The author of this extension has forgotten the space before the parameter.
func Example() {
	kind := ext.Extension{
		Keyword: "XKIND",
		Mail:    []ext.Param{{Key: "XKIND", MaxLength: len("XKIND=MEDIUM"), Values: []string{"SMALL", "MEDIUM"}}},
	}
	err := exttest.Check(kind)
	fmt.Println(strings.ReplaceAll(err.Error(), ", and", ",\nand"))
	kind.Mail[0].MaxLength = len(" XKIND=MEDIUM")
	fmt.Println(exttest.Check(kind))
	// Output: smtp: XKIND: the MAIL parameter XKIND=MEDIUM takes 13 octets with the space before it,
	// and its MaxLength is 12: raise it (RFC 5321 section 4.5.3.1.4)
	// <nil>
}
