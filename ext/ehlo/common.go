package ehlo

import (
	"context"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// advertiseTo returns an Advertise that offers the bare keyword to sessions that implement T.
func advertiseTo[T any]() func(ext.ServerConn) (string, bool) {
	return advertiseIf(func(T) bool { return true })
}

// advertiseIf returns an Advertise that offers the bare keyword to sessions that implement T and for which can is true.
func advertiseIf[T any](can func(T) bool) func(ext.ServerConn) (string, bool) {
	return func(x ext.ServerConn) (string, bool) {
		s, ok := ext.As[T](x.Session())
		return "", ok && can(s)
	}
}

// readParam returns the value of the parameter key as parse reads it. It reports false if the parameter is absent or
// malformed.
func readParam[T any](p proto.Params, key string, parse func(string) (T, bool)) (T, bool) {
	value, ok := p.Get(key)
	if !ok {
		var zero T
		return zero, false
	}
	return parse(value)
}

// A commander sends commands: an ext.Client or an ext.ClientConn.
type commander interface {
	Do(ctx context.Context, verb, args string) (proto.Reply, error)
}

// sendCommand sends a command and returns the reply. Unless the reply is 2yz, it returns a *proto.Error that wraps
// causes[code].
func sendCommand(ctx context.Context, c commander, verb, args string, causes map[int]error) (proto.Reply, error) {
	r, err := c.Do(ctx, verb, args)
	if err == nil && r.Code/100 != 2 {
		err = &proto.Error{Code: r.Code, Status: r.Status, Text: r.Text, Verb: verb, Err: causes[r.Code]}
	}
	return r, err
}
