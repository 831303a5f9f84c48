package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// XTrace is a private extension. Its keyword XTRACE tells how long an ID may be; the MAIL parameter XTRACE=id names a
// message; the verb XWHERE id asks where it is. A server offers it if its session is a Locator.
func XTrace() ext.Extension {
	return ext.Extension{
		Keyword: "XTRACE",
		Mail:    []ext.Param{{Key: "XTRACE", MaxLength: len(" XTRACE=") + longestID, Check: checkID}},
		Verbs:   []proto.Verb{{Name: "XWHERE", In: proto.Session &^ proto.Hello, Last: true}},
		Advertise: func(x ext.ServerConn) (string, bool) {
			_, ok := ext.As[Locator](x.Session())
			return fmt.Sprint(longestID), ok
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
	Where(ctx context.Context, id string) (place string, err error)
}

const longestID = 32

func checkID(id string) error {
	if id == "" || len(id) > longestID || strings.Trim(strings.ToLower(id), "0123456789abcdef") != "" {
		return errors.New("an ID is 1 to 32 hexadecimal digits")
	}
	return nil
}

// ID returns the ID in the parameters that a session gets with MAIL.
func ID(p proto.Params) (id string, ok bool) { return p.Get("XTRACE") }

// Where asks the server at the other end of c, such as a *client.Client, where the message called id is.
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
