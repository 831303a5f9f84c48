// Package grammar has what the packages of extensions share: the grammar of keywords and values, and small helpers.
package grammar
