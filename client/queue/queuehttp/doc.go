// Package queuehttp shows a queue to operators, and lets them change it: a page for a browser, and JSON for programs.
//
//	go http.ListenAndServe("127.0.0.1:8025", queuehttp.New(q, nil))
//
// The page is at http://127.0.0.1:8025/ and needs no scripts. The rest of this comment is about JSON.
//
// # Look
//
//	curl http://127.0.0.1:8025/api/usage
//	curl http://127.0.0.1:8025/api/shape
//	curl http://127.0.0.1:8025/api/sites
//	curl 'http://127.0.0.1:8025/api/jobs?limit=10'
//	curl 'http://127.0.0.1:8025/api/jobs?to=@example.com&state=queued&before=2027-01-31T12:00:00Z'
//	curl http://127.0.0.1:8025/api/messages/04g6f3qv9i0000000000
//	curl http://127.0.0.1:8025/api/messages/04g6f3qv9i0000000000/content
//
// A usage counts messages and their octets. A shape has a row for each destination: how many jobs wait there, and for
// how long. Sites says how the queue treats the servers that it has to do with now. A job is what is left to do of a
// message at one destination. At most limit jobs are listed, which is 100 by default and 1000 at most. If there are
// more, the answer has next, which is the cursor of the next request:
//
//	curl 'http://127.0.0.1:8025/api/jobs?limit=1&cursor=04g6f3qv9i0000000000.0'
//
// The jobs of a message are listed with limit and cursor too. Its content comes as plain text, to be saved.
//
// # Change
//
//	curl --json '{"filter": {"destination": "example.com"}, "why": "they asked"}' http://127.0.0.1:8025/api/hold
//	curl --json '{"filter": {"destination": "example.com"}}' http://127.0.0.1:8025/api/release
//	curl --json '{"filter": {"tag": "tenant7"}}' http://127.0.0.1:8025/api/retry
//	curl --json '{"filter": {"to": "@example.com"}, "domain": "example.net"}' http://127.0.0.1:8025/api/reroute
//	curl --json '{"filter": {"to": "@example.com"}, "route": "backup"}' http://127.0.0.1:8025/api/reroute
//	curl --json '{"filter": {"from": "@spam.example"}}' http://127.0.0.1:8025/api/drop
//	curl --json '{"filter": {"job": "04g6f3qv9i0000000000.0"}}' http://127.0.0.1:8025/api/expire
//	curl --json '{"all": true}' http://127.0.0.1:8025/api/retry
//
// A filter chooses jobs. The answer says how many: {"jobs": 3}. A filter without fields would choose all jobs, so that
// has to be said with "all": true instead. What a request does not know is an error, so no misspelt field widens a
// filter. Hold has nothing happen until release. Expire gives up and reports to the sender. Drop tells nobody.
//
// What is changed are whole jobs, with all recipients that are left: to drop what one of them should have got drops
// what the others of the job should have got.
//
//	curl --json '{"site": "example.com", "for": "2h", "why": "maintenance"}' http://127.0.0.1:8025/api/suspend
//	curl --json '{"site": "example.com", "until": "2099-01-31T12:00:00Z"}' http://127.0.0.1:8025/api/suspend
//	curl --json '{"site": "example.com"}' http://127.0.0.1:8025/api/resume
//
// The name of a site is in the answer to sites. With package mx it is made of its hosts, such as
// "mx1.example.com,mx2.example.com". That of a route is "=" and its name; else it is the domain in lower case. A name
// that no mail has now is taken too, as mail for it may come.
//
// # Filters
//
// The fields of a filter are the same in a filter of JSON and in a query:
//
//	ids          messages; a list in JSON, and may be repeated in a query
//	job          one job, such as 04g6f3qv9i0000000000.0
//	destination  a domain, an address literal, or "=" and the name of a route
//	from, to     an address, or all of a domain, such as @example.com; the null reverse-path is <>
//	tag          who has to share the queue
//	state        queued or held
//	before       arrived before this time, as in RFC 3339
//	after        arrived at this time or later
//
// # Errors
//
// An answer that is an error is {"error": "why"}. 400 is a mistake in the request, and 401 and 403 mean that it is not
// allowed. 404 means that there is no such message, 422 that the queue has no such route, and 503 that it may work
// later.
//
// # Who may do this
//
// Whoever may ask may read, delay and delete all mail. [New] says what is refused, and [Options] how to let others in
// than the users of this machine.
package queuehttp
