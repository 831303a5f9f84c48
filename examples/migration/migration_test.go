package migration

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	// What the page is about, so that go.mod has it.
	_ "github.com/emersion/go-sasl"
	_ "github.com/emersion/go-smtp"
	_ "github.com/wneessen/go-mail"

	_ "smtpkit.example/smtp/client/netsmtp"
	_ "smtpkit.example/smtp/server"
)

// imports are the packages that the code may use, by the name that it has there. The package called smtp depends on the
// section.
var imports = map[string]string{
	"bytes": "bytes", "context": "context", "errors": "errors", "io": "io", "net": "net", "os": "os", "slices": "slices",
	"slog": "log/slog", "textproto": "net/textproto", "time": "time", "tls": "crypto/tls",
	"mail": "github.com/wneessen/go-mail", "sasl": "github.com/emersion/go-sasl",
	"auth": "smtpkit.example/smtp/ext/auth", "client": "smtpkit.example/smtp/client",
	"ehlo": "smtpkit.example/smtp/ext/ehlo", "ext": "smtpkit.example/smtp/ext",
	"netsmtp": "smtpkit.example/smtp/client/netsmtp", "proto": "smtpkit.example/smtp/proto",
	"server": "smtpkit.example/smtp/server",
}

const (
	netSMTP = "net/smtp"
	goSMTP  = "github.com/emersion/go-smtp"
)

// common is what both columns of all tables may use.
const common = `
var (
	ctx                              context.Context
	user, password, host, name, addr, id string
	conn                             net.Conn
	config                           *tls.Config
	d                                time.Duration
	n                                int64
	l                                net.Listener
	err                              error
)
`

// A side is what a column of a table takes for granted.
type side struct {
	declares string
	asserts  string // what the methods in the column are for
}

const session = `
type session struct{}
type backend struct{}
`

var clientSide = side{declares: `
var (
	from string
	to   []string
	c    *client.Client
	opt  *client.Options
	m    *client.Message
)
`}

var serverSide = side{session + `
var (
	c       *server.Conn
	p       proto.Params
	opt     *server.Options
	be      server.Backend
	srv     *server.Server
	slogger *slog.Logger
)
`, `
var (
	_ server.Backend        = (*backend)(nil)
	_ server.Session        = (*session)(nil)
	_ server.Resetter       = (*session)(nil)
	_ io.Closer             = (*session)(nil)
	_ server.RecipientData  = (*session)(nil)
	_ auth.PasswordSession  = (*session)(nil)
	_ auth.MechanismSession = (*session)(nil)
)
`}

// and returns the side with more declarations.
func (s side) and(declares string) side { return side{s.declares + declares, s.asserts} }

// sections are the tables.
var sections = []struct {
	title, smtp string
	left, right side
	rows        int // at least
}{
	{"From net/smtp", netSMTP, side{declares: `
var (
	from string
	to   []string
	msg  []byte
	a    smtp.Auth
	c    *smtp.Client
)
`}, clientSide.and("var msg []byte; var a smtp.Auth"), 15},
	{"From emersion/go-smtp: the server", goSMTP, side{session + `
var (
	be     smtp.Backend
	c      *smtp.Conn
	srv    *smtp.Server
	opts   *smtp.MailOptions
	rcpt   *smtp.RcptOptions
	logger smtp.Logger
)
`, `
var (
	_ smtp.Backend     = (*backend)(nil)
	_ smtp.AuthSession = (*session)(nil)
	_ smtp.LMTPSession = (*session)(nil)
)
`}, serverSide, 25},
	{"From emersion/go-smtp: the client", goSMTP, side{declares: `
var (
	from string
	to   []string
	r    io.Reader
	a    sasl.Client
	c    *smtp.Client
	w    *smtp.DataCommand
)
`}, clientSide.and("var r io.Reader; var a sasl.Client"), 18},
	{"From wneessen/go-mail", goSMTP, side{declares: `
var (
	options []mail.Option
	msg     *mail.Msg
	dial    mail.DialContextFunc
)
`}, clientSide.and(`
var (
	msg    *mail.Msg
	buf    bytes.Buffer
	dial   func(context.Context, string, string) (net.Conn, error)
	source func(context.Context) (string, error)
)
`), 12},
}

var (
	row     = regexp.MustCompile(`(?m)^\| (.*) \| (.*) \|$`)
	span    = regexp.MustCompile("`([^`]+)`")
	aFolder = regexp.MustCompile(`^[a-z]+/[a-z]+$`) // a span that is the name of a package
)

