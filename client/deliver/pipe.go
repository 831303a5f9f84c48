package deliver

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/internal/ended"
	"smtpkit.example/smtp/proto"
)

// Placeholders in [Pipe].Args.
const (
	// SenderArg stands for the address of the sender. It is empty for the null reverse-path.
	SenderArg = "{sender}"
	// RecipientArg stands for the address of the recipient; with [Pipe].Together, an argument that has it is there once
	// for each recipient.
	RecipientArg = "{recipient}"
)

// A Pipe hands messages to a program, on its standard input. It is a [client.Sender]. Several goroutines may call Send
// at once: each runs a program of its own. Do not change it once it is in use.
//
// No shell is involved. What is known of the message reaches the program as arguments, see Args, and as the environment
// variables SENDER and RECIPIENT. These are text from strangers: a script has to quote "$RECIPIENT". Besides, PATH is
// /usr/local/bin:/usr/bin:/bin, and HOME is Dir, or /. The rest of the environment of this process is kept from it.
//
// The exit status tells the outcome, as in sysexits.h: 0 is success, EX_TEMPFAIL (75) is 4.3.0, EX_NOUSER (67) is
// 5.1.1, and so on; see [ExitStatus]. The error says which: "exit status 67 (EX_NOUSER, 5.1.1)". A program may exit
// with 0 without reading all of its input. If it is killed, the outcome is temporary, and the recipient is in doubt:
// see [Error.InDoubt].
type Pipe struct {
	// Args are the program and its arguments, at least the program. A name without a "/" is looked for in the PATH of this
	// process. [SenderArg] and [RecipientArg] are replaced in the arguments. They can be a whole argument, or a part of
	// one, as in "--to={recipient}". Any other word in braces, such as {recpient}, is an error.
	//
	// An address may begin with "-". If that makes it an option, the recipient, or a message from such a sender, is
	// refused with 5.1.3. To let these through, put the argument "--" before, if the program takes that for the end of its
	// options. Within "--to={recipient}" such an address is harmless.
	//
	// A placeholder in a script for a shell is an error, since an address would be run: arguments with a placeholder have
	// no white space and none of "'`\$&|;<>() in them. Pass the address as another argument, and write "$1" in the script.
	// Braces in arguments with any of these characters are not looked at.
	Args []string
	// Dir is the directory that the program runs in. Default /, or that of this process on Windows.
	Dir string
	// Env are further environment variables, such as "LANG=C". They come last, and override.
	Env []string
	// Together has one run for all recipients of a message, who share its outcome. RECIPIENT is not set if there are
	// several. By default there is a run for each, one after the other.
	Together bool
	// Timeout is how long a run may take. Default 10 minutes; negative is no bound. When it has passed, or the context of
	// Send ends, the program is killed; on Unix with its whole process group.
	Timeout time.Duration
	// TopFields puts Return-Path and, for one recipient, Delivered-To on top of the message, as in a [Maildir].
	TopFields bool
	// CRLF has the lines of the message end with CRLF. By default they end with LF.
	CRLF bool
	// Output puts what the program has printed into the errors, up to 4 KiB. It may have secrets in it, and errors are
	// what reports to senders are made of.
	Output bool
}

const (
	defaultPipeTimeout = 10 * time.Minute
	maxOutput          = 4 << 10
	// outputDelay is how long a program that has exited is waited for, while others hold its output open.
	outputDelay = time.Second
	pipePath    = "PATH=/usr/local/bin:/usr/bin:/bin"
)

// Send runs the program for the recipients of m. The errors of outcomes are [*Error] or [*client.MessageError]. If the
// program cannot be run, the status is 4.3.5. Message.AllOrNone can be kept if Together is set, or for one recipient.
func (p Pipe) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	if err := p.settings(); err != nil {
		return misused(m, err)
	}
	if !p.Together {
		return each(ctx, m, func(m *client.Message) (int64, error) { return p.run(ctx, m) })
	}
	if m == nil || len(m.To) == 0 {
		return unfit(m)
	}
	shared, err := client.Share(m)
	if err != nil {
		return all(m, err)
	}
	defer shared.Close()
	if ctx.Err() != nil {
		return all(m, notBegun(ctx))
	}
	n, err := p.run(ctx, shared.Message(m.To))
	res, err := all(m, err)
	res.Octets = n
	return res, err
}

// run runs the program once, for all recipients of m.
func (p Pipe) run(ctx context.Context, m *client.Message) (n int64, err error) {
	args, err := p.expand(m)
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if timeout := cmp.Or(p.Timeout, defaultPipeTimeout); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errPipeTimeout)
		defer cancel()
	}
	doing := "running " + args[0]
	out := &output{}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir(), p.environment(m), out, out
	cmd.WaitDelay = outputDelay
	group(cmd)
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		if ctx.Err() != nil {
			return 0, notBegun(ctx)
		}
		return 0, &Error{Doing: doing, Err: err, status: statusConfig}
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // which closes stdin too
	fed := false
	defer func() {
		if !fed { // the Body has panicked
			stop()
			<-exited
		}
	}()
	n, err = p.feed(ctx, stdin, m)
	var fault *client.MessageError
	if errors.As(err, &fault) {
		stop() // the program must not take what it has for the whole
	} else {
		stdin.Close()
	}
	fed = true
	waited := <-exited
	if fault != nil {
		return 0, fault
	}
	if err := p.outcome(ctx, doing, cmd, waited, out); err != nil {
		return 0, err
	}
	return n, nil
}

var errPipeTimeout = fmt.Errorf("it took too long: %w", context.DeadlineExceeded)

