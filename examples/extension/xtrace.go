package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// XTrace returns a private extension that finds messages. The argument of its keyword XTRACE is the maximum length of
// an ID. The MAIL parameter XTRACE=id gives an ID to a message. The command XWHERE id asks where that message is.
//
// A server advertises the extension if its session is a Locator.
func XTrace() ext.Extension {
	return ext.Extension{
		Keyword:    "XTRACE",
		Interfaces: []reflect.Type{reflect.TypeFor[Locator]()},
		Mail:       []ext.Param{{Key: "XTRACE", MaxLength: len(" XTRACE=") + maxID, Check: checkID}},
		Verbs:      []proto.Verb{{Name: "XWHERE", In: proto.Session &^ proto.Hello, Last: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[Locator](x.Session())
			return fmt.Sprint(maxID), ok
		},
		Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
			l, ok := ext.As[Locator](x.Session())
			if !ok {
				return proto.Reply{}, proto.Refuse(502, proto.Status{}, "Messages are not traced here")
			}
			if err := checkID(x.Args()); err != nil {
				return proto.Reply{}, proto.Refuse(501, proto.Status{}, err.Error())
			}
			place, err := l.Where(ctx, x.Args())
			if err != nil {
				return proto.Reply{}, err
			}
			return proto.Reply{Code: 250, Text: place}, nil
		},
	}
}

// A Locator is a session that knows where messages are.
type Locator interface {
	// Where returns the place of the message with that ID. An error refuses the command.
	Where(ctx context.Context, id string) (place string, err error)
}

const maxID = 32 // octets

func checkID(id string) error {
	if id == "" || len(id) > maxID || strings.Trim(strings.ToLower(id), "0123456789abcdef") != "" {
		return errors.New("an ID is 1 to 32 hexadecimal digits")
	}
	return nil
}

// ID returns the ID in p, the parameters that the session's Mail gets.
func ID(p proto.Params) (id string, ok bool) { return p.Get("XTRACE") }

// Where asks a server where the message with that ID is. C is a *client.Client.
func Where(ctx context.Context, c ext.Client, id string) (string, error) {
	r, err := c.Do(ctx, "XWHERE", id)
	if err != nil {
		return "", err
	}
	if r.Code != 250 {
		return "", r.Err()
	}
	return r.Text, nil
}
