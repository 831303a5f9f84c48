package grammar

import "errors"

// AsType returns the first error of type E in the tree of err, as errors.AsType of Go 1.26 does.
func AsType[E error](err error) (E, bool) {
	var e E
	ok := errors.As(err, &e)
	return e, ok
}
