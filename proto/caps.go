package proto

// Caps is what a server offers in its reply to EHLO.
type Caps struct{}
