// Package queue keeps mail until it is delivered. (The whole comment is written with the Queue.)
package queue
