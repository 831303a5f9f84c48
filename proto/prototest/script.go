package prototest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"smtpkit.example/smtp/proto"
)

// A Script is a dialogue between a client and a server, written in a text file. Each line is one step:
//
//	# a comment; the first one says which rule the script is about
//	!key value       a directive, before the first step
//	S: 250 pattern   the server sends this line, where each * stands for any text
//	S... 250         the server sends a reply with this code, of any number of lines; letters stand for any digit: 5yz
//	S... 250 * 3     three such replies
//	S... 421?        the server may send such a reply before it closes; only before CLOSE
//	C: text          the client sends this line
//	C~ "text\n"      the client sends exactly these octets, written as a Go string
//	C+ "text" * 99   the same, 99 times
//	TLS              both begin TLS; what follows is said inside
//	CLOSE            the server closes the connection, having sent nothing more
//	HANGUP           the client closes the connection, having received nothing more
//
// A player plays one side, or both, to a server, a client or an engine. The order of what one side sends is binding;
// how the two sides interleave is not. A player may send all octets of the client at once, or cut in any way. It must
// read while it writes.
//
// # The scripts of this library
//
// The scripts in proto/testdata/scripts are for a server that calls itself mail.example, uses the default extensions
// and accepts messages of up to 10240 octets. It answers 550 to a recipient whose local part begins with "reject", and
// 450 if it begins with "defer". Their directives are
//
//	!rules M04 N13   the rules that the script shows, by the names in this library's list of rules, CONFORMANCE.md
//	!lmtp            the server speaks LMTP
//	!server          takes a whole server, with extensions and limits; the engine alone does not know the rule
//	!insecure-auth   the server accepts the password "secret" of the user "alice" in plaintext
//
// The scripts in proto/testdata/scripts/client are for a client that sends one message, with the header field "Subject:
// hello" and a line with a dot, and closes the connection, with or without QUIT: HANGUP stands for either. They have no
// patterns. Their directives are
//
//	!from, !to       the addresses of the envelope, with spaces between
//	!result          ok, some (recipients refused), temporary, permanent or protocol (error)
//
// Only !rules has a meaning for Parse, which puts the names into Rules; scripts elsewhere do not need it. All other
// directives are for the player.
type Script struct {
	Name string // the name given to Parse, for messages
	// Directives holds what the script asks of its player, such as an option of the server. A player should refuse to play
	// a script with a directive that it does not know.
	Directives map[string]string
	// Rules are the names of the rules that the script shows, from its !rules line. They are for names of tests, see
	// [Script.Title].
	Rules []string
	Steps Steps
}

// Title returns a name for a test that plays the script: the rules, and the file without its directory and ending.
func (s *Script) Title() string {
	name := strings.TrimSuffix(filepath.Base(s.Name), ".smtp")
	return strings.Join(append(slices.Clone(s.Rules), name), " ")
}

// Steps are steps in their order.
type Steps []Step

// A Step is one thing that one side does.
type Step struct {
	Kind Kind
	Text string // the pattern of a Line, the code of a Reply, or the line that a client sends
	Raw  []byte // the octets of a Send
	// Optional says that a Reply need not come.
	Optional bool

	Line   int // the number of the line in the file, from 1
	script string
}

// A Kind tells which side does what in a Step.
type Kind uint8

// The kinds of steps.
const (
	Line   Kind = iota // the server sends a line
	Reply              // the server sends a whole reply
	Send               // the client sends octets
	TLS                // both sides begin TLS
	Close              // the server closes the connection
	Hangup             // the client closes the connection
)

// maxRaw bounds the octets of one step, and maxReplies the replies of one line.
const (
	maxRaw     = 64 << 20
	maxReplies = 100_000
)

// Parse parses a script. Errors begin with name and the number of the line.
func Parse(name string, data []byte) (*Script, error) {
	s := &Script{Name: name, Directives: make(map[string]string)}
	number := 0
	for text := range strings.Lines(string(data)) {
		number++
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
		if err := s.parseLine(number, text); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	if len(s.Steps) == 0 {
		return nil, fmt.Errorf("%s:%d: the script has no steps", name, number)
	}
	if last := s.Steps[len(s.Steps)-1]; last.Optional {
		return nil, fmt.Errorf("%s:%d: an optional reply must be followed by CLOSE", name, last.Line)
	}
	return s, nil
}

// ReadDir parses the scripts dir/*.smtp in the order of their names. It is an error if there are none.
func ReadDir(dir string) ([]*Script, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.smtp"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("prototest: no scripts *.smtp in %s", dir)
	}
	var scripts []*Script
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		s, err := Parse(filepath.Base(path), data)
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, s)
	}
	return scripts, nil
}

