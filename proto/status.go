package proto

// A Status is an enhanced mail system status code (RFC 3463 section 2).
type Status struct {
	Class, Subject, Detail uint16
}
