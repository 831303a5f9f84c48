//go:build race

package mx

// domainsAtOnce is how many domains of a message TestThousandDomains has in one bubble. The race detector itself dies
// now and then if all are in one: there are too many goroutines.
const domainsAtOnce = 25