func (s *Script) parseLine(number int, text string) error {
	op, arg, spaced := strings.Cut(text, " ")
	switch {
	case strings.TrimSpace(text) == "" || text[0] == '#':
		return nil
	case text[0] == '!':
		return s.parseDirective(op[1:], strings.TrimSpace(arg))
	}
	step := Step{Line: number, script: s.Name}
	count := 1
	var err error
	switch op {
	case "S:":
		step.Kind, step.Text = Line, arg
		err = checkLine(arg)
	case "S...":
		step.Kind = Reply
		step.Text, step.Optional, count, err = parseReply(arg)
	case "C:":
		step.Kind, step.Text, step.Raw = Send, arg, []byte(arg+"\r\n")
		err = checkLine(arg)
	case "C~", "C+":
		step.Kind = Send
		step.Raw, err = parseRaw(op, arg)
	case "TLS":
		step.Kind = TLS
	case "CLOSE":
		step.Kind = Close
	case "HANGUP":
		step.Kind = Hangup
	default:
		return fmt.Errorf("cannot understand %q: a line begins with S:, S..., C:, C~, C+, TLS, CLOSE, HANGUP, ! or #", text)
	}
	if err != nil {
		return err
	}
	if spaced && step.Kind >= TLS {
		return fmt.Errorf("nothing can follow %s", op)
	}
	if err := s.checkOrder(step); err != nil {
		return err
	}
	for range count {
		s.Steps = append(s.Steps, step)
	}
	return nil
}

// checkOrder returns why step cannot follow the steps parsed so far.
func (s *Script) checkOrder(step Step) error {
	if len(s.Steps) == 0 {
		return nil
	}
	last := s.Steps[len(s.Steps)-1]
	if last.Kind == Close || last.Kind == Hangup {
		return errors.New("nothing can be said on a connection that is closed")
	}
	if last.Optional && step.Kind != Close {
		return fmt.Errorf("the optional reply of line %d must be followed by CLOSE", last.Line)
	}
	return nil
}

func (s *Script) parseDirective(key, value string) error {
	if key == "" {
		return errors.New("a directive has a name: !name value")
	}
	if len(s.Steps) > 0 {
		return fmt.Errorf("the directive %s must come before the first step", key)
	}
	if _, twice := s.Directives[key]; twice || key == "rules" && s.Rules != nil {
		return fmt.Errorf("the directive %s is given twice", key)
	}
	if key == "rules" {
		if s.Rules = strings.Fields(value); len(s.Rules) == 0 {
			return errors.New("the directive rules names the rules: !rules M04 N13")
		}
		return nil
	}
	s.Directives[key] = value
	return nil
}

// checkLine refuses characters that cannot be seen in a file.
func checkLine(text string) error {
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("the line has the octet %#02x in it: write it with C~ and quotes", c)
		}
	}
	if strings.HasSuffix(text, " ") {
		return errors.New("the line ends with a space, which cannot be seen: use C~ and quotes, or a *")
	}
	return nil
}

func parseReply(arg string) (code string, optional bool, count int, err error) {
	count = 1
	code, times, repeated := strings.Cut(arg, " * ")
	if repeated {
		if count, err = strconv.Atoi(times); err != nil || count < 1 || count > maxReplies {
			return "", false, 0, fmt.Errorf("%q is not a number from 1 to %d", times, maxReplies)
		}
	}
	code, optional = strings.CutSuffix(code, "?")
	if len(code) != 3 || strings.Trim(code, "0123456789xyz") != "" || optional && repeated {
		return "", false, 0, fmt.Errorf("%q is no reply code: write 250, 5yz, 250 * 3 or 5yz?", arg)
	}
	return code, optional, count, nil
}

