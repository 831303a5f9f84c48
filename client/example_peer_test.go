package client_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
)

// pretend returns a DialContext for examples that run. It connects to a server in memory that takes everything but what
// refusals has, by the beginning of a command, such as "RCPT TO:<bob@example.net>": "550 5.1.1 No such mailbox".
func pretend(refusals map[string]string) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			in := bufio.NewScanner(there)
			for reply, content := "220 mail.example.org", false; ; {
				if _, err := fmt.Fprint(there, reply, "\r\n"); err != nil || strings.HasPrefix(reply, "221") {
					return
				}
				for in.Scan() && content && in.Text() != "." {
				}
				line := in.Text()
				if in.Err() != nil {
					return
				}
				verb, _, _ := strings.Cut(line, " ")
				reply, content = map[string]string{"DATA": "354 Go on", "QUIT": "221 Bye", ".": "250 Queued",
					"AUTH": "235 Welcome", "EHLO": "250-mail.example.org\r\n250 AUTH PLAIN"}[verb], verb == "DATA"
				for beginning, refusal := range refusals {
					if strings.HasPrefix(line, beginning) {
						reply, content = refusal, false
					}
				}
				if reply == "" {
					reply = "250 Fine"
				}
			}
		}()
		return here, nil
	}
}
