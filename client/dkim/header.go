package dkim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// A header is the header of a message.
type header struct {
	raw   []byte         // its fields, with CRLF at each end of line
	count map[string]int // how many fields have a name, in lower case
	from  []byte         // what follows the colon in From, with commas between several such fields
	wrong error          // why no more of it could be read; it is as a MessageError
}

// readHeader reads a header and the empty line behind it from text whose lines end with CRLF. The error is one of
// reading.
func readHeader(r *bufio.Reader, most int) (*header, error) {
	h := &header{count: make(map[string]int)}
	from := false // whether the field being read is From
	for start := 0; ; start = len(h.raw) {
		err := h.readLine(r, most)
		if err != nil && err != io.EOF || h.wrong != nil {
			return h, err
		}
		line := bytes.TrimSuffix(h.raw[start:], []byte("\r\n"))
		if len(line) == 0 {
			h.raw = h.raw[:start]
			return h, nil
		}
		if line[0] == ' ' || line[0] == '\t' {
			if start == 0 {
				h.wrong = lineError(line)
				return h, nil
			}
		} else {
			before, value, ok := strings.Cut(string(line), ":")
			name := strings.TrimRight(before, " \t") // the obsolete syntax permits them (RFC 5322 section 4.5)
			if !ok || !isFieldName(name) {
				h.wrong = lineError(line)
				return h, nil
			}
			name = strings.ToLower(name)
			h.count[name]++
			if from = name == "from"; from {
				h.from, line = append(h.from, ','), []byte(value)
			}
		}
		if from {
			h.from = append(h.from, line...)
		}
		if err == io.EOF {
			if !bytes.HasSuffix(h.raw, []byte("\r\n")) {
				h.raw = append(h.raw, '\r', '\n')
			}
			return h, nil
		}
	}
}

// readLine adds a line to raw. With io.EOF it is the last one, and may be empty.
func (h *header) readLine(r *bufio.Reader, most int) error {
	for {
		part, err := r.ReadSlice('\n')
		if len(h.raw)+len(part) > most {
			h.wrong = &client.MessageError{What: "the header", Err: fmt.Errorf("it has more than %d octets: "+
				"write an empty line between the header and the text", most)}
			return nil
		}
		h.raw = append(h.raw, part...)
		if err != bufio.ErrBufferFull {
			return err
		}
	}
}

func lineError(line []byte) error {
	return &client.MessageError{
		What: fmt.Sprintf("the line %.60q in the header", line),
		Err: errors.New("it is no header field, so the message cannot be signed: write an empty line between the header " +
			"and the text"),
	}
}

// isFieldName reports whether s can be the name of a header field (RFC 5322 section 3.6.8).
func isFieldName(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' || s[i] == ':' {
			return false
		}
	}
	return s != ""
}

// list returns the names of the fields to be signed, each as often as the tag h= has it.
func (c *config) list(h *header) ([]string, error) {
	var list []string
	length := 0
	add := func(name string, times int) {
		for ; times > 0 && length <= maxList; times-- {
			list = append(list, name)
			length += len(name) + len(":")
		}
	}
	for _, name := range c.fields {
		add(name, h.count[strings.ToLower(name)]+1)
	}
	for _, name := range c.ifPresent {
		key := strings.ToLower(name)
		n := h.count[key]
		if n > 0 && !strings.HasPrefix(key, "resent-") {
			n++
		}
		add(name, n)
	}
	if length > maxList {
		return nil, &client.MessageError{What: "the header", Err: errors.New("it has more fields to be signed than a " +
			"signature can list: remove those that are there several times, or shorten Options.Fields and Options.IfPresent")}
	}
	return list, nil
}

// domains returns the domains of the addresses in the text of a From field, each once, as config writes them. What is
// no address with a domain name is left out: there is no key for it.
func domains(text []byte) []string {
	var all []string
	known := make(map[string]bool)
	var box strings.Builder // the mailbox so far, without comments and quoted strings
	end := func() {
		s := box.String()
		box.Reset()
		if _, angle, ok := strings.Cut(s, "<"); ok {
			s, _, _ = strings.Cut(angle, ">")
		}
		at := strings.LastIndexByte(s, '@')
		if at < 0 {
			return
		}
		d, err := proto.ParseDomain(strings.Join(strings.Fields(s[at+1:]), ""))
		if err != nil || d.Addr().IsValid() {
			return
		}
		if !known[d.Key()] {
			known[d.Key()] = true
			all = append(all, d.Key())
		}
	}
	depth, quoted, angle := 0, false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && (quoted || depth > 0):
			i++
		case quoted:
			quoted = c != '"'
		case c == '(':
			depth++
		case depth > 0:
			if c == ')' {
				depth--
			}
		case c == '"':
			quoted = true
		case c == ',' && !angle, c == ';' && !angle: // the obsolete syntax has commas in front of an address in brackets
			end()
		case c == ':' && !angle:
			box.Reset() // that was the name of a group
		default:
			angle = c == '<' || angle && c != '>'
			box.WriteByte(c)
		}
	}
	end()
	return all
}
