package proto

// (skeleton; see the brief)

// An Address is a mailbox, as in a reverse-path or forward-path.
type Address struct {
	Local  string // the local part, unquoted
	Domain Domain
}

// A Domain ...
type Domain struct{}
