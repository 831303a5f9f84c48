// Package ended tells why a context has ended, for the errors of package client and those below it.
package ended

import "context"

// Reason returns why ctx has ended: its error, which wraps the cause if that is another one. It is what the error of
// ctx is: if the caller has cancelled the context for some reason, the caller has cancelled it, and client.Temporary
// says so. It returns nil if ctx has not ended.
func Reason(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err {
		return &reason{err, cause}
	}
	return err
}

type reason struct{ end, cause error }

func (e *reason) Error() string        { return e.end.Error() + ": " + e.cause.Error() }
func (e *reason) Unwrap() []error      { return []error{e.end, e.cause} }
func (e *reason) Is(target error) bool { return target == e.end }
