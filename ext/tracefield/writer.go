package tracefield

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// width is how long a line becomes where it can be folded: one octet less than the 78 of RFC 5322 section 2.1.1, since
	// a semicolon may follow.
	width = 77
	// maxText is how many octets of a stranger's text are written. A domain has no more (RFC 5321 section 4.5.3.1.2), and
	// with a backslash before each one it is still shorter than a line may be.
	maxText = 255
	// maxComments is how many comments of the caller's are written.
	maxComments = 8
)

// A writer writes a field and folds it. A word is never broken.
type writer struct {
	b     []byte
	start int  // of the line
	first bool // nothing stands behind the name yet
	utf8  bool
}

// begin begins a field.
func begin(dst []byte, name string, utf8 bool) writer {
	return writer{b: append(dst, name...), start: len(dst), first: true, utf8: utf8}
}

// words writes words that belong together, on a new line if the one in hand has no room for all of them.
func (w *writer) words(words ...string) {
	length := 0
	for _, word := range words {
		length += 1 + len(word)
	}
	// The first words stay on the line of the name, which would otherwise be a line of its own.
	if !w.first && len(w.b)-w.start+length > width {
		w.fold()
	}
	w.first = false
	for i, word := range words {
		if i > 0 && len(w.b)-w.start+1+len(word) > width {
			w.fold()
		}
		w.b = append(append(w.b, ' '), word...)
	}
}

// fold begins a new line. The space at its beginning comes with the next word.
func (w *writer) fold() {
	w.b = append(w.b, "\r\n"...)
	w.start = len(w.b)
}

// clause writes a clause, or a comment in place of it if the text is not as the clause has to have it. It reports
// whether it has written a clause.
func (w *writer) clause(name, text string, admits func(string) bool) bool {
	if len(text) > maxText || !admits(text) {
		w.comment(name+"=", text)
		return false
	}
	w.words(name, text)
	return true
}

// comment writes text in parentheses, with a prefix in front. White space becomes a space, and what a field must not
// have a question mark.
func (w *writer) comment(prefix, text string) {
	words := strings.Fields(clean(text, w.utf8))
	if len(words) == 0 {
		return
	}
	for i, word := range words {
		words[i] = escape.Replace(word)
	}
	words[0] = "(" + prefix + words[0]
	words[len(words)-1] += ")"
	w.words(words...)
}

// escape puts backslashes where a comment needs them (RFC 5322 section 3.2.2).
var escape = strings.NewReplacer("(", `\(`, ")", `\)`, `\`, `\\`)

// clean returns at most maxText octets of text, with a question mark for each character that must not be there.
func clean(text string, utf8OK bool) string {
	cut := len(text) > maxText
	if cut {
		text = text[:maxText-len("...")]
		for range utf8.UTFMax - 1 {
			// Not within a character.
			if r, n := utf8.DecodeLastRuneInString(text); r != utf8.RuneError || n != 1 {
				break
			}
			text = text[:len(text)-1]
		}
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\r' || r == '\n':
			return ' '
		case r == utf8.RuneError || r > unicode.MaxASCII && !utf8OK || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
	if cut {
		text += "..."
	}
	return text
}
