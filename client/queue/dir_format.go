package queue

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

// The first line of a message: the lengths in octets and the checksums (CRC-32C) of the head, which is what stands
// between this line and the content, and of the content.
const (
	lineHead    = "smtpkit queue 1, head "
	lineContent = ", content "
	lineLength  = len("smtpkit queue 1, head 0000000000 00000000, content 0000000000000000000 00000000\n")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is the error of a file whose content is not what was written.
var errDamaged = errors.New("the file is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...))
}

// appendHead appends the head of a message: the envelope, the jobs, and an empty line.
func appendHead(b []byte, m *Message, jobs []*Job) ([]byte, error) {
	e := encoder{b: b}
	message := *m
	message.Size = 0 // it stands in the first line
	message.appendJSON(&e)
	e.b = append(e.b, '\n')
	for _, j := range jobs {
		job := *j
		job.Epoch = 0
		job.appendJSON(&e)
		e.b = append(e.b, '\n')
	}
	return append(e.b, '\n'), e.err
}

// A firstLine is what stands in the first line of a message.
type firstLine struct {
	head, content       int64
	headCRC, contentCRC uint32
}

// add adds some of the content.
func (l *firstLine) add(content []byte) {
	l.content += int64(len(content))
	l.contentCRC = crc32.Update(l.contentCRC, castagnoli, content)
}

func (l *firstLine) append(b []byte) []byte {
	b = appendDigits(append(b, lineHead...), uint64(l.head), 10, 10)
	b = appendDigits(append(b, ' '), uint64(l.headCRC), 16, 8)
	b = appendDigits(append(b, lineContent...), uint64(l.content), 10, 19)
	b = appendDigits(append(b, ' '), uint64(l.contentCRC), 16, 8)
	return append(b, '\n')
}

// appendDigits appends the last digits of n.
func appendDigits(b []byte, n, base uint64, digits int) []byte {
	b = append(b, make([]byte, digits)...)
	for i := len(b) - 1; i >= len(b)-digits; i-- {
		b[i] = "0123456789abcdef"[n%base]
		n /= base
	}
	return b
}

// parse parses the first line of b.
func (l *firstLine) parse(b []byte) error {
	if len(b) < lineLength {
		return damaged("the first line is missing")
	}
	fields := strings.Fields(string(b[:lineLength]))
	if len(fields) < 3 || fields[0] != "smtpkit" || fields[1] != "queue" || fields[2] != "1," {
		return damaged("the first line is not one of version 1")
	}
	if len(fields) == 9 {
		l.head, l.content = number(fields[4], 10), number(fields[7], 10)
		l.headCRC, l.contentCRC = uint32(number(strings.TrimSuffix(fields[5], ","), 16)), uint32(number(fields[8], 16))
	}
	// All digits have to be where they were written.
	if again := l.append(make([]byte, 0, lineLength)); !bytes.Equal(again, b[:lineLength]) {
		return damaged("the first line is malformed")
	}
	return nil
}

func number(s string, base int) int64 {
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil {
		return -1
	}
	return n
}

// A head is what the file of a message has before the content.
type head struct {
	firstLine
	message []byte   // JSON
	jobs    [][]byte // JSON
}

// usualHead is how much is read at once. More is read if a head is longer.
const usualHead = 2048

// readHead reads the head of a message, and checks it and the length of the file. Errors other than those of the file
// system wrap errDamaged. It reads into buf, or more if that is too small.
func readHead(f storedFile, buf []byte) (h *head, err error) {
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	h = new(head)
	if err := h.parse(buf[:n]); err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	end := int64(lineLength) + h.head
	if size != end+h.content {
		return nil, damaged("it has %d octets, and should have %d", size, end+h.content)
	}
	if int64(n) < end {
		all := make([]byte, end)
		if _, err := f.ReadAt(all[copy(all, buf[:n]):], int64(n)); err != nil && err != io.EOF {
			return nil, err
		}
		buf = all
	}
	return h, h.split(buf[lineLength:end])
}

// split checks a head and splits it into its lines.
func (h *head) split(b []byte) error {
	if crc32.Checksum(b, castagnoli) != h.headCRC {
		return damaged("the checksum of the head is wrong")
	}
	lines := bytes.Split(b, []byte{'\n'})
	// The last two are empty: an empty line, and what is behind it.
	if len(lines) < 4 || len(lines[len(lines)-1]) > 0 || len(lines[len(lines)-2]) > 0 {
		return damaged("the head is malformed")
	}
	h.message, h.jobs = lines[0], lines[1:len(lines)-2]
	return nil
}

// decodeMessage returns the message.
func (h *head) decodeMessage() (*Message, error) {
	m := new(Message)
	if err := m.UnmarshalJSON(h.message); err != nil {
		return nil, damaged("%v", err)
	}
	m.Size = h.content
	return m, nil
}

// job returns the line of a job, or nil.
func (h *head) job(id JobID) []byte {
	prefix := jobPrefix(id)
	for _, line := range h.jobs {
		if isOfJob(line, prefix) {
			return line
		}
	}
	return nil
}

// jobPrefix returns how the JSON of a job begins, without the octet that follows the ID.
func jobPrefix(id JobID) []byte {
	b := make([]byte, 0, 48)
	b = append(b, `{"id":"`...)
	b = append(b, id.Message...)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(id.N), 10)
	return append(b, '"')
}

