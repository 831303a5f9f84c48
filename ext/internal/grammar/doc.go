// Package grammar has the grammar of keywords and values, and the small helpers, that the packages of extensions share.
package grammar
