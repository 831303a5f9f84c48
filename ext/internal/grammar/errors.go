package grammar

import "errors"

// AsType returns the first error of type E that err is or wraps. It is errors.AsType of Go 1.26.
func AsType[E error](err error) (E, bool) {
	var e E
	ok := errors.As(err, &e)
	return e, ok
}
