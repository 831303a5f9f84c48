package ext_test

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/internal/testkit"
)

// inner is a session. testkit.Wrap wraps it as middleware does.
type inner struct{}

func (inner) CheckSize(context.Context, int64) error { return errors.New("inner") }

func TestAs(t *testing.T) {
	if c, ok := ext.As[ehlo.SizeSession](testkit.Wrap(testkit.Wrap(inner{}))); !ok || c.CheckSize(t.Context(), 1).Error() != "inner" {
		t.Error("not found behind two wrappers")
	}
	for _, s := range []any{nil, 1, testkit.Wrap(nil)} {
		if _, ok := ext.As[ehlo.SizeSession](s); ok {
			t.Errorf("found in %v", s)
		}
	}
}

func TestImplements(t *testing.T) {
	sized := reflect.TypeFor[ehlo.SizeSession]()
	if !ext.Implements(inner{}, sized) || !ext.Implements(testkit.Wrap(testkit.Wrap(inner{})), sized) {
		t.Error("not found")
	}
	for _, s := range []any{nil, 1, testkit.Wrap(nil)} {
		if ext.Implements(s, sized) {
			t.Errorf("found in %v", s)
		}
	}
}
