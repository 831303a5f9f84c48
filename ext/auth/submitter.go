package auth

import (
	"errors"

	"smtpkit.example/smtp/proto"
)

// ReadSubmitter returns the AUTH parameter of a MAIL command: the address of whoever submitted the message, or the null
// address if that is unknown. It returns false if the parameter is missing.
//
// The parameter is a claim. A session that does not trust the client to make it must treat it as the null address (RFC
// 4954 section 5).
func ReadSubmitter(p proto.Params) (a proto.Address, ok bool) {
	value, ok := p.Get("AUTH")
	if !ok {
		return proto.Address{}, false
	}
	a, err := parseSubmitter(value)
	return a, err == nil
}

// AddSubmitter returns p with the AUTH parameter of a MAIL command: a is the address of whoever submitted the message.
//
// A relay passes on the address that a trusted client gave. For any other client it gives the null address, which means
// unknown (RFC 4954 section 5). If the server does not advertise AUTH, sending the message fails with an
// [ext.UnsupportedError] before any of it is sent.
func AddSubmitter(p proto.Params, a proto.Address) proto.Params {
	text := "<>"
	if !a.IsNull() {
		text = a.String()
	}
	return p.Set("AUTH", string(proto.AppendXtext(nil, text)))
}

func checkSubmitter(value string) error {
	_, err := parseSubmitter(value)
	return err
}

func parseSubmitter(value string) (proto.Address, error) {
	text, err := proto.DecodeXtext(value)
	if err == nil && text == "<>" {
		return proto.Address{}, nil
	}
	var a proto.Address
	if err == nil {
		a, err = proto.ParseAddress(text)
	}
	if err != nil {
		return proto.Address{}, errors.New("AUTH has to be a mailbox in xtext, or <>")
	}
	return a, nil
}
