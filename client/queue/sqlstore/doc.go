// Package sqlstore keeps a mail queue in a database. It stands on database/sql alone: the program chooses the driver.
//
// For SQLite, package smtpkit.example/smtp/client/queue/sqlstore/sqlite has a driver, and opens a file with the
// settings that suit:
//
//	store, err := sqlite.Open(ctx, "queue.db", nil)
//
// It is a module of its own, as it needs the driver. With another driver:
//
//	db, err := sql.Open("sqlite", "file:queue.db?_pragma=busy_timeout(5000)")
//	if err != nil {
//		return err
//	}
//	store, err := sqlstore.Open(ctx, db, sqlstore.SQLite, nil)
//
// # What is durable, and when
//
// Add, Edit and Suspend return when the transaction is synced. What waits is written in one transaction: so the more
// goroutines add messages, the less each costs. Nothing waits for others to come, and nothing runs while the queue is
// idle. If one message cannot be written the others of its transaction are.
//
// Update returns when the transaction is in the file. The next one that is synced makes it survive a loss of power, or
// the operating system does.
//
// # Errors
//
// A temporary error has a method Temporary that says so. It is one of a full disk, of full memory, of too many open
// files, or of a database that another process has locked for five seconds. After any other error of a commit it is not
// known what a crash would leave. The Store then writes nothing more: each call returns that error until it is opened
// again.
//
// # Damage
//
// A job that cannot be read is put aside and logged, and the others of its destination go on. It stays in the table
// queue_job with state = 3. List and Shape show it as held; Drop removes it. Once it has been repaired it is taken up
// when the queue is opened again.
//
// # Processes
//
// One process has the queue open, and another one gets [queue.ErrInUse]. Programs that read the database may do so at
// any time. Those that write to its tables have to wait until the queue is closed, as leases and sums are in memory.
//
// # Memory
//
// About 200 octets for a destination that has mail, and as many for a job that is handed out; nothing for jobs that
// wait. A message is held in memory, up to [Options].ChunkSize, while it is added and while it is open. Up to 8 MiB of
// messages are kept in memory that are about to be delivered: those that are handed out when they are added, and small
// ones that Take has read with their jobs.
package sqlstore
