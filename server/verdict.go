package server

import "log/slog"

// A Verdict is what a check has found out about a client or a message: SPF, DKIM, a block list, or one of your own. The
// check calls [Conn.Record], and sessions and the [Trace] have it from there.
type Verdict struct {
	// Method names the check, in the words of RFC 8601 where it is one of those, such as "spf", "dkim", "dmarc" or
	// "iprev".
	Method string
	// Result is what came of it. For the methods of RFC 8601 that is one of its words, such as "pass", "fail", "none" or
	// "temperror".
	Result string
	// Reason says more, for people. It may contain what the client has sent.
	Reason string
	// Err is why there is no result, if a look-up failed. The server logs it at level Info.
	Err error
}

// maxVerdicts bounds the verdicts on a session, and those on a transaction. Further ones reach the Trace alone.
const maxVerdicts = 64

// Record records a verdict. One that is recorded in MAIL or later is about the transaction, and forgotten with it. One
// recorded before is about the client, and is forgotten when the session begins anew. At most 64 are kept of each; all
// are given to [Trace.Verdict].
func (c *Conn) Record(v Verdict) {
	kept := &c.greeting.verdicts
	if c.transaction.open || c.trace.verb == "MAIL" {
		kept = &c.transaction.verdicts
	}
	if len(*kept) < maxVerdicts {
		*kept = append(*kept, v)
	}
	if v.Err != nil {
		c.log(slog.LevelInfo, "smtp: a check failed", "method", v.Method, "result", v.Result, "err", v.Err)
	}
	c.trace.verdict(v)
}

// Verdicts returns what was recorded: first about the client, then about the open transaction.
func (c *Conn) Verdicts() []Verdict {
	return append(append([]Verdict(nil), c.greeting.verdicts...), c.transaction.verdicts...)
}
