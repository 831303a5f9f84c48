package proto_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

var update = flag.Bool("update", false, "write the generated pictures into doc.go and ARCHITECTURE.md")

// howToUpdate ends the message of a test that has found a stale picture.
const howToUpdate = "go test ./proto -run 'TestStateDiagram|TestPackagePicture' -update writes it anew"

// An edge of the state diagram: in the state from, the reply that label names leads to the state to.
type edge struct {
	from, to proto.State
	label    string
}

// A diagram is what there is to draw of a table.
type diagram struct {
	edges []edge   // in the order of the states and of the table
	same  []string // the commands that leave every state as it is
	never []string // the commands that can only be refused
}

// TestStateDiagram draws the table of the default extensions, and compares it with the pictures in doc.go and
// ARCHITECTURE.md.
func TestStateDiagram(t *testing.T) {
	set, err := ext.NewSet(proto.SMTP, ehlo.Default())
	if err != nil {
		t.Fatal(err)
	}
	d := draw(t, set.Table())
	if len(d.edges) < 20 {
		t.Errorf("the diagram has %d edges only", len(d.edges))
	}
	compare(t, "doc.go", regexp.MustCompile(`(?m)^//\tin this state(?:.*\n//\t)*.*\n`), d.text())
	compare(t, architecturePage, generated("states"), "<!-- states -->\n"+d.mermaid()+"<!-- end of states -->\n")
}

// TestDiagramAgrees compares the diagram with [proto.Table.String], which does not ask a Machine.
func TestDiagramAgrees(t *testing.T) {
	table := table(t, proto.SMTP)
	text := table.String()
	for _, e := range draw(t, table).edges {
		name, rest, _ := strings.Cut(e.label, " ")
		if e.from == proto.Exchange || strings.HasPrefix(rest, "LAST") {
			continue // lines of an exchange and variants have no line in the table's text
		}
		if strings.HasPrefix(name, "(") {
			name = e.label[:strings.IndexByte(e.label, ')')+1]
		}
		re := regexp.MustCompile(fmt.Sprintf(`(?m)^%s +%v .* %v( |$)`, regexp.QuoteMeta(name), e.from, e.to))
		if !re.MatchString(text) {
			t.Errorf("%v --> %v : %s is not in the table:\n%s", e.from, e.to, e.label, text)
		}
	}
}