// TestMigrationPage compiles the code in both columns of the tables that say what to write.
func TestMigrationPage(t *testing.T) {
	page, err := os.ReadFile("../../.github/MIGRATION.md")
	if err != nil {
		t.Fatal(err)
	}
	check := newChecker(t)
	for _, s := range sections {
		_, text, _ := strings.Cut(string(page), "\n## "+s.title+"\n")
		text, _, _ = strings.Cut(text, "\n## ")
		rows := row.FindAllStringSubmatch(text, -1)
		if len(rows) < s.rows {
			t.Errorf("%s: %d rows", s.title, len(rows))
			continue
		}
		var methods [2]string
		for _, r := range rows[2:] { // behind the heading
			for i, side := range []side{s.left, s.right} {
				methods[i] += check.cell(t, header(s.smtp)+side.declares, r[1+i])
			}
			if !span.MatchString(r[2]) && !strings.HasPrefix(r[2], "nothing") {
				t.Errorf("the right column has no code: %s", r[0])
			}
		}
		for i, side := range []side{s.left, s.right} {
			if err := check.file(header(s.smtp) + side.declares + "\n" + methods[i] + side.asserts); err != nil {
				t.Errorf("%s: the methods of a column: %v", s.title, err)
			}
		}
	}
}

// TestMistakes lets the checker find what is wrong in a table.
func TestMistakes(t *testing.T) {
	check := newChecker(t)
	declared := header(netSMTP) + clientSide.declares
	for _, code := range []string{
		"c.Sent(ctx, m)", "client.Option{}", "err := c.Send(ctx, m)", "m.AllOrNothing = true", "x",
		"c, err := client.Dial(ctx, addr)",
		"client.Options{TLS: true}", "func (c", "if", "m.All", "var e *proto.Mistake",
	} {
		if _, err := check.span(declared, nil, code); err == nil {
			t.Errorf("%s is taken for right", code)
		}
	}
	if check.file(header(goSMTP)+serverSide.declares+serverSide.asserts) == nil {
		t.Error("a session without methods is taken for one")
	}
}

// header is how a file begins.
func header(smtp string) string {
	var b strings.Builder
	b.WriteString("package p\n")
	for name, path := range imports {
		fmt.Fprintf(&b, "import %s %q\n", name, path)
	}
	fmt.Fprintf(&b, "import smtp %q\n", smtp)
	return b.String() + common
}

// A checker checks types, with what the go command knows of the packages.
type checker struct {
	files    *token.FileSet
	packages types.Importer
}

func newChecker(t *testing.T) *checker {
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", netSMTP, goSMTP}
	for _, path := range imports {
		args = append(args, path)
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[path] = file
	}
	files := token.NewFileSet()
	return &checker{files, importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
}

// file checks a file.
func (c *checker) file(source string) error {
	f, err := parser.ParseFile(c.files, "page.go", source, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	var first error
	config := types.Config{Importer: c.packages, Error: func(err error) {
		if e, ok := err.(types.Error); ok && e.Soft {
			return // something is not used
		}
		if first == nil {
			first = err
		}
	}}
	_, _ = config.Check("p", c.files, []*ast.File{f}, nil) // first is the error
	return first
}

// cell checks the code in a cell of a table, and returns the methods in it. Each piece of code may use what is declared
// in those before it.
func (c *checker) cell(t *testing.T, declared, cell string) (methods string) {
	t.Helper()
	var before []string
	for _, m := range span.FindAllStringSubmatch(cell, -1) {
		switch code := m[1]; {
		case aFolder.MatchString(code):
		case strings.HasPrefix(code, "func ("):
			methods += code + " { panic(0) }\n"
		default:
			as, err := c.span(declared, before, code)
			if err != nil {
				t.Errorf("%s: %v", code, err)
				continue
			}
			before = append(before, as)
		}
	}
	return methods
}

// span checks a piece of code: statements, or an expression, or a type. It returns the statement that it is.
func (c *checker) span(declared string, before []string, code string) (statement string, err error) {
	for _, statement = range []string{code, "_ = " + code, "var _ " + code} {
		nested := append(append([]string(nil), before...), statement)
		blocks := "{" + strings.Join(nested, "\n{") + strings.Repeat("\n}", len(nested))
		wrong := c.file(declared + "\nfunc _() error {\n" + blocks + "\nreturn nil\n}\n")
		if wrong == nil {
			return statement, nil
		}
		if err == nil {
			err = wrong
		}
	}
	return "", err
}