// feed writes m to the program.
func (p Pipe) feed(ctx context.Context, stdin io.Writer, m *client.Message) (int64, error) {
	f := format{newline: "\n", top: p.TopFields}
	if p.CRLF {
		f.newline = "\r\n"
	}
	return f.write(ctx, stdin, m)
}

// dir returns the directory that the program runs in, or "" for that of this process.
func (p Pipe) dir() string {
	if p.Dir == "" && os.PathSeparator == '/' {
		return "/"
	}
	return p.Dir
}

// expand returns the arguments for m.
func (p Pipe) expand(m *client.Message) ([]string, error) {
	args := []string{p.Args[0]}
	from := m.From.String()
	dashes := false
	for _, arg := range p.Args[1:] {
		dashes = dashes || arg == "--"
		to := m.To
		if !strings.Contains(arg, RecipientArg) {
			to = []proto.Recipient{{}} // whoever they are, it is the same
		}
		for i := range to {
			s := strings.NewReplacer(SenderArg, from, RecipientArg, to[i].Address.String()).Replace(arg)
			if !dashes && arg[:min(1, len(arg))] == "{" && strings.HasPrefix(s, "-") {
				return nil, &Error{Doing: "running " + p.Args[0], Err: fmt.Errorf(optionText, s, arg), status: statusBadAddress}
			}
			args = append(args, s)
		}
	}
	return args, nil
}

const optionText = `%q would be taken for an option: put "--" before %s in Pipe.Args if the program knows that`

// environment returns the environment of the program.
func (p Pipe) environment(m *client.Message) []string {
	env := []string{pipePath, "HOME=" + cmp.Or(p.Dir, "/"), "SENDER=" + m.From.String()}
	if len(m.To) == 1 {
		env = append(env, "RECIPIENT="+m.To[0].Address.String())
	}
	return slices.Concat(env, p.Env)
}

// outcome returns nil if the program has exited with 0.
func (p Pipe) outcome(ctx context.Context, doing string, cmd *exec.Cmd, waited error, out *output) error {
	state := cmd.ProcessState
	if state != nil && state.Success() {
		return nil // even if others hold its output open
	}
	failed := &Error{Doing: doing, Err: waited, status: statusSystem, inDoubt: true}
	switch {
	case ctx.Err() != nil && (state == nil || !state.Exited()):
		failed.Err = fmt.Errorf("it was killed: %w", ended.Reason(ctx))
	case state != nil && state.Exited():
		failed.status, failed.inDoubt = ExitStatus(state.ExitCode()), false
		name := exitStatuses[state.ExitCode()].name
		if name != "" {
			name += ", "
		}
		failed.Err = fmt.Errorf("%w (%s%v)", waited, name, failed.status)
	}
	if p.Output {
		if text := out.String(); text != "" {
			failed.Err = fmt.Errorf("%w: %s", failed.Err, text)
		}
	}
	return failed
}

// An output keeps the first octets that a program prints.
type output struct {
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.text.Write(p[:min(len(p), maxOutput-o.text.Len())])
	return len(p), nil
}

// String returns the text on one line, for an error.
func (o *output) String() string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(o.text.String(), "\uFFFD"), func(r rune) bool {
		return r < ' ' || r == 0x7f
	}), "; ")
}

// exitStatuses are those of sysexits.h.
var exitStatuses = map[int]struct {
	name   string
	status proto.Status
}{
	64: {"EX_USAGE", proto.Status{5, 3, 0}},
	65: {"EX_DATAERR", proto.Status{5, 6, 0}},
	66: {"EX_NOINPUT", proto.Status{5, 3, 0}},
	67: {"EX_NOUSER", statusNoUser},
	68: {"EX_NOHOST", proto.Status{5, 1, 2}},
	69: {"EX_UNAVAILABLE", proto.Status{5, 3, 0}},
	70: {"EX_SOFTWARE", proto.Status{5, 3, 0}},
	71: {"EX_OSERR", proto.Status{4, 3, 0}},
	72: {"EX_OSFILE", proto.Status{5, 3, 5}},
	73: {"EX_CANTCREAT", proto.Status{5, 2, 0}},
	74: {"EX_IOERR", proto.Status{4, 3, 0}},
	75: {"EX_TEMPFAIL", proto.Status{4, 3, 0}},
	76: {"EX_PROTOCOL", proto.Status{5, 5, 0}},
	77: {"EX_NOPERM", statusPermissions},
	78: {"EX_CONFIG", proto.Status{5, 3, 5}},
}

// ExitStatus returns the status code for the exit status of a program, as in sysexits.h, which has 64 to 78. Others but
// 0 are temporary, with 4.3.0: a message is rather kept than lost to a program that crashes.
//
//	64 EX_USAGE    5.3.0    69 EX_UNAVAILABLE  5.3.0    74 EX_IOERR     4.3.0
//	65 EX_DATAERR  5.6.0    70 EX_SOFTWARE     5.3.0    75 EX_TEMPFAIL  4.3.0
//	66 EX_NOINPUT  5.3.0    71 EX_OSERR        4.3.0    76 EX_PROTOCOL  5.5.0
//	67 EX_NOUSER   5.1.1    72 EX_OSFILE       5.3.5    77 EX_NOPERM    5.7.0
//	68 EX_NOHOST   5.1.2    73 EX_CANTCREAT    5.2.0    78 EX_CONFIG    5.3.5
func ExitStatus(code int) proto.Status {
	if code == 0 {
		return proto.Status{2, 0, 0}
	}
	if e, ok := exitStatuses[code]; ok {
		return e.status
	}
	return statusSystem
}
