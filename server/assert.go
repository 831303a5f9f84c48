package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// A looked has the types of sessions that a service has looked at for mistakes of their author, which the compiler does
// not find: sessions take part in extensions by methods that they may have.
type looked struct {
	types sync.Map // from reflect.Type, of sessions and of what they wrap
	n     atomic.Int32
	plain atomic.Bool // there was a connection in plaintext without a way to TLS
}

// maxTypes is at how many types a service looks. A program has a few; only one that makes types as it runs has more.
const maxTypes = 100

// ownInterfaces are those that the server itself looks for in sessions.
var ownInterfaces = []reflect.Type{
	reflect.TypeFor[Resetter](), reflect.TypeFor[RecipientData](), reflect.TypeFor[io.Closer](),
	reflect.TypeFor[ContentFilter](), reflect.TypeFor[unwrapper](),
}

// isNew reports whether t has not been looked at.
func (l *looked) isNew(t reflect.Type) bool {
	if _, known := l.types.Load(t); known || l.n.Load() >= maxTypes {
		return false
	}
	if _, known := l.types.LoadOrStore(t, nil); known {
		return false
	}
	l.n.Add(1)
	return true
}

// look looks at a session and all that it wraps, if there is one of a type that the service has not seen before. What
// is wrong is logged as an error.
func (s *Service) look(c *Conn, session Session) {
	fresh := false
	for inner := range layers(session) {
		if t := reflect.TypeOf(inner); s.looked.isNew(t) {
			fresh = true
			for _, m := range mistakes(t, s.interfaces()) {
				c.log(slog.LevelError, "smtp: a method of the session is never called: "+m.why, "session", t, "has", m.has,
					"want", m.want, "of", m.of)
			}
		}
	}
	if !s.requiresAuth() {
		return
	}
	if c.link.tls == nil && s.tlsConfig == nil && !s.opt.AllowInsecureAuth && !s.looked.plain.Swap(true) || fresh {
		c.session.Session = session
		if err := s.cannotAuth(c); err != nil {
			c.log(slog.LevelError, "smtp: authentication is required, and nobody can authenticate", "session",
				reflect.TypeOf(session), "err", err)
		}
	}
}

// interfaces returns those that the server and its extensions look for in sessions.
func (s *Service) interfaces() []reflect.Type {
	list := ownInterfaces
	for i := range s.set.Extensions() {
		list = append(list[:len(list):len(list)], s.set.Extensions()[i].Interfaces...)
	}
	return list
}

// A mistake is a method that a session has in vain.
type mistake struct {
	why       string
	has, want string       // methods with their signatures
	of        reflect.Type // the interface that want belongs to
}

// mistakes returns those of the type t of sessions: methods with the name that one of the interfaces has and not its
// signature, and interfaces of which there are some methods and not all.
func mistakes(t reflect.Type, interfaces []reflect.Type) []mistake {
	all := t // with the methods that only a pointer to t has
	if t.Kind() != reflect.Pointer {
		all = reflect.PointerTo(t)
	}
	var list []mistake
	for _, of := range interfaces {
		if t.Implements(of) {
			continue
		}
		for i := range of.NumMethod() {
			want := of.Method(i)
			has, ok := all.MethodByName(want.Name)
			if !ok {
				continue
			}
			m := mistake{has: signature(has.Name, has.Type, 1), want: signature(want.Name, want.Type, 0), of: of}
			_, direct := t.MethodByName(want.Name)
			switch {
			case m.has != m.want && isWanted(m.has, interfaces):
				continue // of another interface
			case m.has != m.want:
				m.why = "it has the wrong signature"
			case !direct:
				m.why = "its receiver is a pointer, and NewSession returns no pointer"
			default:
				m.why = "other methods are missing"
				m.want = lacks(t, of)
			}
			list = append(list, m)
		}
	}
	return list
}

// isWanted reports whether a method is one of those of the interfaces.
func isWanted(method string, interfaces []reflect.Type) bool {
	name, _, _ := strings.Cut(method, "(")
	for _, of := range interfaces {
		if m, ok := of.MethodByName(name); ok && signature(m.Name, m.Type, 0) == method {
			return true
		}
	}
	return false
}

// lacks returns the methods of the interface that t does not have.
func lacks(t, of reflect.Type) string {
	var list []string
	for i := range of.NumMethod() {
		want := of.Method(i)
		text := signature(want.Name, want.Type, 0)
		if m, ok := t.MethodByName(want.Name); !ok || signature(m.Name, m.Type, 1) != text {
			list = append(list, text)
		}
	}
	return strings.Join(list, "; ")
}

// signature returns the method as it is written in an interface, such as "Reset(context.Context)". The first parameters
// are left out: the receiver is one of a method that is not an interface's.
func signature(name string, f reflect.Type, receivers int) string {
	var in, out []string
	for i := receivers; i < f.NumIn(); i++ {
		text := f.In(i).String()
		if f.IsVariadic() && i == f.NumIn()-1 {
			text = "..." + f.In(i).Elem().String()
		}
		in = append(in, text)
	}
	for i := range f.NumOut() {
		out = append(out, f.Out(i).String())
	}
	text := name + "(" + strings.Join(in, ", ") + ")"
	switch len(out) {
	case 0:
		return text
	case 1:
		return text + " " + out[0]
	}
	return text + " (" + strings.Join(out, ", ") + ")"
}

// requiresAuth reports whether no client may send mail without authentication.
func (s *Service) requiresAuth() bool {
	if s.opt.RequireAuth {
		return true
	}
	for i := range s.set.Extensions() {
		if s.set.Extensions()[i].RequiresAuth {
			return true
		}
	}
	return false
}

var errNoAuth = errors.New("smtp: none of the extensions can authenticate a client: add auth.Auth() to the list, or " +
	"set Authenticates in the extension that can")

// cannotAuth returns why no client can authenticate to the session of c, or nil if an extension says that one can.
func (s *Service) cannotAuth(c *Conn) error {
	err := errNoAuth
	for i := range s.set.Extensions() {
		e := &s.set.Extensions()[i]
		if e.Authenticates == nil {
			continue
		}
		if err = e.Authenticates(c); err == nil {
			return nil
		}
	}
	return err
}

// checkAuth returns an error if authentication is required, and it is known before the first session that nobody can
// authenticate.
func (s *Service) checkAuth() error {
	if !s.requiresAuth() {
		return nil
	}
	_, isFunc := s.backend.(MessageFunc)
	err := s.cannotAuth(&Conn{srv: s, session: userSession{Session: &messageSession{}}})
	switch {
	case err == nil || !isFunc && !errors.Is(err, errNoAuth):
		return nil
	case errors.Is(err, errNoAuth):
		return fmt.Errorf("smtp: authentication is required, and nobody can authenticate: %w", errNoAuth)
	}
	return errors.New("smtp: authentication is required, and nobody can authenticate to a MessageFunc: write a Backend " +
		"whose sessions implement an interface of package auth, such as auth.PasswordSession")
}
