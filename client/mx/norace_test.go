//go:build !race

package mx

// domainsAtOnce is how many domains of a message TestThousandDomains has in one bubble.
const domainsAtOnce = 1000
