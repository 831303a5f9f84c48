// Package prototest has the tools with which the engine is tested, for its own tests and for those of extensions:
// dialogue scripts ([Parse]), the same bytes cut in every way ([EveryCut]), and a client's engine joined to a server's
// ([Pair], [RandomDialogue]).
package prototest
