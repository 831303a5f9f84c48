package mx

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

// maxHeader bounds how much of a header is looked at.
const maxHeader = 256 << 10

// waivesTLS reports whether the header of the message has the field "TLS-Required: No" (RFC 8689 section 3).
func waivesTLS(shared *client.Shared) bool {
	body := shared.Message(nil).Body
	if body == nil {
		return false
	}
	if c, ok := body.(io.Closer); ok {
		defer c.Close()
	}
	r := bufio.NewReaderSize(io.LimitReader(body, maxHeader), 4096)
	for {
		line, err := r.ReadSlice('\n')
		name, value, ok := strings.Cut(string(line), ":")
		if ok && strings.EqualFold(strings.TrimRight(name, " \t"), "TLS-Required") {
			return strings.EqualFold(strings.TrimSpace(value), "No")
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil || len(strings.TrimRight(string(line), "\r\n")) == 0 {
			return false
		}
	}
}

// isTLS reports whether err says that TLS failed.
func isTLS(err error) bool {
	var failed *ext.TLSError
	return errors.As(err, &failed)
}
