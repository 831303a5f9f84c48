package proto

// A Param is a parameter of MAIL or RCPT.
type Param struct {
	Key      string
	Value    string
	HasValue bool
}

// Params are parameters in their order.
type Params []Param
