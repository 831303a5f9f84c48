package mx

import (
	"bufio"
	"bytes"
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
		line, err := readField(r)
		name, value, ok := strings.Cut(line, ":")
		switch {
		case ok && strings.EqualFold(strings.TrimRight(name, " \t"), "TLS-Required"):
			return strings.EqualFold(strings.TrimSpace(value), "No")
		case err != nil || line == "":
			return false
		}
	}
}

// readField returns the next field of a header, unfolded, or "" at the end of the header. Of a long line it returns
// what fits into the buffer of r.
func readField(r *bufio.Reader) (string, error) {
	var field strings.Builder
	for {
		line, err := r.ReadSlice('\n')
		if field.Len() < r.Size() {
			field.Write(bytes.TrimRight(line, "\r\n"))
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil || field.Len() == 0 {
			return field.String(), err
		}
		if next, err := r.Peek(1); err != nil || next[0] != ' ' && next[0] != '\t' {
			return field.String(), nil
		}
	}
}

// isTLS reports whether err says that TLS failed.
func isTLS(err error) bool {
	var failed *ext.TLSError
	return errors.As(err, &failed)
}
