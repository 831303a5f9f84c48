// Package migration holds the code of .github/MIGRATION.md to the libraries: what one wrote with net/smtp, go-smtp or
// go-mail, and what one writes with this one. It is a module of its own, so that nobody needs those libraries who does
// not run its test.
package migration
