// Bench compares smtpkit with other SMTP libraries for Go on this machine. It is a module of its own, so that smtpkit
// does not depend on those libraries.
//
// # The tables of libraries
//
// Run this command in this directory. It prints two tables in Markdown, one for servers and one for clients:
//
//	go run .
//
// The command ends by itself in less than two minutes, and listens only on the loopback interface. The flags are:
//
//	-rounds 5      how many rounds of each measurement
//	-time 150ms    time for each library in each round
//	-nochunking    the sink does not advertise CHUNKING
//	-limit 2m      give up with an error after this time
//
// A time is a multiple of smtpkit's time for the same messages: 2.0 means twice as long. The libraries take turns
// within each round. The command computes the ratio in each round, and prints the median of the rounds.
//
// Allocations are those of the whole process, divided by the number of messages. The program's own client and server
// allocate nothing.
//
// # The floor
//
// This command prints how far smtpkit is from the least that the work can cost, and beside it what others are. It runs
// on Linux:
//
//	go run . floor
//
// It takes about eight minutes. The flags are:
//
//	-rounds 3      how many rounds of each measurement
//	-time 300ms    time for each contestant in each round
//	-rows REGEXP   measure only rows whose title matches
//	-profile DIR   write a CPU profile of smtpkit's process for each row
//	-limit 15m     give up with an error after this time
//
// Each end of a connection is a process of its own. The one under test runs on one processor, and its peer on another.
// A figure is the processor time, user and system, of the process under test for a message. The contestants take turns.
// The table has the median of the ratios to raw in each round, then the least and the largest in parentheses, and the
// median of the times. Allocations and octets of memory are those of the process under test alone.
//
// The contestant raw is the floor. As a server it is a goroutine for each connection that reads 64 KiB at a time,
// counts octets, and writes prepared replies. As a client it writes prepared octets and counts the lines of the
// replies. It parses nothing. Postfix's smtp-sink and smtp-source, written in C, take part if they are installed;
// Debian has them in the package postfix.
//
// Servers receive from a load of prepared octets. In the rows with PIPELINING the group that begins the next message
// follows the content. Clients send to the sink. In the row with the long line, replies leave the sink 50 ms after what
// they answer has arrived, however much is on its way.
//
// Each measurement compares the number of messages and octets that arrived with what was sent. Only smtp-sink does not
// tell.
//
// The rows of growth are to be flat: the same work costs the same for each message, recipient or octet, whatever there
// is of it. They show the figure beside raw, and for octets the most memory that the process had.
//
// # Pools
//
// This command prints how many messages a second get over a line with a round trip of 50 ms by 4 connections:
//
//	go run . pool
//
// It takes about four minutes. The flags are:
//
//	-rounds 3            how many rounds of each measurement
//	-time 3s             time for each contestant in each round
//	-messages 20000      how many messages a contestant sends at most in a round
//	-conns 4             how many connections each contestant has
//	-goroutines 32       how many callers wait for the outcome of a message each
//	-delay 50ms          the round trip
//	-without nodemailer  leave out libraries, separated by commas
//	-limit 15m           give up with an error after this time
//
// The contestants are processes of their own, each with a sink of its own. They take turns within each round. A time is
// a multiple of that of Pool.Send in the same round: the median of the rounds, and the least and the largest in
// parentheses. One server offers PIPELINING and CHUNKING, the other PIPELINING alone.
//
// Replies leave the sink 50 ms after what they answer has arrived, however much is on its way. So the line has a round
// trip and no limit of throughput, and a TCP connection is made in no time. This favours those who make many.
//
// Each row sends over 4 connections. All but SendAll send for 32 callers, who wait for the outcome of one message
// before they have the next. They cannot send more than 32 messages in a round trip: 640 a second at 50 ms.
//
//   - smtpkit: pool.New with its defaults but for the number of connections. Pool.Send is for 32 callers, Pool.SendAll
//     for one who has all the messages. A connection ends after 1000 messages; the row MaxMessages has no such bound.
//   - nodemailer, for Node.js: a transport with pool: true. A connection ends after 100 messages by default, too. The
//     content is finished (raw). Node.js is looked for in /usr/bin and in PATH. Debian has the package node-nodemailer.
//     If one of them is missing, the row says so, and the command fails in the end.
//   - go-smtp: it has no pool. A caller takes one of 4 open clients, calls SendMail and gives it back.
//   - go-mail: it has no pool. It sends once by open clients that callers take in turns, without its NOOP before and
//     RSET after each message; and once by DialAndSend, which makes a connection for each message, by 4 callers at
//     once.
//
// The second table compares SendMail of package client/netsmtp with that of net/smtp. One caller sends one message
// after the other, each over a connection of its own, in plaintext and without credentials. The rows are the processor
// time of the sending process (on Linux) and the time, over the loopback interface and over the line. Rounds over the
// loopback interface are three times as many, and a third as long.
//
// # What is measured
//
// All connections go over TCP on the loopback interface, without TLS. They are made before the clock starts. Each
// message has one recipient.
//
// Servers receive from one client, the peer, which is the same for all. The peer writes prepared octets: MAIL, RCPT
// and DATA in one group, and then the content. It reads no more of a reply than the code. The servers' backends count
// the octets of the content and drop them.
//
// Clients send to one server, the sink, which is the same for all. The sink accepts everything. It advertises what
// Postfix advertises by default, except STARTTLS, VRFY and ETRN: PIPELINING, SIZE, ENHANCEDSTATUSCODES, 8BITMIME,
// DSN, SMTPUTF8 and CHUNKING.
//
// Of the clients only smtpkit's uses CHUNKING, which saves it the round trip of DATA. The flag -nochunking shows how
// much that is.
//
// A batch is a number of messages that one call sends. If a library has no such call, the batch is a loop.
//
// A round trip is one wait of the client for the server. Round trips are counted apart from the times. The loopback
// interface makes them nearly free; on a real network they are most of the time that a small message takes.
//
// Each measurement compares the number of messages and octets that arrived with what was sent.
//
// # How each library is used
//
// Each library is used as its documentation recommends, with its defaults.
//
//   - smtpkit: client.Client.Send, and SendAll for batches. The server has a Backend.
//   - go-smtp: Client.SendMail, in a loop for batches. The server has a Backend.
//   - net/smtp: Client.Mail, Rcpt, Data, Write and Close, in a loop for batches. Its SendMail makes a connection for
//     each message. It has no server.
//   - go-mail: Client.Send, for one message and for batches. It has no server. The client composes header and body
//     each time it sends a message, and cannot send a finished message, so its figures include composing. The body is
//     not encoded (NoEncoding), so that the content is about as long as that of the others. By default the client
//     sends NOOP before each call, and NOOP and RSET after each message.
//   - raven (github.com/synqronlabs/raven) and smtpd (github.com/mhale/smtpd) are left out: no version of them could be
//     downloaded from the module proxy when this was written.
//
// # The benchmarks
//
// The same measurements are benchmarks, for comparison with benchstat. There are more benchmarks, which compare the
// engine with net/textproto.
//
//	go test -run '^$' -bench . -count 6 | tee new.txt
//	benchstat -col /by new.txt
package main
