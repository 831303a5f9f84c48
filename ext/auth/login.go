package auth

import "github.com/emersion/go-sasl"

// A loginClient is the client's side of LOGIN, which has no standard. The first challenge asks for the name and the
// second for the password. Their text is ignored, since servers word them differently. No initial response is sent,
// since some servers accept none.
type loginClient struct {
	user, password string
	step           int
}

func (l *loginClient) Start() (string, []byte, error) { return sasl.Login, nil, nil }

func (l *loginClient) Next([]byte) ([]byte, error) {
	l.step++
	switch l.step {
	case 1:
		return []byte(l.user), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, sasl.ErrUnexpectedServerChallenge
}

func (l *loginClient) Identity() string { return l.user }

// A loginServer is the server's side of LOGIN. The server begins, but many clients send the name at once, so an initial
// response is accepted.
type loginServer struct {
	attempt *attempt
	user    string
	step    int
}

func newLoginServer(a *attempt) sasl.Server { return &loginServer{attempt: a} }

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response != nil {
		l.step = max(l.step, 1)
	}
	switch l.step {
	case 0:
		l.step = 1
		return []byte("Username:"), false, nil
	case 1:
		l.step = 2
		l.user = string(response)
		l.attempt.claimed.user = l.user
		return []byte("Password:"), false, nil
	case 2:
		l.step = 3
		return nil, true, l.attempt.password("", l.user, string(response))
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}
