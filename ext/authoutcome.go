package ext

// An AuthOutcome says how a client's attempt to authenticate to a server ended. The server tells each outcome to its
// log and its Trace, and package auth to the session (auth.OutcomeSession).
//
// No field has a password, a token or any other secret. Mechanism, User and As come from the client, and are claims
// until Err is nil. They are bounded, and safe to print: each has 255 octets at most, and U+FFFD in place of what is
// not printable or not UTF-8.
type AuthOutcome struct {
	// Mechanism is the SASL mechanism, in upper case, also one that the server does not know. It is "" if the client has
	// sent something that cannot be the name of a mechanism.
	Mechanism string
	// User is who the client says it is, as far as the mechanism tells and the exchange went. It is "" if that is not
	// known, as before an exchange has begun.
	User string
	// As is the user for whom the client wants to act, if that is not User: the authorization identity.
	As string
	// Identity is the name that the client has from now on. It is "" after a failure.
	Identity string
	// Denied says that the client's credentials were not good. Such attempts count: a server closes a connection with too
	// many of them. Other failures do not count, such as a check that failed, or a client that cancelled.
	Denied bool
	// Err is why the attempt failed, or nil if the client has authenticated. It is the error that the session returned, or
	// wraps it, or it is a *proto.Error that the client was sent, or the error of the connection.
	Err error
}