func isOfJob(line, prefix []byte) bool { return bytes.HasPrefix(line, prefix) }

// A line of a state file is the checksum of the JSON, a space, and the JSON.
const stateSum = len("00000000 ")

// appendState appends the line of a job.
func appendState(b []byte, j *Job) ([]byte, error) {
	at := len(b)
	e := encoder{b: append(b, "00000000 "...)}
	job := *j
	job.Epoch = 0
	job.appendJSON(&e)
	sealState(e.b[at:])
	return append(e.b, '\n'), e.err
}

// appendDone appends the line of a job that is done.
func appendDone(b []byte, id JobID) []byte {
	at := len(b)
	b = append(b, "00000000 "...)
	b = append(b, jobPrefix(id)...)
	b = append(b, '}')
	sealState(b[at:])
	return append(b, '\n')
}

// sealState writes the checksum to the beginning of a line.
func sealState(line []byte) {
	const hex = "0123456789abcdef"
	sum := crc32.Checksum(line[stateSum:], castagnoli)
	for i := range 8 {
		line[i] = hex[sum>>(28-4*i)&15]
	}
}

// openState returns the JSON of a line, and false if it is damaged.
func openState(line []byte) ([]byte, bool) {
	if len(line) < stateSum || line[stateSum-1] != ' ' {
		return nil, false
	}
	sum, err := strconv.ParseUint(string(line[:stateSum-1]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[stateSum:], castagnoli) {
		return nil, false
	}
	return line[stateSum:], true
}

// findState returns the last line of a job in a state file, without its checksum, or nil. It reads from the end.
func findState(f storedFile, id JobID) ([]byte, error) {
	end, err := f.Size()
	if err != nil {
		return nil, err
	}
	prefix := jobPrefix(id)
	for window := int64(usualHead); ; window *= 4 {
		start := max(0, end-window)
		b := make([]byte, end-start)
		n, err := f.ReadAt(b, start)
		if err != nil && err != io.EOF {
			return nil, err
		}
		b = b[:n]
		for {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 && start > 0 {
				break // the line begins before the window
			}
			line := b[i+1:]
			if len(line) > stateSum && isOfJob(line[stateSum:], prefix) {
				if json, ok := openState(line); ok {
					return json, nil
				}
			}
			if i < 0 {
				return nil, nil
			}
			b = b[:i]
		}
	}
}

func messageFile(id ID) string { return string(id) + ".msg" }

func stateFile(id ID) string { return string(id) + ".state" }

// splitName returns the parts of the name of a file.
func splitName(name string) (base, kind string) {
	base, kind, _ = strings.Cut(name, ".")
	return base, kind
}

func tempFile(id ID) string { return string(id) + ".tmp" }