func parseRaw(op, arg string) ([]byte, error) {
	quoted, err := strconv.QuotedPrefix(arg)
	if err != nil || quoted[0] == '\'' {
		return nil, fmt.Errorf("%q does not begin with a string in quotes", arg)
	}
	text, err := strconv.Unquote(quoted)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quoted, err)
	}
	rest := arg[len(quoted):]
	if op == "C~" {
		if rest != "" {
			return nil, fmt.Errorf("%q follows the string", rest)
		}
		return []byte(text), nil
	}
	times, ok := strings.CutPrefix(rest, " * ")
	n, err := strconv.Atoi(times)
	if !ok || err != nil || n < 1 || n > maxRaw/max(1, len(text)) {
		return nil, fmt.Errorf("%q must be \" * \" and a number, for %d octets at most", rest, maxRaw)
	}
	return bytes.Repeat([]byte(text), n), nil
}

// Parts returns the steps cut at each TLS step, which belongs to neither part. A script without TLS has one part.
func (s *Script) Parts() []Steps {
	var parts []Steps
	begin := 0
	for i, step := range s.Steps {
		if step.Kind == TLS {
			parts = append(parts, s.Steps[begin:i])
			begin = i + 1
		}
	}
	return append(parts, s.Steps[begin:])
}

// ClientBytes returns all octets that the client sends. The steps must be a part of a script; see [Script.Parts].
func (p Steps) ClientBytes() []byte {
	var b []byte
	for _, step := range p {
		b = append(b, step.Raw...)
	}
	return b
}

// Check compares all octets that a server has sent with the steps. The error names the first step that does not match.
// The steps must be a part of a script.
func (p Steps) Check(out []byte) error {
	for _, step := range p {
		n, err := step.Take(out)
		if err != nil {
			return err
		}
		if n == 0 && step.fromServer() && !step.Optional {
			return step.errorf("the server says %q and nothing more", out)
		}
		out = out[n:]
	}
	switch {
	case len(out) == 0:
		return nil
	case len(p) == 0:
		return fmt.Errorf("the server says %q, and the script nothing", out)
	}
	return p[len(p)-1].errorf("the server says %q after the last step", out)
}

// Take compares the beginning of out with what the server sends in this step, and returns how many octets that is. It
// returns 0 if they are not all there yet, or if the step is the client's. The error says why out does not match.
func (st Step) Take(out []byte) (n int, err error) {
	switch st.Kind {
	case Line:
		line, _, ok := bytes.Cut(out, []byte("\r\n"))
		if !ok {
			return 0, nil
		}
		if bytes.ContainsAny(line, "\r\n") {
			return 0, st.errorf("the server says %q: lines end with CRLF", line)
		}
		if !Match(st.Text, string(line)) {
			return 0, st.errorf("the server says %q", line)
		}
		return len(line) + 2, nil
	case Reply:
		reply, n, err := proto.ParseReply(out, false, proto.Limits{})
		if err != nil {
			return 0, st.errorf("%v", err)
		}
		if n > 0 && !matchCode(st.Text, reply.Code) {
			return 0, st.errorf("the server says %q", out[:n])
		}
		return n, nil
	}
	return 0, nil
}

// Match reports whether line matches pattern, where each * stands for any text, or none.
func Match(pattern, line string) bool {
	first, rest, found := strings.Cut(pattern, "*")
	line, ok := strings.CutPrefix(line, first)
	for ok && found {
		var part string
		part, rest, found = strings.Cut(rest, "*")
		if !found {
			return strings.HasSuffix(line, part)
		}
		_, line, ok = strings.Cut(line, part)
	}
	return ok && line == ""
}

func matchCode(pattern string, code int) bool {
	for i, c := range []byte(strconv.Itoa(code)) {
		if pattern[i] != c && pattern[i] < 'x' {
			return false
		}
	}
	return true
}

func (st Step) fromServer() bool { return st.Kind == Line || st.Kind == Reply }

// String returns the step as a line of a script, with the place in the file.
func (st Step) String() string {
	var text string
	switch st.Kind {
	case Line:
		text = "S: " + st.Text
	case Reply:
		text = "S... " + st.Text
		if st.Optional {
			text += "?"
		}
	case Send:
		text = fmt.Sprintf("C~ %.100q", st.Raw)
	default:
		text = map[Kind]string{TLS: "TLS", Close: "CLOSE", Hangup: "HANGUP"}[st.Kind]
	}
	return fmt.Sprintf("%s:%d: %s", st.script, st.Line, text)
}

func (st Step) errorf(format string, args ...any) error {
	return fmt.Errorf("%v: "+format, append([]any{st}, args...)...)
}
