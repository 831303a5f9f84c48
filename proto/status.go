package proto

import "strconv"

// A Status is an enhanced mail system status code: class, subject and detail (RFC 3463 section 2). Status{5, 1, 1} is
// 5.1.1, a mailbox that does not exist. The class is 2, 4 or 5; subject and detail are at most 999. The zero value
// means that there is no status code.
type Status [3]uint16

// Class returns the first number of s: 2 for success, 4 for a temporary failure, 5 for a permanent failure, and 0 for
// the zero value.
func (s Status) Class() int { return int(s[0]) }

// ParseStatus parses a status code, which must be all of s. It reports false unless the class is 2, 4 or 5, and subject
// and detail are numbers of one to three digits without leading zeros (RFC 2034 section 4, RFC 3463 section 2).
func ParseStatus(s string) (Status, bool) {
	st, n := scanStatus(s)
	return st, n > 0 && n == len(s)
}

// DefaultStatus returns the status code for a reply that was given none. Its class is the first digit of code. Subject
// and detail are those that RFC 3463 and the RFC of the reply code attach to the code. They are 0 for a code of many
// uses: 550 and 554 mean a bad mailbox as well as a breach of policy, and a sender that is told 5.1.1 may remove the
// address from its lists. A code outside 200 to 299 and 400 to 599 has no status code.
func DefaultStatus(code int) Status {
	class := code / 100
	if class != 2 && class != 4 && class != 5 {
		return Status{}
	}
	subject, detail := defaultDetail(code)
	return Status{uint16(class), subject, detail}
}

func defaultDetail(code int) (subject, detail uint16) {
	switch code {
	case 251:
		return 1, 5
	case 551:
		return 1, 6
	case 553:
		return 1, 3
	case 556:
		return 1, 10 // RFC 7505 section 4
	case 450:
		return 2, 1
	case 451:
		return 3, 0
	case 452:
		return 3, 1
	case 421, 521:
		return 3, 2 // RFC 7504 section 4
	case 552:
		return 3, 4
	case 252:
		return 5, 0
	case 502, 503:
		return 5, 1
	case 500:
		return 5, 2
	case 455, 501, 504, 555:
		return 5, 4
	case 235, 454, 530:
		return 7, 0 // this and what follows: RFC 4954 section 6, RFC 5248 section 2.4
	case 535:
		return 7, 8
	case 534:
		return 7, 9
	case 523:
		return 7, 10
	case 538:
		return 7, 11
	case 432:
		return 7, 12
	case 525:
		return 7, 13
	}
	return 0, 0
}

// IsZero reports whether s is the zero value, which means that there is no status code.
func (s Status) IsZero() bool { return s == Status{} }

// String returns s as it is sent, such as "5.1.1", and "" for the zero value.
func (s Status) String() string {
	if s.IsZero() {
		return ""
	}
	return string(s.append(make([]byte, 0, len("5.999.999"))))
}

func (s Status) append(dst []byte) []byte {
	if s[0] < 10 && s[1] < 10 && s[2] < 10 { // nearly all are so
		return append(dst, '0'+byte(s[0]), '.', '0'+byte(s[1]), '.', '0'+byte(s[2]))
	}
	dst = strconv.AppendUint(dst, uint64(s[0]), 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(s[1]), 10)
	dst = append(dst, '.')
	return strconv.AppendUint(dst, uint64(s[2]), 10)
}

// within reports whether s can be sent with code.
func (s Status) within(code int) bool {
	return s.Class() == code/100 && s[1] <= 999 && s[2] <= 999
}

// scanStatus parses a status code at the beginning of s, and returns its length, or 0 if there is none. Only a space or
// the end of s may follow it: 5.1.1.1 is no status code.
func scanStatus[T string | []byte](s T) (Status, int) {
	if len(s) < len("2.0.0") || s[1] != '.' || s[0] != '2' && s[0] != '4' && s[0] != '5' {
		return Status{}, 0
	}
	subject, i := scanDetail(s, 2)
	if i == 0 || i == len(s) || s[i] != '.' {
		return Status{}, 0
	}
	detail, i := scanDetail(s, i+1)
	if i == 0 || i < len(s) && s[i] != ' ' {
		return Status{}, 0
	}
	return Status{uint16(s[0] - '0'), subject, detail}, i
}

// scanDetail parses a number of at most three digits at s[i:], and returns where it ends, or 0 if there is none.
func scanDetail[T string | []byte](s T, i int) (n uint16, end int) {
	for end = i; end < len(s) && end < i+3 && '0' <= s[end] && s[end] <= '9'; end++ {
		n = n*10 + uint16(s[end]-'0')
	}
	if end == i || s[i] == '0' && end > i+1 {
		return 0, 0
	}
	return n, end
}