// compare compares what re finds in the page with want, or puts want there if the flag -update is set.
func compare(t *testing.T, page string, re *regexp.Regexp, want string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	found := re.FindAllIndex(text, -1)
	if len(found) != 1 {
		t.Fatalf("%s has %d places for this picture, want one: %v", page, len(found), re)
	}
	begin, end := found[0][0], found[0][1]
	switch got := string(text[begin:end]); {
	case got == want:
	case *update:
		text = slices.Concat(text[:begin], []byte(want), text[end:])
		if err := os.WriteFile(page, text, 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the picture in %s is stale; %s.\ngot:\n%s\nwant:\n%s", page, howToUpdate, got, want)
	}
}

var architecturePage = filepath.Join("..", ".github", "ARCHITECTURE.md")

// generated finds the part of ARCHITECTURE.md between the marks of this name.
func generated(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)<!-- ` + name + ` -->\n.*<!-- end of ` + name + ` -->\n`)
}

// draw asks a Machine what each verb does in each state.
func draw(t *testing.T, table *proto.Table) *diagram {
	t.Helper()
	d := new(diagram)
	m := proto.NewMachine(table)
	for s := proto.Greeting; s <= proto.Closed; s <<= 1 {
		switch s {
		case proto.Greeting:
			d.add(t, m, s, "(greeting)", func() error { m.Reset(s); return nil })
		case proto.Content:
			d.add(t, m, s, "(end of content)", func() error { m.Reset(s); return m.End() })
		}
		for _, v := range table.Verbs() {
			for _, args := range []string{"", " LAST"} {
				if args != "" && (v.Variant == nil || v.Variant([]byte("0"+args)) == nil) {
					continue
				}
				d.add(t, m, s, v.Name+args, func() error {
					stand(m, s)
					return m.Command(v, []byte("0"+args))
				})
			}
			if s == proto.Exchange && v.More == proto.Exchange {
				d.add(t, m, s, "line of "+v.Name, func() error {
					m.Reset(v.In)
					_ = m.Command(v, nil) // an error is found by the line
					_, _ = m.Reply(334)
					return m.Line()
				})
			}
		}
	}
	for _, v := range table.Verbs() {
		switch {
		case v.OK == proto.Never && v.More == 0:
			d.never = append(d.never, v.Name)
		case !slices.ContainsFunc(d.edges, func(e edge) bool { return strings.HasPrefix(e.label+" ", v.Name+" ") }):
			d.same = append(d.same, v.Name)
		}
	}
	return d
}

// stand puts m into the state s, with nothing outstanding.
func stand(m *proto.Machine, s proto.State) {
	m.Reset(s)
	if s == proto.Greeting {
		_, _ = m.Reply(554) // only a refused session stands there; the greeting is what was outstanding
	}
}

// add adds where the replies lead to what begin has made outstanding in the state from. There are no edges if begin
// returns an error: the command is not allowed there.
func (d *diagram) add(t *testing.T, m *proto.Machine, from proto.State, name string, begin func() error) {
	t.Helper()
	replies := make(map[proto.State]string)
	var order []proto.State
	for _, r := range []struct {
		code int
		text string
	}{{250, "2yz"}, {354, "3yz"}, {450, "4yz"}, {550, "5yz"}} {
		if begin() != nil {
			return
		}
		if _, err := m.Reply(r.code); err != nil || m.Now() == from {
			continue
		}
		to := m.Now()
		if _, ok := replies[to]; !ok {
			order = append(order, to)
		}
		replies[to] += " " + r.text
	}
	for _, to := range order {
		label := name
		switch which := replies[to]; which {
		case " 2yz":
		case " 3yz":
			label += " 3yz"
		case " 4yz 5yz":
			label += " refused"
		case " 2yz 4yz 5yz":
			label += " answered"
		default:
			t.Errorf("%s in %v:%s lead to %v: there is no word for that", name, from, which, to)
		}
		d.edges = append(d.edges, edge{from, to, label})
	}
}

// groups returns the edges from the state s by where they lead, those to Closed left out.
func (d *diagram) groups(s proto.State) (to []proto.State, labels map[proto.State][]string) {
	labels = make(map[proto.State][]string)
	for _, e := range d.edges {
		if e.from != s || e.to == proto.Closed {
			continue
		}
		if labels[e.to] == nil {
			to = append(to, e.to)
		}
		labels[e.to] = append(labels[e.to], e.label)
	}
	return to, labels
}

// closing returns a sentence on what leads to Closed.
func (d *diagram) closing() string {
	var labels, from []string
	for _, e := range d.edges {
		if e.to != proto.Closed {
			continue
		}
		if !slices.Contains(labels, e.label) {
			labels = append(labels, e.label)
		}
		from = append(from, e.from.String())
	}
	return fmt.Sprintf("%s in %s, and 421 in any state", strings.Join(labels, ", "), strings.Join(from, ", "))
}

// text returns the diagram as lines of a doc comment.
func (d *diagram) text() string {
	var b strings.Builder
	line := func(left, right string) { fmt.Fprintf(&b, "//\t%-15s%s\n", left, right) }
	line("in this state", "these lead to that state")
	for s := proto.Greeting; s <= proto.Closed; s <<= 1 {
		left := s.String()
		to, labels := d.groups(s)
		for _, next := range to {
			line(left, strings.Join(labels[next], ", ")+" → "+next.String())
			left = ""
		}
	}
	line("(as named)", d.closing()+" → Closed")
	line("(no change)", strings.Join(d.same, ", "))
	line("(only refused)", strings.Join(d.never, ", "))
	return b.String()
}

// mermaid returns the diagram in the language of Mermaid, and the commands that it does not show.
func (d *diagram) mermaid() string {
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> Greeting\n")
	for s := proto.Greeting; s <= proto.Closed; s <<= 1 {
		to, labels := d.groups(s)
		for _, next := range to {
			fmt.Fprintf(&b, "    %v --> %v : %s\n", s, next, strings.Join(labels[next], ", "))
		}
	}
	fmt.Fprintf(&b, "    Handover --> [*]\n    Closed --> [*]\n    note right of Closed\n        %s\n    end note\n```\n\n", d.closing())
	fmt.Fprintf(&b, "Commands that leave every state as it is: %s.\n", strings.Join(d.same, ", "))
	fmt.Fprintf(&b, "Commands that can only be refused: %s.\n", strings.Join(d.never, ", "))
	return b.String()
}
