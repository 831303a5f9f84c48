package servertest

// A rule is something that a session has to keep to.
type rule string

// The rules. Their names are those of subtests.
const (
	ruleTakes      rule = "takes"
	ruleWhole      rule = "whole"
	ruleFailed     rule = "failed"
	ruleReader     rule = "reader"
	ruleOutcomes   rule = "outcomes"
	ruleRefusals   rule = "refusals"
	ruleParams     rule = "params"
	ruleContext    rule = "context"
	rulePanics     rule = "panics"
	ruleSignatures rule = "signatures"
	ruleGoroutines rule = "goroutines"
	ruleNull       rule = "null"
	ruleRefused    rule = "refused"
	ruleAddresses  rule = "addresses"
	ruleAuth       rule = "auth"
	ruleRenewed    rule = "renewed"
	ruleKept       rule = "kept"
	ruleOnce       rule = "once"
	ruleOctets     rule = "octets"
	ruleAnew       rule = "anew"
	ruleApart      rule = "apart"
)

// A ruleText is a rule in words.
type ruleText struct {
	name   rule
	text   string
	remedy string             // what the author of a backend does to keep it
	needs  func(*exam) string // why it was not tested, or ""; nil: it always is
}

// A rule without what it needs was not tested.
var (
	needsKept = func(x *exam) string {
		if x.opt.Kept == nil {
			return "BackendOptions has no Kept"
		}
		return ""
	}
	needsUser = func(x *exam) string {
		if x.opt.User == "" {
			return "BackendOptions has no User"
		}
		return ""
	}
	needsNoUser = func(x *exam) string {
		if x.opt.User != "" {
			return "BackendOptions has a User, and nobody submits bounces"
		}
		return ""
	}
	needsUnknown = func(x *exam) string {
		if x.opt.Unknown == "" {
			return "BackendOptions has no Unknown"
		}
		return ""
	}
	needsEach = func(x *exam) string {
		if !x.each {
			return "no session has DataEach"
		}
		return ""
	}
	needsTLS = func(x *exam) string {
		if !x.renewed {
			return "the server offers no STARTTLS"
		}
		return ""
	}
)

// rules are the rules in words, in the order in which they are reported.
var rules = []ruleText{
	{ruleTakes, "the backend takes mail from BackendOptions.From to BackendOptions.To",
		"name addresses, a user and a password that the backend takes; no other rule was tested in full", nil},
	{ruleWhole, "Data accepts a message only when it has read it to io.EOF",
		"read with io.ReadAll or io.Copy before returning nil; io.Discard takes what is not needed", nil},
	{ruleFailed, "Data returns an error when the reader has returned one",
		"return the error of the reader as it is; the message did not arrive to its end", nil},
	{ruleReader, "the reader is not used after Data has returned",
		"read in Data, and give what was read to other goroutines; wait for those that read", nil},
	{ruleOutcomes, "DataEach tells the outcomes of the recipients there are, one each, before it returns, with a code " +
		"of 2yz or an error",
		"count recipients from 0 in the order in which Rcpt accepted them, and wait for goroutines that deliver", needsEach},
	{ruleRefusals, "a method that refuses returns a *proto.Error with a code of 4yz or 5yz, or another error; " +
		"NewSession returns a session or an error", "make refusals with proto.Refuse, and return nil for success", nil},
	{ruleParams, "parameters are not modified", "use slices.Clone on the parameters before changing them", nil},
	{ruleContext, "a method returns soon when its context has ended",
		"give the context to what the method waits for, or select on ctx.Done(); Reset and Close too have little time",
		nil},
	{rulePanics, "nothing panics", "the stack says where; the server answers 421, and goes on with others", nil},
	{ruleSignatures, "methods have the signatures of the interfaces that they are for",
		"declare the interface beside the session, as in: var _ server.Resetter = (*session)(nil)", nil},
	{ruleGoroutines, "a session leaves no goroutine behind",
		"end the goroutines of a session in Close, and those of a message before Data returns", nil},
	{ruleNull, "mail from the null reverse-path <> is accepted, unless clients authenticate (RFC 5321 section 6.1)",
		"accept an address for which IsNull is true: bounces have it, and nothing may bounce to it", needsNoUser},
	{ruleRefused, "a recipient whom Rcpt refuses gets nothing, and the others get the message",
		"return an error from Rcpt for BackendOptions.Unknown, and add nobody to the transaction then", needsUnknown},
	{ruleAddresses, "an address is accepted or refused by a *proto.Error, whatever it looks like",
		"use Local and Domain of the address as any octets; return proto.Refuse(550, …) for one that does not exist: " +
			"another error is 451, and the client tries again for days", nil},
	{ruleAuth, "a wrong user or password is refused with 535, and the right one is accepted after that",
		"return auth.ErrCredentials from Authenticate; another error means that the check itself has failed", needsUser},
	{ruleRenewed, "NewSession returns another session for the same connection behind STARTTLS",
		"let NewSession be called more than once for a *server.Conn; Close of the session before has been called by then",
		needsTLS},
	{ruleKept, "a message that has not arrived to its end is not kept",
		"write to a temporary place, and move the message only after the reader has returned io.EOF; remove it otherwise",
		needsKept},
	{ruleOnce, "a message is kept once if it was accepted, and not if it was refused",
		"keep the message before Data returns nil, and undo it before Data returns an error", needsKept},
	{ruleOctets, "the octets of a message are kept as they were sent",
		"copy the octets of the reader; it has removed the dots for transparency, and line endings are CRLF; what is " +
			"not lines of text has any: a backend that cannot keep them leaves BINARYMIME out of Server.Extensions", needsKept},
	{ruleAnew, "a transaction has nothing of the one before",
		"forget sender and recipients in Reset, or set both in Mail", needsKept},
	{ruleApart, "sessions of different connections have nothing in common",
		"make a new session in NewSession, and guard with a mutex what sessions share", needsKept},
}
