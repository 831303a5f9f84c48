// Package bench measures the engine beside net/textproto and github.com/emersion/go-smtp in one run, so that their ratio
// holds whatever the machine. It is a module of its own because of its dependencies.
//
//	go test -bench . -count 6 | tee new.txt
//	benchstat -col /by new.txt
package bench
