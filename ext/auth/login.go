package auth

import "github.com/emersion/go-sasl"

// loginClient is the mechanism LOGIN, which is not standardised. The first question is for the name and the second
// for the password; servers word them differently, so the words are not looked at. No initial response is used, since
// some servers take none.
type loginClient struct {
	user, password string
	asked          int
}

func (l *loginClient) Start() (string, []byte, error) { return sasl.Login, nil, nil }

func (l *loginClient) Next([]byte) ([]byte, error) {
	l.asked++
	switch l.asked {
	case 1:
		return []byte(l.user), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, sasl.ErrUnexpectedServerChallenge
}

func (l *loginClient) Identity() string { return l.user }

// loginServer is the mechanism LOGIN. The server begins, but clients that send the name at once are so common that an
// initial response is taken.
type loginServer struct {
	check func(authzid, user, password string) error
	user  string
	asked int
}

func newLoginServer(l *login) sasl.Server { return &loginServer{check: l.password} }

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response != nil {
		l.asked = max(l.asked, 1)
	}
	switch l.asked {
	case 0:
		l.asked = 1
		return []byte("Username:"), false, nil
	case 1:
		l.asked = 2
		l.user = string(response)
		return []byte("Password:"), false, nil
	case 2:
		l.asked = 3
		return nil, true, l.check("", l.user, string(response))
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}
