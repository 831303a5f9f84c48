// Package hostile has tests of package server alone: of a server under load by clients that mean no good, of sessions
// that misbehave, and of connections that break off at any octet. They are in a package of their own because they
// measure the memory and the goroutines of the whole process.
package hostile
