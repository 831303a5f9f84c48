// Package queue keeps mail until it is delivered: it takes a message, has it on disk before it says so, tries to
// deliver it for days, and tells the sender what could not be delivered (RFC 5321 section 4.5.4).
//
//	store, err := queue.OpenDir("/var/spool/myapp", nil)
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	login := &client.Options{Credentials: auth.Password("alice", "secret")}
//	smarthost, err := pool.New("mail.example.org:587", login, nil)
//	if err != nil {
//		return err
//	}
//	q, err := queue.New(store, smarthost, &queue.Options{Hostname: "app.example.org"})
//	if err != nil {
//		return err
//	}
//	defer q.Close(ctx)
//	…
//	result, err := q.Send(ctx, m) // nil: it will be delivered, or m.From gets a report
//
// What delivers is any [client.Sender]: a pool or client.DialSender for a smarthost, package mx for the mail exchangers
// of each domain, package deliver for mailboxes, or a function. [Options.Route] sends some recipients another way than
// the others. The program examples/mta is a whole mail server made of a queue and a server.
//
// To the queue a smarthost is one server for each domain, unless it is a route. Then all mail for it waits in one line,
// and a message goes there once, whatever the domains of its recipients:
//
//	q, err := queue.New(store, smarthost, &queue.Options{
//		Hostname: "app.example.org",
//		Route:    func(*queue.Message, proto.Address) string { return "smarthost" },
//		Routes:   map[string]client.Sender{"smarthost": smarthost},
//	})
//
// # From a server
//
// A server takes a message for the queue, and its reply says that the message is safe:
//
//	backend := server.MessageFunc(func(ctx context.Context, m *server.Message) error {
//		received := server.Received(m.Conn)
//		e := &queue.Envelope{ID: queue.NewID(time.Now()), From: m.From, Params: m.Params, To: m.To}
//		received.ID = string(e.ID)
//		_, err := q.Add(ctx, e, tracefield.Prepend(tracefield.CheckLoop(m.Body, nil), received.String()))
//		if err == nil {
//			m.Conn.Accept("Queued as " + received.ID) // the text of the 250
//		}
//		return err
//	})
//
// A server.MessageFunc takes mail from everybody for everybody. Before it is on the internet it needs users, or a
// session that refuses other domains: see package server, and package policy. Options.Extensions of the server, such as
// ehlo.Relay or ehlo.Submission, say which parameters clients may give.
//
// # What is promised
//
// A message whose Add has returned nil is delivered to each recipient, or reported to its sender, or it is in the
// store. Neither a crash of the process nor a loss of power changes that. A recipient gets it twice only if the queue
// could not know that he has it: the connection or the process ended while the server was answering (RFC 1047), or the
// power failed within moments of an attempt.
//
// Add returns an error, which a server answers with 452 4.3.1, when the message is not in the store for certain.
//
// # Attempts
//
// A message is divided into jobs, one for each destination. A destination is a domain, or a route. [Policy] says when a
// job is attempted again, and when the queue gives up. An attempt takes a job's recipients off who have the message, or
// have been refused for good. Attempts fail for good only by a reply of 5yz, or by an error with a status of class 5.
// A Sender that panics, or does not tell the outcome of each recipient, has failed for now; the stack is in the log. A
// message that the store cannot read waits likewise. Its sender cannot be told, so it stays until an operator drops it.
//
// The parameters of the extensions DSN, MT-PRIORITY, DELIVERBY, REQUIRETLS, RRVS, MTRK and NO-SOLICITING are passed on.
// If a server does not offer an extension that a relay may do without, its parameters are left out. HOLDFOR and
// HOLDUNTIL (FUTURERELEASE) delay the first attempt; BY (DELIVERBY) says when the sender is told of the delay, in place
// of Policy, or when the message is returned, if that is earlier. Then there is an attempt a minute before that, or a
// tenth of the time if it is less. Content that needs 8BITMIME, BINARYMIME or SMTPUTF8 goes to servers that take it,
// and otherwise fails.
//
// # Whose turn it is
//
// Domains with the same servers are one site (see [Options.Site]). A site has a window, which is how many attempts are
// made at once. It grows while the site takes mail, and shrinks while it cannot be reached. If it cannot be reached at
// all it is suspended for a while, and mail for it costs nothing. Sites take turns by what their messages cost, so a
// site with a million messages does not delay those of another one.
//
// Within a site there are eight lanes, two for each class of priority (RFC 6710): 4 and more, 1 to 3, 0, and less than
// 0. One of the two is for messages at their first attempt. The other is for those that have been attempted, or have
// many recipients. While all lanes have jobs they get 16, 8, 8, 4, 4, 2, 2 and 1 of 45 attempts. So single messages
// pass a mailing, and no mail starves.
//
// Memory holds at most 20,000 jobs that are due, with 64 MiB of content. A site has half of what is left of that, and
// four fifths of the attempts, so that slow sites leave some for others. What else is queued is the Store's to
// remember: see there how much memory it takes. The queue does nothing when nothing is due.
//
// # Reports
//
// Reports are made by package report, as NOTIFY demands: of failure, of one delay (see [Policy]), and of delivery or
// relaying. They are messages in the same queue. There is no report on a report. One report tells of all recipients of
// a job that have had their outcome at the same time.
//
// # For operators
//
// [Queue.List], [Queue.Shape] and [Queue.Sites] show what is queued. [Queue.Hold], [Queue.Release], [Queue.Retry],
// [Queue.Reroute], [Queue.Expire], [Queue.Drop] and [Queue.Suspend] change it. Package queuehttp has all of this for a
// browser and for programs. [Options.Trace] tells what happens.
//
// When the store cannot be written the queue makes no attempts, takes no mail, and says so in the log, until it can:
// what cannot be written down would be delivered twice. Once in a minute it tries, with one attempt if there is no
// other way. A disk that is full stops new mail only.
package queue
