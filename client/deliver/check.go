package deliver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"smtpkit.example/smtp/client"
)

// Check returns what is wrong with d that can be told without a message, as an [*Error], or nil. [NewRoutes] calls it.
// A program without a table calls it when it starts.
func (d Maildir) Check() error { return asError(d.settings()) }

// Check returns what is wrong with b that can be told without a message; see [Maildir.Check].
func (b Mbox) Check() error { return asError(b.settings()) }

// Check returns what is wrong with p that can be told without a message; see [Maildir.Check]. It also looks for the
// program and for Dir. Send works as soon as they are there.
func (p Pipe) Check() error {
	if err := p.settings(); err != nil {
		return err
	}
	return asError(p.find())
}

// Check returns what is wrong with the reply.
func (r refusal) Check() error { return asError(r.settings()) }

// asError keeps a nil pointer from becoming an error.
func asError(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}

// checkSender returns what is wrong with the Sender of a route.
func checkSender(s client.Sender) error {
	switch v := reflect.ValueOf(s); v.Kind() {
	case reflect.Invalid:
		return errors.New("its Sender is nil: set one, such as Refuse for a domain that gets no mail")
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Chan:
		if v.IsNil() {
			return fmt.Errorf("its Sender is a nil %T: look at the error of what was to make it", s)
		}
	}
	if c, ok := s.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

func wrong(field, format string, args ...any) *Error {
	return &Error{Doing: field, Err: fmt.Errorf(format, args...), status: statusConfig}
}

func (d Maildir) settings() *Error {
	if d.Path == nil {
		return wrong("Maildir.Path", `it is nil: set a function that returns where a mailbox is, such as Under("/var/mail")`)
	}
	return nil
}

func (b Mbox) settings() *Error {
	if b.Path == nil {
		return wrong("Mbox.Path", `it is nil: set a function that returns where a mailbox is, such as Under("/var/mail")`)
	}
	return nil
}

func (r refusal) settings() *Error {
	switch {
	case r.err == nil:
		return wrong("Refuse", "its reply is nil: give it one, such as that of proto.Refuse")
	case r.err.Code < 400 || r.err.Code > 599:
		return wrong("Refuse", "the code %d refuses nothing: give it one of 400 to 599", r.err.Code)
	}
	return nil
}

// inBraces is what is meant for a placeholder.
var inBraces = regexp.MustCompile(`\{[A-Za-z][A-Za-z_.-]*\}`)

// scriptChars are those that tell an argument in the language of a shell, or in another.
const scriptChars = " \t\r\n\"'`\\$&|;<>()"

// settings returns what is wrong with the fields of p by themselves.
func (p Pipe) settings() *Error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return wrong("Pipe.Args", "there is no program: set its path and its arguments")
	}
	for i, arg := range p.Args {
		field := fmt.Sprintf("Pipe.Args[%d]", i)
		known := strings.Contains(arg, SenderArg) || strings.Contains(arg, RecipientArg)
		switch {
		case strings.IndexByte(arg, 0) >= 0:
			return wrong(field, "%q has a NUL, which no argument can have", arg)
		case i == 0:
			if known {
				return wrong(field, "%q has a placeholder: an address must not choose the program", arg)
			}
		case strings.ContainsAny(arg, scriptChars):
			if known {
				return wrong(field, "%q is like a script, in which an address would be run: pass the placeholder as an argument "+
					`of its own, without the $ if there is one, and write "$1" in the script`, arg)
			}
		default:
			for _, word := range inBraces.FindAllString(arg, -1) {
				if word != SenderArg && word != RecipientArg {
					return wrong(field, "%q has the unknown placeholder %s: write %s or %s", arg, word, SenderArg, RecipientArg)
				}
			}
		}
	}
	for i, env := range p.Env {
		if name, _, ok := strings.Cut(env, "="); !ok || name == "" || strings.IndexByte(env, 0) >= 0 {
			return wrong(fmt.Sprintf("Pipe.Env[%d]", i), "%q is no variable: write it as NAME=value", env)
		}
	}
	return nil
}

// find looks for the directory and the program, as a run does.
func (p Pipe) find() *Error {
	dir, name := p.dir(), p.Args[0]
	if dir != "" {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no directory", dir)
		}
		if err != nil {
			return wrong("Pipe.Dir", "%w: make it, or set another", err)
		}
	}
	if filepath.Base(name) != name && !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	if _, err := exec.LookPath(name); err != nil {
		return wrong("Pipe.Args[0]", "%w: set the path of a program that this process may run", err)
	}
	return nil
}
